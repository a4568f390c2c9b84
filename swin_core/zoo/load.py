"""Load a classifier by name: bundled models, runs, weights files, folders, and models of other libraries."""

import difflib
import hashlib
import os
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import nn

from swin_core.class_names import unique_labels
from swin_core.errors import ConfigError, ModelError, WeightsError
from swin_core.images.preprocessing import IMAGENET
from swin_core.models.swin import Swin
from swin_core.runs import files as run_files
from swin_core.system.cache import LRUCache
from swin_core.weights.files import load_weights, read_metadata, split_entry
from swin_core.zoo import architectures, huggingface, timm_models, torchvision_models
from swin_core.zoo.classifier import Classifier, chosen_precision, default_labels, no_head, timm_preprocessing
from swin_core.zoo.model_card import ModelCard, card_path, read_card
from swin_core.zoo.offered import offered_files
from swin_core.zoo.python_models import describe_python, is_python, load_python
from swin_core.zoo.recognise import Recognition, recognise

ASSETS = Path(str(files("swin_core") / "assets")).resolve()

LIBRARIES = (timm_models.PREFIX, torchvision_models.PREFIX, huggingface.PREFIX)
"""Starts of the names of other libraries' models."""

_metadata: LRUCache[dict[str, Any]] = LRUCache(256)


def load(
    name: str | os.PathLike[str],
    labels: Sequence[str] | None = None,
    device: str | torch.device | None = None,
    *,
    card: ModelCard | None = None,
    runs_root: str | Path | None = None,
    precision: str = "",
) -> Classifier:
    """Return a classifier with its weights, in evaluation mode.

    Args:
        name: a bundled model; a run; a weights file, `FILE#ENTRY` for one of several state dicts in it; a folder that
            `save_pretrained` wrote; `timm/<model>`, `torchvision/<model>` or `hf/<repo>` for pretrained weights; or
            `timm/<model>@FILE` and `torchvision/<model>@FILE` for a weights file of that architecture; a Python
            file with a function `load() -> Classifier`, which is run; or a name of `offered_files`.
        labels: class names that replace those of the file.
        device: where to put the model; by default a GPU if there is one.
        card: facts in place of those of the model card beside the weights.
        runs_root: folder of the runs; by default `SWIN_RUNS_ROOT`, else `runs`.
        precision: as for `Classifier`.

    Raises:
        ModelError: an unknown name, weights that cannot be downloaded, or an architecture that has to be named.
        WeightsError: a file that is damaged or is not a weights file.
        ConfigError: the number of `labels` is not the number of classes, or there is no such precision.
    """
    name = str(name)
    if not _exists(Path(name)):  # a file here comes before one that is offered under the same name
        name = str(offered_files().get(name, name))
    architecture, file = split_architecture(name)
    if _names_code(name):
        classifier = load_python(Path(name))
    elif file:
        classifier = _recognised(recognise(_located(file, runs_root), architecture, card), name)
    elif name.startswith(timm_models.PREFIX):
        classifier = Classifier.from_timm(timm_models.create(name.removeprefix(timm_models.PREFIX)), name)
    elif name.startswith(torchvision_models.PREFIX):
        classifier = torchvision_models.pretrained(name.removeprefix(torchvision_models.PREFIX))
    else:
        classifier = _recognised(recognise(_located(name, runs_root), card=card), name)
    if labels is not None:
        if isinstance(labels, str | bytes):
            raise ConfigError("labels must be a list of class names, not one text.")
        if len(labels) != classifier.num_classes:
            raise ConfigError(f"{name} has {classifier.num_classes} classes; {len(labels)} labels were given.")
        classifier.labels = unique_labels(labels)
    if precision:
        classifier.precision = chosen_precision(precision)
    classifier.model.eval()
    return classifier.to(("cuda" if torch.cuda.is_available() else "cpu") if device is None else device)


def split_architecture(name: str) -> tuple[str, str]:
    """Return the architecture and the file of "timm/resnet18@weights.pth"; both are empty for other names."""
    architecture, sign, file = name.partition("@")
    if sign and architecture.startswith((timm_models.PREFIX, torchvision_models.PREFIX)):
        return architecture, file
    return "", ""


def available() -> dict[str, str]:
    """Return the bundled models, largest first, with one line about each."""
    if not ASSETS.is_dir():
        return {}
    return dict(_listed(ASSETS, ASSETS.stat().st_mtime_ns))  # pages ask a hundred times in one run


