"""Export a classifier to ONNX, OpenVINO or torch.export, with its class names and preprocessing inside."""

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from swin_core.errors import ConfigError, ModelError
from swin_core.images.preprocessing import grey_tensor, normalise, to_float
from swin_core.models.modes import evaluation_mode
from swin_core.system.atomic import check_writable
from swin_core.zoo.classifier import Classifier
from swin_core.zoo.contract import activate

FORMATS = {".onnx": "ONNX", ".xml": "OpenVINO", ".pt2": "torch.export"}
"""Formats by the ending of the file."""
TOLERANCE = 1e-3
"""A file is refused if a logit differs by more than this share of the largest logit."""
METADATA = "swinlens"
"""Key of the class names and the preprocessing in an exported file, as JSON."""
_PACKAGES = {".onnx": ("onnxruntime", "onnxscript"), ".xml": ("onnxscript", "openvino"), ".pt2": ()}
_TRIALS = 4
"""Images that the file and the model are compared on: one alone, then the others in one batch."""


@dataclass(frozen=True)
class Export:
    """An exported file, compared with its model on images of noise."""

    path: Path
    difference: float
    """Largest difference of a logit from the model's own."""
    largest: float
    """Largest logit of the model on the same images, in absolute value."""


class PixelModel(nn.Module):
    """A classifier's model from pixels `(B, S, S, channels)` uint8 to logits and probabilities, `(B, classes)` each.

    Pixels are resized and cropped, but not normalised. RGB becomes grey for a model of one channel.
    """

    def __init__(self, classifier: Classifier):
        super().__init__()
        self.logits_model = classifier.logits_model
        self.mean, self.std, self.white = classifier.mean, classifier.std, classifier.white
        self.activation = classifier.activation

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and probabilities, float32; the probabilities of a regression are its outputs."""
        seen = grey_tensor(pixels) if len(self.mean) == 1 else pixels
        logits = self.logits_model(normalise(to_float(seen) * self.white, self.mean, self.std))
        return logits, activate(logits, self.activation)


def export(classifier: Classifier, path: str | Path) -> Export:
    """Export a classifier, and compare the file with the model's own logits before it is put in its place.

    The file takes `pixels` as `Classifier.view` returns them, `(B, S, S, 3)` uint8, and returns `logits` and
    `probabilities`, `(B, classes)`. A model of more channels takes as many. The file holds `metadata(classifier)` as
    JSON under the key "swinlens".

    Args:
        classifier: a classifier in float32 on the CPU.
        path: file to write: .onnx; .xml, with a .bin beside it; or .pt2.

    Raises:
        ConfigError: the ending is unknown, a package is missing, the file cannot be written, or the .bin beside an
            .xml belongs to another file.
        ModelError: the model cannot be exported, or the file's logits differ from the model's.
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        raise ConfigError(f"{path.name!r} does not end in {', '.join(FORMATS)}; name such a file.")
    if missing := [package for package in _PACKAGES[path.suffix] if find_spec(package) is None]:
        raise ConfigError(
            f"the export to {FORMATS[path.suffix]} needs {', '.join(missing)}; pip install 'swinlens[export]'."
        )
    check_writable(path)
    beside = path.with_suffix(".bin")
    if path.suffix == ".xml" and beside.exists() and not path.exists():
        raise ConfigError(f"{beside.name!r} exists already and would be replaced; name another file.")
    if classifier.dtype != torch.float32 or classifier.device.type != "cpu":
        raise ConfigError(
            f"an export needs a model in float32 on the CPU, not {classifier.dtype} on {classifier.device}."
        )
    side, model = classifier.image_size, PixelModel(classifier)
    shape = (_TRIALS, side, side, pixel_channels(classifier))
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    with (
        classifier.lock,
        evaluation_mode(model),
        torch.no_grad(),
        tempfile.TemporaryDirectory(dir=path.parent) as draft,
    ):
        own = [output.numpy() for output in model(pixels)]
        made = Path(draft) / path.name
        batches = [pixels[:1].numpy(), pixels[1:].numpy()]
        try:
            program = torch.export.export(model, (pixels,), dynamic_shapes=({0: torch.export.Dim("batch")},))
            _WRITERS[path.suffix](program, made, json.dumps(metadata(classifier)))
            runs = [_RUNNERS[path.suffix](made, batch) for batch in batches]
        except Exception as error:  # exporters and runtimes raise many kinds
            reason = str(error).strip().partition("\n")[0][:200]
            raise ModelError(f"{classifier.name} cannot be exported to {FORMATS[path.suffix]}: {reason}") from error
        logits, probabilities = (np.concatenate(values) for values in zip(*runs, strict=True))
        difference, largest = float(np.abs(logits - own[0]).max()), float(np.abs(own[0]).max())
        if not difference <= TOLERANCE * largest or not np.allclose(probabilities, own[1], atol=TOLERANCE * largest):
            raise ModelError(
                f"the logits of the exported {classifier.name} differ by {difference:.2g} from the model's own, the "
                f"largest of which is {largest:.2g}; the file was not kept. Export it to another format."
            )
        for file in sorted(Path(draft).iterdir()):
            file.replace(path.parent / file.name)
    return Export(path, difference, largest)


