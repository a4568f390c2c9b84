"""List the models that are offered, or write a model card: `swinlens models`, `swinlens models add flowers.pth`."""

import argparse
from pathlib import Path

from swin_core import runs
from swin_core.commands import shell
from swin_core.errors import ConfigError, ModelError, SwinError
from swin_core.weights.files import split_entry
from swin_core.zoo.fact_table import fact_rows
from swin_core.zoo.kept_models import kept_models
from swin_core.zoo.labels import folder_labels, parse_labels, read_labels
from swin_core.zoo.load import available, describe, load, split_architecture
from swin_core.zoo.model_card import card_path, make_card, read_card, write_card
from swin_core.zoo.offered import offered_files
from swin_core.zoo.python_models import is_python
from swin_core.zoo.recognise import recognise


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    result = argparse.ArgumentParser(
        prog=shell.program("models"),
        description="List the models that are offered: bundled ones, those in the folder `models` "
        "and of SWINLENS_MODELS, and runs.",
    )
    shell.add_runs_root(result)
    actions = result.add_subparsers(dest="action", metavar="ACTION")
    add = actions.add_parser(
        "add",
        help="write the model card of a weights file",
        description="Show what a weights file or folder is, and write what it does not say into a model card beside "
        "it. All commands and pages then know its class names and preprocessing.",
    )
    add.add_argument("weights", metavar="WEIGHTS", help="weights file, folder of save_pretrained, or timm/<model>@FILE")
    labels = add.add_mutually_exclusive_group()
    labels.add_argument(
        "--labels", metavar="NAMES", help="class names in the order of the outputs: a text or JSON file, or a,b,c"
    )
    labels.add_argument(
        "--labels-from", metavar="FOLDER", type=Path, help="folder of class folders, whose sorted names are the classes"
    )
    add.add_argument("--mean", nargs="+", type=float, help="mean of each channel, for pixels in 0 to 1")
    add.add_argument("--std", nargs="+", type=float, help="standard deviation of each channel")
    add.add_argument("--channels", type=int, help="channels of the input: 1 for grey images, 3 for RGB")
    add.add_argument("--image-size", type=int, metavar="PIXELS", help="side of the input")
    add.add_argument("--crop", type=float, metavar="SHARE", help="share of the shorter side that the centre crop keeps")
    add.add_argument("--interpolation", choices=("nearest", "bilinear", "bicubic", "lanczos"))
    add.add_argument(
        "--squash", action="store_true", default=None, help="squeeze the whole image instead of cropping it"
    )
    add.add_argument("--architecture", metavar="NAME", help="such as timm/resnet18 or torchvision/swin_v2_t")
    add.add_argument(
        "--activation",
        choices=("softmax", "sigmoid", "none"),
        help="one class of all, each class on its own, or the outputs of a regression",
    )
    return result


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    options = parser().parse_args(arguments)
    return shell.run(shell.program("models"), lambda: _add(options) if options.action == "add" else _list(options))


def _list(options: argparse.Namespace) -> int:
    """Print the models that are offered, with one line about each."""
    names = [*available(), *kept_models(Path.cwd()), *offered_files()]
    names += [run.name for run in runs.list_runs(options.runs_root) if any(run.checkpoints())]
    lines = {}
    for name in names:
        try:
            lines[name] = describe(name, options.runs_root)
        except SwinError as error:
            lines[name] = str(error)
    width = max(map(len, lines), default=0)
    for name, line in lines.items():
        print(f"{name:<{width}}  {line}")
    return 0


def _add(options: argparse.Namespace) -> int:
    """Print what was recognised, and write the card if the model can be loaded with it."""
    architecture, file = split_architecture(options.weights)
    path = Path(file or options.weights)
    if not options.weights or not split_entry(path)[0].exists():
        raise ModelError(f"there is no file {str(path)[:80]!r}; name a weights file or a folder.")
    if is_python(str(path)):
        raise ModelError(f"{path.name} is a Python model, which needs no card; name it as it is.")
    stated = {
        "architecture": options.architecture or architecture or None,
        "labels": _labels(options),
        "mean": options.mean,
        "std": options.std,
        "channels": options.channels,
        "image_size": options.image_size,
        "crop_fraction": options.crop,
        "interpolation": options.interpolation,
        "squash": options.squash,
        "activation": options.activation,
    }
    before = read_card(path)
    facts = before.facts() if before else {}
    facts |= {name: value for name, value in stated.items() if value is not None}
    card = make_card(facts)
    recognition = recognise(path, card=card)
    rows = fact_rows(recognition)
    title_width, value_width = (max(len(row[column]) for row in rows) for column in (0, 1))
    for row in rows:
        print(f"{row.title:<{title_width}}  {row.value:<{value_width}}  {row.origin}".rstrip())
    for note in recognition.notes:
        print(f"note: {note}")
    load(path, device="cpu", card=card)
    if facts:
        print(write_card(path, card))
    else:
        print(f"{card_path(path).name} is not needed: the file says all that is known.")
    return 0


def _labels(options: argparse.Namespace) -> list[str] | None:
    """Return the class names that the options name, or None.

    Raises:
        ConfigError: there is no such file or folder, or it holds no names.
    """
    if options.labels_from is not None:
        return folder_labels(options.labels_from)
    if options.labels is None or "," in options.labels:
        return None if options.labels is None else parse_labels(options.labels)
    path = Path(options.labels)
    try:
        return read_labels(path.read_bytes(), path.name)
    except OSError as error:
        raise ConfigError(f"{str(path)[:200]!r} cannot be read; name a file of class names, or give a,b,c.") from error
