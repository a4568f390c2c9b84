"""Export a model: `swinlens export swin_micro_flowers --out flowers.onnx`."""

import argparse
from pathlib import Path

from swin_core.commands import shell
from swin_core.runs import runs_root
from swin_core.zoo.export import FORMATS, export, pixel_channels
from swin_core.zoo.load import load


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    result = argparse.ArgumentParser(
        prog=shell.program("export"),
        description="Write a model for another runtime. The file takes uint8 pixels, resized and cropped, and returns "
        "logits and probabilities; it holds the class names and the preprocessing. It is kept only if its logits equal "
        "those of the model.",
    )
    result.add_argument("model", help="a bundled name, a run, or any other name that swinlens explain takes")
    endings = ", ".join(f"{ending} for {name}" for ending, name in FORMATS.items())
    result.add_argument("--out", required=True, type=Path, help=f"file to write: {endings}")
    shell.add_runs_root(result)
    return result


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    options = parser().parse_args(arguments)
    return shell.run(shell.program("export"), lambda: _export(options))


def _export(options: argparse.Namespace) -> int:
    """Export, and print what the file takes and how well it agrees."""
    classifier = load(options.model, device="cpu", runs_root=runs_root(options.runs_root))
    result = export(classifier, options.out)
    side, channels = classifier.image_size, pixel_channels(classifier)
    print(result.path)
    print(f"input: pixels, (batch, {side}, {side}, {channels}) uint8")
    print(f"output: logits and probabilities, (batch, {classifier.num_classes})")
    difference = f"{result.difference:.1e} at most; the largest logit is {result.largest:.2g}"
    print(f"The logits differ from the model's own by {difference}.")
    return 0
