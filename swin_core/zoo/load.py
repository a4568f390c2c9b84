"""Load a classifier by name: bundled models, runs, weights files and timm's models."""

import difflib
import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import torch

from swin_core.class_names import unique_labels
from swin_core.errors import ConfigError, ModelError, WeightsError
from swin_core.images.preprocessing import IMAGENET
from swin_core.models.swin import Swin
from swin_core.runs import files as run_files
from swin_core.system.cache import LRUCache
from swin_core.weights.files import load_weights, read_config, read_metadata
from swin_core.zoo import timm_models
from swin_core.zoo.classifier import Classifier, default_labels, no_head

ASSETS = Path(str(files("swin_core") / "assets")).resolve()

_descriptions: LRUCache[str] = LRUCache(256)


def load(
    name: str | os.PathLike[str],
    labels: Sequence[str] | None = None,
    device: str | torch.device | None = None,
    *,
    runs_root: str | Path | None = None,
) -> Classifier:
    """Return a classifier with its weights, in evaluation mode.

    Args:
        name: a bundled model, a run, a weights file, or `timm/<model>` for any classifier of timm.
        labels: class names that replace those of the file.
        device: where to put the model; by default a GPU if there is one.
        runs_root: folder of the runs; by default `SWIN_RUNS_ROOT`, else `runs`.

    Raises:
        ModelError: an unknown name, or weights that cannot be downloaded.
        WeightsError: a file that is damaged or is not a weights file.
        ConfigError: the number of `labels` is not the number of classes.
    """
    name = str(name)
    if name.startswith(timm_models.PREFIX):
        classifier = Classifier.from_timm(timm_models.create(name.removeprefix(timm_models.PREFIX)), name)
    else:
        classifier = _from_file(weights_file(name, runs_root), name)
    if labels is not None:
        if isinstance(labels, str | bytes):
            raise ConfigError("labels must be a list of class names, not one text.")
        if len(labels) != classifier.num_classes:
            raise ConfigError(f"{name} has {classifier.num_classes} classes; {len(labels)} labels were given.")
        classifier.labels = unique_labels(labels)
    classifier.model.eval()
    return classifier.to(("cuda" if torch.cuda.is_available() else "cpu") if device is None else device)


def available() -> dict[str, str]:
    """Return the bundled models, largest first, with one line about each."""
    return {file.stem: _description(file) for file in _bundled()}


def describe(name: str | os.PathLike[str], runs_root: str | Path | None = None) -> str:
    """Return one line about a model, for names as in `load`; loads no weights and uses no network.

    Raises:
        ModelError: an unknown name, or a run that has saved no weights yet.
        WeightsError: a damaged file.
    """
    name = str(name)
    if name.startswith(timm_models.PREFIX):
        return timm_models.describe(name.removeprefix(timm_models.PREFIX))
    file = weights_file(name, runs_root)
    return " ".join(_description(file).split()) or f"weights file {file.name}"


def weights_file(name: str, runs_root: str | Path | None = None) -> Path:
    """Return the weights file of a model.

    Args:
        name: a bundled model; a run's folder, or its name under `runs_root`; a weights file; or `timm/<model>`, whose
            weights are downloaded if no cache has them.
        runs_root: folder of the runs; by default `SWIN_RUNS_ROOT`, else `runs`.

    Raises:
        ModelError: an unknown name, or a run that has saved no weights yet.
    """
    if name.startswith(timm_models.PREFIX):
        return timm_models.cached_file(name.removeprefix(timm_models.PREFIX))
    bundled = {file.stem: file for file in _bundled()}
    if name in bundled:
        return bundled[name]
    for path in (Path(name), run_files.runs_root(runs_root) / name) if name else ():
        if _is_file(path / "model.safetensors"):
            return path / "model.safetensors"
        if _is_file(path):
            return path
        if _is_file(path / "config.json"):
            raise ModelError(f"the run {name[:80]!r} has saved no weights yet; wait for its first epoch to end.")
    close = difflib.get_close_matches(name, bundled, 1)
    hint = f"did you mean {close[0]}?" if close else f"bundled are {', '.join(bundled) or 'none'}."
    raise ModelError(
        f"there is no model {name[:80]!r}: it is no bundled model, run or weights file, and does not start with "
        f"{timm_models.PREFIX!r}; {hint}"
    )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long for the file system, or contains NUL
        return False


def _bundled() -> list[Path]:
    """Return the bundled weights files, largest first (in 0.1 MB), then by name. Pages open with the first two."""
    return sorted(ASSETS.glob("*.safetensors"), key=lambda file: (-round(file.stat().st_size / 1e5), file.name))


def _description(file: Path) -> str:
    """Return the description in a weights file's header, cached until the file changes."""
    status = file.stat()
    key = str(file), status.st_mtime_ns, status.st_size
    return _descriptions.get(key, lambda: str(read_metadata(file).get("description", "")))


def _from_file(file: Path, name: str) -> Classifier:
    """Return the classifier that a weights file holds; its metadata may be any JSON."""
    metadata = read_metadata(file)
    config = read_config(file)
    model = Swin(config)
    report = load_weights(model, file)
    if not config.num_classes:
        raise no_head(name)
    if config.in_chans != 3 and "mean" not in metadata:
        raise WeightsError(f"{file.name!r} takes {config.in_chans} channels; images here have 3.")
    labels = metadata.get("labels") or default_labels(config.num_classes)
    if not (isinstance(labels, list) and len(labels) == config.num_classes):
        count = len(labels) if isinstance(labels, list) else "no list of"
        raise WeightsError(f"{file.name!r} has {count} labels for {config.num_classes} classes.")
    try:
        return Classifier(
            model,
            labels,
            [float(value) for value in metadata.get("mean", IMAGENET[0])],
            [float(value) for value in metadata.get("std", IMAGENET[1])],
            int(metadata.get("image_size", config.image_size)),
            name=file.parent.name if file.name == "model.safetensors" else Path(name).stem,
            crop_fraction=1.0 if metadata else 0.9,
            description=str(metadata.get("description", report.summary())),
            weights_hash=report.sha256,
        )
    except (ValueError, TypeError, OverflowError) as error:
        raise WeightsError(f"{file.name!r} describes its preprocessing wrongly: {error}") from error
