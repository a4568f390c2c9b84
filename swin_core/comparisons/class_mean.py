"""The mean of a model's maps over the images of a class, and how much the maps differ.

One map says little about a habit. The mean over many shows it: if a model reads the background, a border or a
watermark, the mean map is high there, whatever the images show in the middle.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from swin_core.attribution.defaults import default_method
from swin_core.attribution.dispatch import attribute
from swin_core.class_names import find_class
from swin_core.data.dataset import DataSet
from swin_core.errors import ConfigError, DataError, LayerError, TargetError, first_names
from swin_core.system.progress import Progress
from swin_core.zoo.classifier import Classifier

BORDER = 1 / 8
"""Width of the border on each side, as a fraction of the image's side."""
BORDER_AREA = 1 - (1 - 2 * BORDER) ** 2
"""Fraction of the image's area that is border: the border share of a constant map."""

_BATCH = 16
_PARTS = 8
"""Parts of a side among which the hot spot is sought: one pixel of a fine map is no place."""


@dataclass(frozen=True)
class HotSpot:
    """The part of a map with the greatest share of its total."""

    times: float
    """Its share, as a multiple of the share of an equally large part of a constant map."""
    place: str
    """Where it is: "lower right corner", "upper edge", "middle"."""

    def __str__(self) -> str:
        return f"{self.times:.{1 if self.times < 9.95 else 0}f} times an even share, {self.place}"


@dataclass(frozen=True, eq=False)
class ClassMean:
    """Mean map of one model for the images of one class, at one target layer."""

    model: str
    """The classifier's name."""
    label: str
    """The class, as the model names it."""
    count: int
    """Number of images that were read and explained."""
    empty: int
    """How many of them had an empty map; these are left out."""
    image: np.ndarray
    """Mean of the images, as the model saw them, `(H, W, 3)` uint8."""
    mean: np.ndarray
    """`(h, w)`, float32: mean of the maps, each divided by its own mean first; 1 everywhere for constant maps."""
    spread: np.ndarray
    """`(h, w)`, float32: standard deviation of the same maps."""
    border: float
    """Border share of the mean map, see `border_share`; a constant map has `BORDER_AREA`."""
    unreadable: int = 0
    """Number of images that could not be read; these are left out too."""

    @property
    def hot_spot(self) -> HotSpot:
        """Where the mean map is highest."""
        return hot_spot(self.mean)


