"""Focus on mosaics (Arias-Duart et al. 2022): the share of a map on its class, without masks of objects."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from swin_core.data.dataset import DataSet
from swin_core.errors import DataError
from swin_core.zoo.classifier import Classifier


@dataclass(frozen=True, eq=False)
class Mosaic:
    """Two images of a target class and two of another class, in a square of 2 x 2 tiles."""

    view: np.ndarray
    """`(S, S, 3)` uint8, at the model's image size."""
    target: int
    """Index of the target class."""
    cells: np.ndarray
    """`(2, 2)` bool: tiles that show the target class."""


def mosaics(classifier: Classifier, data: DataSet, count: int, seed: int = 0) -> Iterator[Mosaic]:
    """Yield random mosaics of a data set's images, each preprocessed as for the model and scaled to half the size.

    Raises:
        DataError: model and data set have other classes or another order, or a class has fewer than two images.
    """
    if tuple(data.classes) != classifier.labels:
        raise DataError(f"{data.name} has other classes than {classifier.name}, or another order of them.")
    by_class = [np.flatnonzero(data.labels == label) for label in range(len(data.classes))]
    if min(map(len, by_class)) < 2:
        raise DataError(f"{data.name} ({data.split}) has a class with fewer than two images.")
    draw = np.random.default_rng(seed)
    half = classifier.image_size // 2
    for _ in range(count):
        target, other = draw.choice(len(by_class), 2, replace=False)
        images = [*draw.choice(by_class[target], 2, replace=False), *draw.choice(by_class[other], 2, replace=False)]
        view = np.zeros((classifier.image_size, classifier.image_size, 3), np.uint8)
        cells = np.zeros((2, 2), bool)
        for number, cell in enumerate(draw.permutation(4)):
            row, column = divmod(int(cell), 2)
            tile = Image.fromarray(classifier.view(data.image(int(images[number])))).resize((half, half))
            view[row * half : (row + 1) * half, column * half : (column + 1) * half] = np.asarray(tile)
            cells[row, column] = number < 2
        yield Mosaic(view, int(target), cells)


def focus(attribution: np.ndarray, cells: np.ndarray) -> float | None:
    """Share of a map that lies on the target's tiles of a mosaic (Arias-Duart et al. 2022).

    Args:
        attribution: `(h, w)`, non-negative.
        cells: `(2, 2)` bool.

    Returns:
        0 to 1, higher is better; chance is the share of the target's tiles. None for an empty map.
    """
    height, width = attribution.shape
    total = float(attribution.sum())
    if total <= 0:
        return None
    rows = np.arange(2 * height) // height  # each row counts twice, so that a middle row counts for both tiles
    columns = np.arange(2 * width) // width
    fine = attribution.repeat(2, 0).repeat(2, 1) / 4
    return float(fine[cells[rows[:, None], columns[None, :]]].sum()) / total
