"""Build the grid: explain every image by every model."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from swin_core.attribution.explain import explain
from swin_core.attribution.layers import stage_layers
from swin_core.attribution.overlay import Look
from swin_core.class_names import find_class
from swin_core.errors import ConfigError, SwinError
from swin_core.figures.grid import Cell, Grid, Row
from swin_core.system.progress import Progress, counter
from swin_core.trust.assess import assess
from swin_core.zoo.classifier import Classifier

__all__ = ["MODELS_AT_MOST", "STAGES", "Missing", "Wish", "blank", "class_grid", "compare", "measured", "middle"]

MODELS_AT_MOST = 4
"""Columns of one grid: more do not fit a screen or a page."""

STAGES = "stages"
"""In place of target layers: one layer for each stage of a model."""

BLANK = 237
"""Grey level in place of an image that is missing."""

SHOWN_PIXELS = 512
"""Side of a row's own image."""


@dataclass(frozen=True)
class Missing:
    """An image that could not be read, or a model that could not be loaded; its cells say why."""

    name: str
    reason: str


Pictures = Sequence[tuple[str, Image.Image] | Missing]


def middle(image: Image.Image) -> np.ndarray:
    """The square in the middle of an image, `(s, s, 3)` uint8, s at most 512 pixels: a row's own image."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    square.thumbnail((SHOWN_PIXELS, SHOWN_PIXELS))
    return np.asarray(square)


@dataclass(frozen=True)
class Wish:
    """How every cell of a grid is explained; see `explain`."""

    method: str | None = None
    """A key of `METHODS`; None for the best one measured for each model."""
    layers: tuple[str, ...] = ()
    """Target layers of all models, one row each unless they are fused; `(STAGES,)` for each model's own stages, and
    none for each model's default."""
    against: str | None = None
    """The class rather than which the targets are explained."""
    fuse: str | None = None
    """How maps of several layers become one."""


def compare(
    pictures: Pictures,
    classifiers: Sequence[Classifier | Missing],
    targets: Sequence[str] = (),
    *,
    wish: Wish | None = None,
    look: Look | None = None,
) -> Grid:
    """Explain every image by every model.

    Args:
        images: titles and images, or what is missing in their place.
        classifiers: the models, one a column, or what is missing in their place.
        targets: class names: none, for each model's own first choice; one, for all images; one an image; or
            several for a single image, which is then repeated with one class a row.
        wish: method, layers, and what the targets are compared with.
        look: colours, opacity, threshold and scale.

    Returns:
        The grid; a cell that could not be explained says why in its place.

    Raises:
        ConfigError: neither one target, nor one an image, nor a single image.
    """
    wish = wish or Wish()
    rows = []
    for title, image, name in _rows(pictures, targets):
        columns = [_cells(one, image, name, wish) for one in classifiers]
        shown = _shown(image)
        deep = max(map(len, columns))
        for place in range(deep):
            below = f"{title}: {_layer_title(wish, place)}" if deep > 1 else title
            whole = None if isinstance(image, Missing) else image
            rows.append(Row(below, shown, [_at(column, place) for column in columns], image=whole))
    return Grid(tuple(rows), tuple(classifier.name for classifier in classifiers), look or Look())


def _rows(pictures: Pictures, targets: Sequence[str]) -> list[tuple[str, Image.Image | Missing, str | None]]:
    titled = [(one.name, one) if isinstance(one, Missing) else one for one in pictures]
    if not targets:
        return [(title, image, None) for title, image in titled]
    if len(titled) == 1:
        title, image = titled[0]
        return [(f"{title}: {name}" if len(targets) > 1 else title, image, name) for name in targets]
    names = list(targets) * len(pictures) if len(targets) == 1 else list(targets)
    if len(names) != len(pictures):
        raise ConfigError(f"{len(names)} targets for {len(pictures)} images: name one, or one for each image.")
    return [(title, image, name) for (title, image), name in zip(titled, names, strict=True)]


def blank() -> np.ndarray:
    """What stands in place of a row's own image where there is none."""
    return np.full((SHOWN_PIXELS, SHOWN_PIXELS, 3), BLANK, np.uint8)


def _shown(image: Image.Image | Missing) -> np.ndarray:
    return blank() if isinstance(image, Missing) else middle(image)


def _layer_title(wish: Wish, place: int) -> str:
    return f"stage {place + 1}" if wish.layers == (STAGES,) else wish.layers[place]


def _at(column: list[Cell], place: int) -> Cell:
    """A column's cell of one layer; what went wrong stands at all of them."""
    if place < len(column):
        return column[place]
    return column[0] if column[0].error else Cell(None, error=f"This model has {len(column)} stages.")


def _cells(classifier: Classifier | Missing, image: Image.Image | Missing, name: str | None, wish: Wish) -> list[Cell]:
    """One model's cells of one image: one for each layer that is not fused."""
    if isinstance(image, Missing):
        return [Cell(None, error=image.reason)]
    if isinstance(classifier, Missing):
        return [Cell(None, error=classifier.reason)]
    try:
        index = None if name is None else find_class(classifier.labels, name)
        if name is not None and index is None:
            return [Cell(None, error=f"This model has no class {name}.")]
        layers = stage_layers(classifier) if wish.layers == (STAGES,) else wish.layers or None
        found = explain(classifier, image, index, wish.method, layers, against=wish.against, fuse=wish.fuse)
    except SwinError as error:
        return [Cell(None, error=str(error))]
    return [Cell(found, layer=place) for place in range(len(found.layers))]


def class_grid(
    rows: Sequence[tuple[str, Image.Image, str]],
    classifiers: Sequence[Classifier | Missing],
    *,
    wish: Wish | None = None,
    look: Look | None = None,
    progress: Progress | None = None,
) -> Grid:
    """Explain each image for its class by every model, and measure the trust in each map.

    Args:
        rows: title, image, and its true class, which is explained; an empty class explains each model's top-1 class.
        classifiers: the models, one for each column, or what is missing in their place.
        wish: method and at most one layer.
        look: colours, opacity, threshold and scale.
        progress: called with the number of cells done and of all cells.

    Returns:
        The grid. A cell has no trust if its map is empty or its model does not know the class.

    Raises:
        ConfigError: several layers, since a cell shows one map.
    """
    wish = wish or Wish()
    if STAGES in wish.layers or len(wish.layers) > 1:
        raise ConfigError(f"a cell shows one map: name one layer, not {' and '.join(wish.layers)}.")
    tick = counter(progress, len(rows) * len(classifiers))
    drawn = []
    for title, image, name in rows:
        (row,) = compare([(title, image)], classifiers, [name] if name else (), wish=wish).rows
        cells = []
        for classifier, cell in zip(classifiers, row.cells, strict=True):
            cells.append(cell if isinstance(classifier, Missing) else measured(classifier, cell))
            tick(1)
        drawn.append(replace(row, cells=cells, truth=name))
    return Grid(tuple(drawn), tuple(classifier.name for classifier in classifiers), look or Look())


def measured(classifier: Classifier, cell: Cell) -> Cell:
    """Return the cell with the trust in its map, or with a note that says why it cannot be measured.

    A cell without a map, or with an empty one, is returned as it is.
    """
    found = cell.explanation
    if found is None or cell.map is None or not cell.magnitude:
        return cell
    try:
        return replace(cell, trust=assess(classifier, found.view, cell.map, found.targets[cell.target])[0])
    except SwinError as error:
        return replace(cell, note=str(error))
