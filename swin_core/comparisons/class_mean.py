"""What a model looks at in the images of a class: the mean of their maps, and how much the maps differ.

One image's map says little about a habit. The mean over many shows it: a model that reads the background, a border or
a watermark has its mean map there, whatever the images show in the middle.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from swin_core.attribution.defaults import default_method
from swin_core.attribution.dispatch import attribute
from swin_core.attribution.overlay import Look, overlay
from swin_core.class_names import find_class
from swin_core.data.dataset import DataSet
from swin_core.errors import ConfigError, DataError, LayerError, TargetError, first_names
from swin_core.zoo.classifier import Classifier

__all__ = ["BORDER", "BORDER_AREA", "ClassMean", "border_share", "class_mean"]

BORDER = 1 / 8
"""Width of the border, as a share of the image's side."""
BORDER_AREA = 1 - (1 - 2 * BORDER) ** 2
"""Share of the image that is border: what an even map has there."""

_BATCH = 16


@dataclass(frozen=True, eq=False)
class ClassMean:
    """The maps of several images of one class, put together; one model, one target layer."""

    model: str
    """The classifier's name."""
    label: str
    """The class, as the model calls it."""
    count: int
    """Images that were explained."""
    empty: int
    """How many of them had an empty map; these are left out."""
    picture: np.ndarray
    """The mean of what the model saw, `(H, W, 3)` uint8."""
    mean: np.ndarray
    """`(h, w)`, float32: the mean of the maps, each divided by its own mean first. 1 is an even share."""
    spread: np.ndarray
    """`(h, w)`, float32: the standard deviation of the same maps."""
    border: float
    """Share of the mean map's mass in the outer eighth on each side, 0 to 1; an even map has `BORDER_AREA`."""

    def drawn(self, look: Look, side: int) -> tuple[np.ndarray, np.ndarray]:
        """The mean image with the mean map, and with the spread, each to its own maximum, `(side, side, 3)` uint8."""
        picture = np.asarray(Image.fromarray(self.picture).resize((side, side)))
        mean, spread = (overlay(picture, values, float(values.max()), look) for values in (self.mean, self.spread))
        return mean, spread


def class_mean(
    classifier: Classifier,
    dataset: DataSet,
    name: str,
    count: int = 64,
    *,
    method: str | None = None,
    layer: str | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> ClassMean:
    """Mean and spread of a model's maps over up to `count` images of a class, each explained for that class.

    Each map is divided by its own mean, so that every image counts alike, however strong its map is.

    Args:
        classifier: the model.
        dataset: the images, best of a split that the model was not trained on.
        name: the class, by a name that data set and model know.
        count: images at most; of a class that has more, they are drawn by `seed`.
        method, layer: as for `explain`.
        seed: which images are drawn.
        progress: called with the images done and their number.

    Raises:
        ConfigError: no images are asked for.
        DataError: the data set has no such class or no image of it, or an image cannot be read.
        TargetError: the model has no such class, or several classes fit the name.
        LayerError: no such layer, or every map is empty.
    """
    if count < 1:
        raise ConfigError(f"a mean needs at least 1 image, not {count}.")
    method = method or default_method(classifier, at_layer=layer is not None)
    chosen = _draw(dataset, name, count, seed)
    target = find_class(classifier.labels, name)
    if target is None:
        raise TargetError(f"{classifier.name} has no class {name[:80]!r}; it knows {first_names(classifier.labels)}.")
    views = np.zeros((classifier.image_size, classifier.image_size, 3))
    maps: list[np.ndarray] = []
    for start in range(0, len(chosen), _BATCH):
        part = chosen[start : start + _BATCH]
        seen = np.stack([classifier.view(dataset.image(int(index))) for index in part])
        views += seen.sum(0, dtype=np.float64)
        found = attribute(classifier, classifier.tensor(seen), torch.full((len(part),), target), method, layer)
        maps.extend(_scaled(found[:, 0]))
        if progress is not None:
            progress(start + len(part), len(chosen))
    if not maps:
        raise LayerError(f"all {len(chosen)} maps of {name[:80]!r} are empty; choose another layer or method.")
    mean = np.mean(maps, 0)
    return ClassMean(
        model=classifier.name,
        label=classifier.labels[target],
        count=len(chosen),
        empty=len(chosen) - len(maps),
        picture=np.rint(views / len(chosen)).astype(np.uint8),
        mean=mean,
        spread=np.std(maps, 0),
        border=border_share(mean),
    )


def _scaled(maps: Tensor) -> np.ndarray:
    """Maps, `(B, h, w)`, each divided by its own mean; without the empty ones."""
    means = maps.double().mean((1, 2), keepdim=True)
    return (maps / means)[means[:, 0, 0] > 0].float().cpu().numpy()


def _draw(dataset: DataSet, name: str, count: int, seed: int) -> np.ndarray:
    """Indices of up to `count` images of a class, in the order of the data set."""
    label = find_class(dataset.classes, name)
    if label is None:
        raise DataError(f"{dataset.name} has no class {name[:80]!r}; it has {first_names(dataset.classes)}.")
    members = np.flatnonzero(dataset.labels == label)
    if not len(members):
        raise DataError(f"{dataset.name} ({dataset.split}) has no image of {name[:80]!r}; choose another class.")
    return np.sort(np.random.default_rng(seed).permutation(members)[:count])


def border_share(attribution: np.ndarray) -> float:
    """Share of a map's mass in the outer eighth on each side of the image, 0 to 1.

    A cell that the border's edge cuts counts in part.

    Args:
        attribution: `(h, w)`, non-negative and not empty.
    """
    inner = _inner_share(attribution.shape[0]) @ attribution.astype(np.float64) @ _inner_share(attribution.shape[1])
    return float(1 - inner / attribution.sum(dtype=np.float64))


def _inner_share(cells: int) -> np.ndarray:
    """How much of each of some cells in a row lies inside the border, `(cells,)`, 0 to 1."""
    edges = np.clip(np.linspace(0, 1, cells + 1), BORDER, 1 - BORDER)
    return np.diff(edges) * cells