def pixel_channels(classifier: Classifier) -> int:
    """Return the channels of the pixels that an exported file takes: 3 for grey models too, as `Classifier.view`."""
    return 3 if len(classifier.mean) == 1 else len(classifier.mean)


def metadata(classifier: Classifier) -> dict[str, Any]:
    """Return what an exported file says about its input and output: class names, and how an image becomes pixels."""
    return {
        "name": classifier.name,
        "labels": list(classifier.labels),
        "activation": classifier.activation,
        "image_size": classifier.image_size,
        "crop_fraction": classifier.crop_fraction,
        "interpolation": classifier.interpolation,
        "squash": classifier.squash,
        "mean": list(classifier.mean),
        "std": list(classifier.std),
        "weights_hash": classifier.weights_hash,
    }


def _write_onnx(program: torch.export.ExportedProgram, path: Path, text: str) -> None:
    outputs = ["logits", "probabilities"]
    onnx = torch.onnx.export(program, dynamo=True, verbose=False, input_names=["pixels"], output_names=outputs)
    assert onnx is not None
    onnx.model.metadata_props[METADATA] = text
    onnx.save(path)


def _write_openvino(program: torch.export.ExportedProgram, path: Path, text: str) -> None:
    import openvino

    # By way of ONNX, since OpenVINO's own converter reports its use to Intel.
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        onnx = Path(folder) / "model.onnx"
        _write_onnx(program, onnx, text)
        model = openvino.Core().read_model(onnx)
        model.set_rt_info(text, [METADATA])
        openvino.save_model(model, path, compress_to_fp16=False)


def _write_program(program: torch.export.ExportedProgram, path: Path, text: str) -> None:
    torch.export.save(program, path, extra_files={f"{METADATA}.json": text})


def _run_onnx(path: Path, pixels: np.ndarray) -> list[np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["logits", "probabilities"], {"pixels": pixels})


def _run_openvino(path: Path, pixels: np.ndarray) -> list[np.ndarray]:
    import openvino

    # Processors with bfloat16 use it by default.
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    result = compiled({"pixels": pixels})
    return [result["logits"], result["probabilities"]]


def _run_program(path: Path, pixels: np.ndarray) -> list[np.ndarray]:
    outputs = torch.export.load(path).module()(torch.from_numpy(pixels))
    return [output.numpy() for output in outputs]


_WRITERS: dict[str, Callable[[torch.export.ExportedProgram, Path, str], None]] = {
    ".onnx": _write_onnx,
    ".xml": _write_openvino,
    ".pt2": _write_program,
}
_RUNNERS: dict[str, Callable[[Path, np.ndarray], list[np.ndarray]]] = {
    ".onnx": _run_onnx,
    ".xml": _run_openvino,
    ".pt2": _run_program,
}