def describe(name: str | os.PathLike[str], runs_root: str | Path | None = None) -> str:
    """Return one line about a model, for names as in `load`; loads no weights and uses no network.

    Raises:
        ModelError: an unknown name, a run that has saved no weights yet, or a wrong model card.
        WeightsError: a damaged file.
    """
    name = str(offered_files().get(str(name), name))
    if _names_code(name):
        return describe_python(Path(name))
    architecture, file = split_architecture(name)
    if file:
        return f"{architecture}, weights file {split_entry(_located(file, runs_root))[0].name}"
    if name.startswith(timm_models.PREFIX):
        return timm_models.describe(name.removeprefix(timm_models.PREFIX))
    if name.startswith(torchvision_models.PREFIX):
        return torchvision_models.describe(name.removeprefix(torchvision_models.PREFIX))
    if name.startswith(huggingface.PREFIX):
        return f"{name.removeprefix(huggingface.PREFIX)} from the Hugging Face hub"
    path, _ = split_entry(_located(name, runs_root))
    if not path.is_dir() and (text := " ".join(_description(path).split())):
        return text
    text = f"{'folder' if path.is_dir() else 'weights file'} {path.name}"
    if (card := read_card(path)) is not None:
        facts = card.architecture, card.labels and f"{len(card.labels)} classes"
        text = ", ".join([text, *(fact for fact in facts if fact)])
    return text


def weights_file(name: str, runs_root: str | Path | None = None) -> Path:
    """Return the weights file of a model.

    Args:
        name: as in `load`. Weights of other libraries' models are downloaded if no cache has them.
        runs_root: folder of the runs; by default `SWIN_RUNS_ROOT`, else `runs`.

    Raises:
        ModelError: an unknown name, or a run that has saved no weights yet.
        WeightsError: a folder without weights.
    """
    path = _located(name, runs_root)
    return huggingface.folder_weights(path) if path.is_dir() else path


def recorded_training(name: str, runs_root: str | Path | None = None) -> dict[str, Any]:
    """Return the training settings in the weights of a run; empty for other models. Errors as in `weights_file`."""
    name = str(offered_files().get(name, name))
    if name.startswith(LIBRARIES) or _names_code(name):
        return {}
    recorded = _cached_metadata(weights_file(name, runs_root)).get("training")
    return recorded if isinstance(recorded, dict) else {}


def _located(name: str, runs_root: str | Path | None = None) -> Path:
    """Return the weights file of a model, or the folder that has its config.json; errors as in `weights_file`."""
    name = str(offered_files().get(name, name))
    _, file = split_architecture(name)
    if file:
        return _located(file, runs_root)
    if _names_code(name):
        raise ModelError(f"{Path(name).name[:80]!r} is a Python file, whose weights are in no file of their own.")
    if name.startswith(timm_models.PREFIX):
        return timm_models.cached_file(name.removeprefix(timm_models.PREFIX))
    if name.startswith(torchvision_models.PREFIX):
        return torchvision_models.cached_file(name.removeprefix(torchvision_models.PREFIX))
    if name.startswith(huggingface.PREFIX):
        return huggingface.snapshot(name.removeprefix(huggingface.PREFIX))
    bundled = {file.stem: file for file in _bundled()}
    if name in bundled:
        return bundled[name]
    for path in (Path(name), run_files.runs_root(runs_root) / name) if name else ():
        if _is_file(path / "config.json") and huggingface.saved_config(path):
            return path
        if _is_file(path / "model.safetensors"):
            return path / "model.safetensors"
        if _is_file(split_entry(path)[0]):
            return path
        if _is_file(path / "config.json"):
            raise ModelError(f"the run {name[:80]!r} has saved no weights yet; wait for its first epoch to end.")
    close = difflib.get_close_matches(name, bundled, 1)
    hint = f"did you mean {close[0]}?" if close else f"bundled are {', '.join(bundled) or 'none'}."
    raise ModelError(
        f"there is no model {name[:80]!r}: it is no bundled model, run, weights file or folder, and does not start "
        f"with {', '.join(map(repr, LIBRARIES))}; {hint}"
    )


def _names_code(name: str) -> bool:
    """Return whether a name is that of a Python file, which loading runs, and not of another library's model."""
    return is_python(name) and not name.startswith(LIBRARIES)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # as in `_is_file`
        return False


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long for the file system, or contains NUL
        return False


def _bundled() -> list[Path]:
    """Return the bundled weights files, largest first (in 0.1 MB), then by name. Pages open with the first two."""
    return sorted(ASSETS.glob("*.safetensors"), key=lambda file: (-round(file.stat().st_size / 1e5), file.name))


def bundled_metadata(name: str) -> dict[str, Any]:
    """Return the metadata of a bundled model, such as its `labels`; loads no weights."""
    return _cached_metadata(ASSETS / f"{name}.safetensors")


