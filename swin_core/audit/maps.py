"""What an audit measures of each image of a split: its relevance map, its most relevant patch, and its statistics.

All is kept on disk in parts, so that an audit that was stopped resumes.
"""

import hashlib
import logging
import shutil
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from swin_core.attribution.defaults import default_method
from swin_core.attribution.dispatch import chosen_layers, chosen_method, run_method
from swin_core.attribution.gradcam import resize_maps
from swin_core.attribution.layers import find_layout, prefix_tokens, stage_layers, target_modules
from swin_core.attribution.targets import Target
from swin_core.data.dataset import DataSet, SkippedFile
from swin_core.errors import ConfigError, DataError, LayerError
from swin_core.evaluation.predictions import cache_file, cache_root, true_classes
from swin_core.evaluation.views import read_batches
from swin_core.images.preprocessing import to_float
from swin_core.images.statistics import STATISTICS
from swin_core.models.modes import evaluation_mode, watch_outputs
from swin_core.system.atomic import atomic_write
from swin_core.system.batches import images_at_once
from swin_core.zoo.classifier import Classifier

log = logging.getLogger(__name__)

GRID = 16
"""Cells of a side of the common grid."""
WINDOW = 4
"""Cells of a side of an image's most relevant patch."""
PATCH = 8
"""Side of the kept copy of a patch in pixels."""
CHUNK = 256
"""Images in one file of the cache."""
_AT_ONCE = 64
"""Most images whose maps are made in one pass."""
MAX_AUDITS = 32
"""Audits whose files are kept; the oldest are removed first."""

_FORMAT = 2


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
    patches: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.uint8))
    """The most relevant patch of each image, `(N, PATCH * PATCH * 3)` uint8; `(N, 0)` for arrays of other channels."""
    features: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float16))
    """Mean of the first stage's output in that patch, `(N, channels)` float16."""
    statistics: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    """Statistics of each image, `(N, sum of columns)` float32 in the order of `measured_columns`; `(N, 0)` as above."""

    def members(self, group: int) -> np.ndarray:
        """Return the indices of the images of a class."""
        return np.flatnonzero(self.groups == group)

    def values(self, statistic: str) -> np.ndarray:
        """Return a measured statistic of each image, `(N, d)` float64."""
        return self.statistics[:, measured_columns()[statistic]].astype(np.float64)


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
                    np.savez(stream, **vars(part))
            except OSError as error:
                log.warning("a part of the audit is not kept: %s cannot be written (%s)", file, error)
        else:
            tick(len(rows))
        parts.append(part)
        unreadable += rows[part.predicted < 0].tolist()
    joined = {each.name: _joined([getattr(part, each.name) for part in parts]) for each in fields(RelevanceMaps)}
    return RelevanceMaps(**joined), [_why(dataset, row) for row in unreadable]


def _joined(tables: list[np.ndarray]) -> np.ndarray:
    """Join tables; one without columns is of images that cannot be read, unless all are."""
    shape = max(table.shape[1:] for table in tables)
    return np.concatenate([table if table.shape[1:] == shape else np.zeros((len(table), *shape)) for table in tables])


def _compute(classifier: Classifier, dataset: DataSet, truth: np.ndarray, tick: Callable[[int], None]) -> RelevanceMaps:
    count = len(dataset)
    groups, predicted = np.full(count, -1, np.int64), np.full(count, -1, np.int64)
    maps = np.zeros((count, GRID, GRID), np.float16)
    patches, features, statistics = np.zeros((count, 0)), np.zeros((count, 0)), np.zeros((count, 0))
    method = chosen_method(default_method(classifier))
    layers = chosen_layers(classifier, method, None)
    early = _early_layer(classifier)
    before = 0
    size = images_at_once(classifier.device, classifier.image_size, most=_AT_ONCE, gradients=True)
    for done, rows, views, _ in read_batches(classifier, dataset, size=size):
        if len(rows):
            known = torch.from_numpy(truth[rows]).to(classifier.device)

            def select(logits: Tensor, known: Tensor = known) -> list[Target]:
                return [Target(torch.where(known < 0, logits.argmax(1), known))]

            batch = classifier.tensor(views)
            with classifier.lock:
                result = run_method(classifier.logits_model, batch, select, method, layers)
            predicted[rows] = result.logits.argmax(1).cpu().numpy()
            groups[rows] = result.targets[0].classes.cpu().numpy()
            maps[rows] = on_grid(resize_maps(result.maps[0])[:, 0].relu()).cpu().numpy()
            corners = top_windows(maps[rows])
            if early:
                features = _with_rows(features, rows, _early_features(classifier, early, batch, corners))
            if views.dtype == np.uint8:
                patches = _with_rows(patches, rows, _small_patches(views, corners))
                statistics = _with_rows(statistics, rows, measure_views(views))
        tick(done - before)
        before = done
    return RelevanceMaps(
        groups,
        predicted,
        maps,
        patches.astype(np.uint8),
        features.astype(np.float16),
        statistics.astype(np.float32),
    )