def class_mean(
    classifier: Classifier,
    dataset: DataSet,
    class_name: str,
    count: int = 64,
    *,
    method: str | None = None,
    layer: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> ClassMean:
    """Average a model's maps over up to `count` images of a class, each explained for that class.

    Each map is divided by its own mean first, so that all images have the same weight.

    Args:
        classifier: the model.
        dataset: the images, preferably of a split that the model was not trained on.
        class_name: a class of both the data set and the model.
        count: maximum number of images.
        method, layer: as for `explain`.
        seed: seed of the random choice, if the class has more images.
        progress: called with the number of images done and of all.

    Raises:
        ConfigError: `count` is less than 1.
        DataError: the data set does not have the class or has no image of it, or an image cannot be read.
        TargetError: the model does not have the class, or several of its classes fit the name.
        LayerError: there is no such layer, or all maps are empty.
    """
    if count < 1:
        raise ConfigError(f"a mean needs at least 1 image, not {count}.")
    chosen = _sample(dataset, class_name, count, seed)
    target = find_class(classifier.labels, class_name)
    if target is None:
        known = first_names(classifier.labels)
        raise TargetError(f"{classifier.name} has no class {class_name[:80]!r}; it knows {known}.")
    return mean_map(classifier, dataset.image, chosen, target, method=method, layer=layer, progress=progress)


def mean_map(
    classifier: Classifier,
    read: Callable[[int], Image.Image],
    rows: np.ndarray,
    target: int,
    *,
    method: str | None = None,
    layer: str | None = None,
    progress: Progress | None = None,
) -> ClassMean:
    """Average a model's maps of one class over some images.

    Each map is divided by its own mean first, so that all images have the same weight. Images that cannot be read are
    left out.

    Args:
        classifier: the model.
        read: returns an image by its number.
        rows: the numbers of the images, `(n,)` int64.
        target: the class to explain, by its index.
        method, layer: as for `explain`.
        progress: called with the number of images done and of all.

    Raises:
        DataError: no image can be read.
        LayerError: there is no such layer, or all maps are empty.
    """
    method = method or default_method(classifier, at_layer=layer is not None)
    total = np.zeros((classifier.image_size, classifier.image_size, 3))
    maps: list[np.ndarray] = []
    count = 0
    for start in range(0, len(rows), _BATCH):
        batch = rows[start : start + _BATCH]
        views = []
        for row in batch:
            with suppress(DataError):
                views.append(classifier.view(read(int(row))))
        if views:
            count += len(views)
            total += np.sum(views, 0, dtype=np.float64)
            targets = torch.full((len(views),), target)
            values = attribute(classifier, classifier.tensor(np.stack(views)), targets, method, layer)[
                :, 0
            ]  # (B, h, w)
            means = values.double().mean((1, 2), keepdim=True)
            maps.extend((values / means)[means[:, 0, 0] > 0].float().cpu().numpy())
        if progress is not None:
            progress(start + len(batch), len(rows))
    label = classifier.labels[target]
    if not count:
        raise DataError(f"none of the {len(rows)} images can be read; choose others.")
    if not maps:
        raise LayerError(f"all {count} maps of {label[:80]!r} are empty; choose another layer or method.")
    mean = np.mean(maps, 0)
    return ClassMean(
        model=classifier.name,
        label=label,
        count=count,
        empty=count - len(maps),
        image=np.rint(total / count).astype(np.uint8),
        mean=mean,
        spread=np.std(maps, 0),
        border=border_share(mean),
        unreadable=len(rows) - count,
    )


def _sample(dataset: DataSet, class_name: str, count: int, seed: int) -> np.ndarray:
    """Return the indices of up to `count` images of a class, in the order of the data set."""
    label = find_class(dataset.classes, class_name)
    if label is None:
        raise DataError(f"{dataset.name} has no class {class_name[:80]!r}; it has {first_names(dataset.classes)}.")
    members = np.flatnonzero(dataset.labels == label)
    if not len(members):
        raise DataError(f"{dataset.name} ({dataset.split}) has no image of {class_name[:80]!r}; choose another class.")
    return np.sort(np.random.default_rng(seed).permutation(members)[:count])


def hot_spot(attribution: np.ndarray) -> HotSpot:
    """Return the part of a map with the greatest share of its total, among at most 8 x 8 equal parts.

    Args:
        attribution: `(h, w)`, non-negative and not empty.
    """
    rows, columns = (_shares(side, min(side, _PARTS)) for side in attribution.shape)
    parts = rows @ attribution.astype(np.float64) @ columns.T
    row, column = np.unravel_index(parts.argmax(), parts.shape)
    vertical = _third((row + 0.5) / parts.shape[0], "upper", "lower")
    horizontal = _third((column + 0.5) / parts.shape[1], "left", "right")
    words = " ".join(word for word in (vertical, horizontal) if word)
    place = f"{words} corner" if vertical and horizontal else f"{words} edge" if words else "middle"
    return HotSpot(float(parts.max() / parts.mean()), place)


def _third(position: float, low: str, high: str) -> str:
    return low if position < 1 / 3 else high if position > 2 / 3 else ""


def _shares(cells: int, parts: int) -> np.ndarray:
    """Return which fraction of each cell along one side lies in each of some equal parts, `(parts, cells)`."""
    edges = np.linspace(0, cells, parts + 1)
    left = np.maximum(edges[:-1, None], np.arange(cells))
    right = np.minimum(edges[1:, None], np.arange(1, cells + 1))
    return np.clip(right - left, 0, None)


def border_share(attribution: np.ndarray) -> float:
    """Return the fraction of a map's sum that lies in the outer eighth on each side of the image.

    Cells that the edge of the border cuts count in proportion.

    Args:
        attribution: `(h, w)`, non-negative and not empty.
    """
    inner = _inner_share(attribution.shape[0]) @ attribution.astype(np.float64) @ _inner_share(attribution.shape[1])
    return float(1 - inner / attribution.sum(dtype=np.float64))


def _inner_share(cells: int) -> np.ndarray:
    """Return which fraction of each cell along one side lies inside the border, `(cells,)`."""
    edges = np.clip(np.linspace(0, 1, cells + 1), BORDER, 1 - BORDER)
    return np.diff(edges) * cells