@lru_cache(maxsize=4)
def _listed(folder: Path, _changed: int) -> tuple[tuple[str, str], ...]:
    return tuple((file.stem, _description(file)) for file in _bundled())


def _description(file: Path) -> str:
    return str(_cached_metadata(file).get("description", ""))


def _cached_metadata(file: Path) -> dict[str, Any]:
    """Return the metadata in a weights file's header, cached until the file changes."""
    status = file.stat()
    key = str(file), status.st_mtime_ns, status.st_size
    return _metadata.get(key, lambda: read_metadata(file))


def _recognised(recognition: Recognition, name: str) -> Classifier:
    """Return the classifier of a weights file or folder that was recognised; what it does not state is a default."""
    path = recognition.path
    if recognition.candidates:
        raise ModelError(
            f"{path.name!r}: {architectures.several(recognition.candidates)}; name one of them, as in "
            f"{recognition.candidates[0]}@FILE."
        )
    if recognition.classes == 0:
        raise no_head(name)
    model, default, description, sha256 = _build(recognition)
    facts = recognition.facts.facts()
    facts.pop("architecture", None)
    channels = facts.pop("channels", None)
    values: dict[str, Any] = {**default, **facts}
    classes = recognition.classes
    if "labels" not in facts:
        values["labels"] = default_labels(classes) if classes is not None and classes > 1 else None
    if channels == 1 and "mean" not in facts:  # the default is that of RGB, and a grey pixel has the three values alike
        values |= {name: (sum(values[name]) / len(values[name]),) for name in ("mean", "std")}
    if channels not in (None, len(values["mean"])):
        taken = f"{channels} channel{'' if channels == 1 else 's'}"
        raise WeightsError(f"{path.name!r} takes {taken}; state the mean and std of each in {card_path(path).name}.")
    labels = values["labels"]
    # A single logit may be that of the second of two classes.
    if classes is not None and labels is not None and len(labels) not in ((1, 2) if classes == 1 else (classes,)):
        count = len(labels)
        raise WeightsError(
            f"{path.name!r} has {classes} classes, and {recognition.origins.get('labels', 'the file')} names {count}; "
            "give one name for each class."
        )
    try:
        return Classifier(
            model, **values, name=_short_name(recognition, name), description=description, weights_hash=sha256
        )
    except (TypeError, OverflowError) as error:
        raise WeightsError(f"{path.name!r} describes its preprocessing wrongly: {error}") from error


def _build(recognition: Recognition) -> tuple[nn.Module, dict[str, Any], str, str]:
    """Return the model with its weights, its default preprocessing, one line about it, and the weights' hash."""
    path, facts = recognition.path, recognition.facts
    if recognition.config is not None:
        model = Swin(recognition.config)
        entry = f"#{recognition.entry}" if recognition.entry else ""
        report = load_weights(model, f"{recognition.weights}{entry}")
        metadata = read_metadata(recognition.weights)
        default: dict[str, Any] = {"mean": IMAGENET[0], "std": IMAGENET[1]}
        default |= {"image_size": recognition.config.image_size, "crop_fraction": 1.0 if metadata else 0.9}
        return model, default, str(metadata.get("description", report.summary())), report.sha256
    with recognition.weights.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if recognition.fit is None:
        other = huggingface.create(path)
        default = {"mean": IMAGENET[0], "std": IMAGENET[1], "image_size": 224, "interpolation": "bilinear"}
        return other, default, f"{facts.architecture} from {path.name}", sha256
    architecture = str(facts.architecture)
    other = architectures.build_architecture(architecture, **recognition.fit.settings)
    other.load_state_dict(recognition.fit.tensors, strict=False)  # `fit` has compared the keys
    library, _, name = architecture.partition("/")
    default = timm_preprocessing(other, name) if library == "timm" else torchvision_models.preprocessing(name)
    notes = "; ".join(recognition.notes)
    return (
        other,
        default,
        f"{architecture}, weights of {recognition.weights.name}" + (f"; {notes}" if notes else ""),
        sha256,
    )


def _short_name(recognition: Recognition, name: str) -> str:
    """Return the name under which a model is shown: of a run its folder, of a file its name without the suffix."""
    path = recognition.path
    if name.startswith(huggingface.PREFIX):
        return name
    if path.is_dir():
        return path.absolute().name
    if path.name == "model.safetensors":
        return path.absolute().parent.name
    if path.name == "last.pt" and path.absolute().parent.name == "checkpoints":
        return path.absolute().parent.parent.name
    return f"{path.stem}#{recognition.entry}" if recognition.entry else path.stem
