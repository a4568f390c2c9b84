"""Relevance maps of all images of a split on a common grid, kept on disk in parts: a stopped audit resumes."""

import hashlib
import logging
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from swin_core.attribution.defaults import default_method
from swin_core.attribution.dispatch import chosen_layers, chosen_method, run_method
from swin_core.attribution.gradcam import resize_maps
from swin_core.attribution.targets import Target
from swin_core.data.dataset import DataSet, SkippedFile
from swin_core.errors import ConfigError, DataError
from swin_core.evaluation.predictions import cache_file, cache_root, true_classes
from swin_core.evaluation.views import read_batches
from swin_core.system.atomic import atomic_write
from swin_core.zoo.classifier import Classifier

log = logging.getLogger(__name__)

GRID = 16
"""Cells of a side of the common grid."""
CHUNK = 256
"""Images in one file of the cache."""
MAX_AUDITS = 32
"""Audits whose files are kept; the oldest are removed first."""

_FORMAT = 1


@dataclass(frozen=True, eq=False)
class RelevanceMaps:
    """Maps and predictions of the N images of a split. Classes are the model's, by index."""

    groups: np.ndarray
    """The class that each map explains, `(N,)` int64: the true class, or the predicted one where the model does not
    know the true class; -1 for an image that cannot be read."""
    predicted: np.ndarray
    """Likeliest class, `(N,)` int64; -1 for an image that cannot be read."""
    maps: np.ndarray
    """`(N, GRID, GRID)` float16: each map divided by its mean; zeros where the map is empty."""

    def members(self, group: int) -> np.ndarray:
        """Return the indices of the images of a class."""
        return np.flatnonzero(self.groups == group)


def audit_folder(classifier: Classifier, dataset: DataSet, root: Path | None = None) -> Path:
    """Return the folder of an audit's files; its name is a digest of all that the maps depend on."""
    state = f"{_FORMAT} {cache_file(classifier, dataset).stem} {default_method(classifier)}"
    return (root or cache_root()) / "audits" / hashlib.sha256(state.encode()).hexdigest()[:40]


def relevance_maps(
    classifier: Classifier, dataset: DataSet, folder: Path, tick: Callable[[int], None]
) -> tuple[RelevanceMaps, list[SkippedFile]]:
    """Return the maps of all images, of each for its own class, by the method measured best for the model.

    The model's lock is held for one batch at a time.

    Args:
        classifier: the model.
        dataset: the images.
        folder: where parts are kept that are finished; parts that are there are not computed again.
        tick: called with a number of finished images; an error that it raises ends the computation.

    Returns:
        The maps, and the images that cannot be read.

    Raises:
        ConfigError: the model is a regression.
        LayerError: the model has no layer with a map of the image.
    """
    if classifier.activation == "none":
        raise ConfigError(f"{classifier.name} is a regression and has no classes to audit; choose a classifier.")
    truth = true_classes(classifier, dataset)
    _make_room(folder)
    parts, unreadable = [], []
    for start in range(0, len(dataset), CHUNK):
        rows = np.arange(start, min(start + CHUNK, len(dataset)))
        file = folder / f"maps-{start:08d}.npz"
        part = _read(file, len(rows))
        if part is None:
            part = _compute(classifier, dataset.subset(rows, dataset.split), truth[rows], tick)
            try:
                with atomic_write(file) as stream:
                    np.savez(stream, groups=part.groups, predicted=part.predicted, maps=part.maps)
            except OSError as error:
                log.warning("a part of the audit is not kept: %s cannot be written (%s)", file, error)
        else:
            tick(len(rows))
        parts.append(part)
        unreadable += rows[part.predicted < 0].tolist()
    joined = (np.concatenate([getattr(part, name) for part in parts]) for name in ("groups", "predicted", "maps"))
    return RelevanceMaps(*joined), [_why(dataset, row) for row in unreadable]


def _compute(classifier: Classifier, dataset: DataSet, truth: np.ndarray, tick: Callable[[int], None]) -> RelevanceMaps:
    count = len(dataset)
    groups, predicted = np.full(count, -1, np.int64), np.full(count, -1, np.int64)
    maps = np.zeros((count, GRID, GRID), np.float16)
    method = chosen_method(default_method(classifier))
    layers = chosen_layers(classifier, method, None)
    before = 0
    for done, rows, views, _ in read_batches(classifier, dataset):
        if len(rows):
            known = torch.from_numpy(truth[rows]).to(classifier.device)

            def select(logits: Tensor, known: Tensor = known) -> list[Target]:
                return [Target(torch.where(known < 0, logits.argmax(1), known))]

            with classifier.lock:
                result = run_method(classifier.logits_model, classifier.tensor(views), select, method, layers)
            predicted[rows] = result.logits.argmax(1).cpu().numpy()
            groups[rows] = result.targets[0].classes.cpu().numpy()
            maps[rows] = on_grid(resize_maps(result.maps[0])[:, 0].relu()).cpu().numpy()
        tick(done - before)
        before = done
    return RelevanceMaps(groups, predicted, maps)


def on_grid(maps: Tensor) -> Tensor:
    """Return maps `(B, h, w)` on the common grid, each divided by its mean; an empty map stays zero.

    Returns:
        `(B, GRID, GRID)`, float32.
    """
    planes = maps.float()[:, None]
    if min(planes.shape[2:]) < GRID:
        planes = F.interpolate(planes, (GRID, GRID), mode="bilinear", align_corners=False)
    cells = F.adaptive_avg_pool2d(planes, GRID)[:, 0]
    mean = cells.mean((1, 2), keepdim=True)
    return torch.where(mean > 0, cells / mean, torch.zeros_like(cells))


def _read(file: Path, count: int) -> RelevanceMaps | None:
    """Read a part from the cache; None if it is missing or damaged."""
    try:
        with np.load(file, allow_pickle=False) as content:
            part = RelevanceMaps(content["groups"], content["predicted"], content["maps"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        log.warning("%s is damaged and is computed again (%s)", file, error)
        return None
    fits = part.groups.shape == part.predicted.shape == (count,) and part.maps.shape == (count, GRID, GRID)
    return part if fits else None


def _make_room(folder: Path) -> None:
    """Make the folder of an audit, and remove the oldest of the others if there are too many."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        others = [path for path in folder.parent.iterdir() if path != folder]
        others.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for path in others[MAX_AUDITS - 1 :]:
            shutil.rmtree(path, ignore_errors=True)
    except OSError as error:
        log.warning("the audit is not kept: %s cannot be written (%s)", folder, error)


def _why(dataset: DataSet, row: int) -> SkippedFile:
    """Read an image again for the reason why it could not be read; parts of the cache do not keep it."""
    try:
        dataset.image(row)
    except DataError as error:
        return dataset.why_unreadable(row, error)
    return SkippedFile(dataset.names[row], "", "could not be read")