def _with_rows(table: np.ndarray, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return a table `(N, columns)` with some rows set; it gets its columns from the first of them."""
    if not table.shape[1]:
        table = np.zeros((len(table), values.shape[1]), values.dtype)
    table[rows] = values
    return table


def top_windows(maps: np.ndarray) -> np.ndarray:
    """Return the upper left cell of the window of `WINDOW` by `WINDOW` cells with the most relevance in each map.

    `(N, GRID, GRID)` to `(N, 2)` int64, row and column.
    """
    inside = sliding_window_view(maps.astype(np.float32), (WINDOW, WINDOW), (1, 2)).sum((3, 4))
    return np.stack(np.unravel_index(inside.reshape(len(maps), -1).argmax(1), inside.shape[1:]), 1)


def window_mask(corner: Sequence[int]) -> np.ndarray:
    """Return a window as a mask of the grid, `(GRID, GRID)` bool."""
    mask = np.zeros((GRID, GRID), bool)
    mask[corner[0] : corner[0] + WINDOW, corner[1] : corner[1] + WINDOW] = True
    return mask


def window_relevance(maps: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Return the mean of each map in its window, `(N,)` float64; the mean of a whole map is 1."""
    parts = zip(maps, corners, strict=True)
    windows = (one[row : row + WINDOW, column : column + WINDOW] for one, (row, column) in parts)
    return np.array([window.mean(dtype=np.float64) for window in windows])


def patch_slices(corner: Sequence[int] | np.ndarray, side: int) -> tuple[slice, slice]:
    """Return the pixels of a window in a view of `side` pixels; windows of one view are equally large."""
    length = max(1, round(WINDOW * side / GRID))
    top, left = (min(round(int(cell) * side / GRID), side - length) for cell in corner)
    return slice(top, top + length), slice(left, left + length)


def _small_patches(views: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Return the patches at `corners` of views as `PATCH` by `PATCH` pixels, `(B, PATCH * PATCH * channels)` uint8."""
    cut = np.stack([view[patch_slices(corner, len(view))] for view, corner in zip(views, corners, strict=True)])
    planes = to_float(torch.from_numpy(cut))
    small = F.interpolate(planes, (PATCH, PATCH), mode="bilinear", align_corners=False, antialias=True)
    return (255 * small).round().to(torch.uint8).flatten(1).numpy()


def _early_layer(classifier: Classifier) -> str:
    """Return the first stage's layer; an empty name for a model whose layers have no grid."""
    try:
        return stage_layers(classifier)[0]
    except LayerError:
        return ""


def _early_features(classifier: Classifier, name: str, batch: Tensor, corners: np.ndarray) -> np.ndarray:
    """Return the mean of a layer's output in the patch of each image, `(B, channels)`."""
    modules = target_modules(classifier.model, [name])
    found: list[Tensor] = []

    def read(_: str, output: Tensor) -> None:
        size = (batch.shape[2], batch.shape[3])
        layout = find_layout(name, modules[name], output, size, len(batch), prefix_tokens(classifier.model))
        found.append(layout.channels_first(output).float())

    with classifier.lock, evaluation_mode(classifier.model), torch.no_grad(), watch_outputs(modules, read):
        classifier.logits_model(batch)
    cells = _resized(found[0])
    parts = [
        plane[:, row : row + WINDOW, column : column + WINDOW].mean((1, 2))
        for plane, (row, column) in zip(cells, corners.tolist(), strict=True)
    ]
    return torch.stack(parts).cpu().numpy()


def measured_columns() -> dict[str, slice]:
    """Return the columns of each statistic that `measure_views` measures."""
    image = torch.zeros(1, 3, 2, 2)
    columns, start = {}, 0
    for name, statistic in STATISTICS.items():
        if statistic.measure is not None:
            stop = start + statistic.measure(image).shape[1]
            columns[name] = slice(start, stop)
            start = stop
    return columns


def measure_views(views: np.ndarray) -> np.ndarray:
    """Return all statistics of views, `(B, S, S, 3)` uint8 to `(B, columns)` float32."""
    images = to_float(torch.from_numpy(np.ascontiguousarray(views)))
    measured = [each.measure(images) for each in STATISTICS.values() if each.measure is not None]
    return torch.cat(measured, 1).numpy()


def on_grid(maps: Tensor) -> Tensor:
    """Return maps `(B, h, w)` on the common grid, each divided by its mean; an empty map stays zero.

    Returns:
        `(B, GRID, GRID)`, float32.
    """
    cells = _resized(maps.float()[:, None])[:, 0]
    mean = cells.mean((1, 2), keepdim=True)
    return torch.where(mean > 0, cells / mean, torch.zeros_like(cells))


def _resized(planes: Tensor) -> Tensor:
    """Return `(B, C, h, w)` on the common grid, `(B, C, GRID, GRID)`."""
    if min(planes.shape[2:]) < GRID:
        planes = F.interpolate(planes, (GRID, GRID), mode="bilinear", align_corners=False)
    return F.adaptive_avg_pool2d(planes, GRID)


def _read(file: Path, count: int) -> RelevanceMaps | None:
    """Read a part from the cache; None if it is missing or damaged."""
    try:
        with np.load(file, allow_pickle=False) as content:
            part = RelevanceMaps(**{each.name: content[each.name] for each in fields(RelevanceMaps)})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        log.warning("%s is damaged and is computed again (%s)", file, error)
        return None
    fits = part.predicted.shape == (count,) and part.maps.shape == (count, GRID, GRID)
    return part if fits and all(len(column) == count for column in vars(part).values()) else None


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
