"""From pictures and models to the grid: every picture explained by every model."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from PIL import Image

from swin_core.errors import ConfigError, SwinError
from swin_core.explain import explain, stage_layers
from swin_core.explain.figure import Cell, Grid, Row, class_index, grid
from swin_core.explain.render import Look
from swin_core.zoo import Classifier

__all__ = ["MODELS_AT_MOST", "STAGES", "Missing", "Wish", "blank", "compare", "middle"]

MODELS_AT_MOST = 4
"""Columns of one grid: more do not fit a screen or a page."""

STAGES = "stages"
"""In place of target layers: one layer for each stage of a model."""

BLANK = 237
"""Grey level in place of a picture that is missing."""

SHOWN_PIXELS = 512
"""Side of a row's own picture."""


@dataclass(frozen=True)
class Missing:
    """A picture that could not be read, or a model that could not be loaded; its cells say why."""

    name: str
    reason: str


Pictures = Sequence[tuple[str, Image.Image] | Missing]


def middle(image: Image.Image) -> np.ndarray:
    """The square in the middle of a picture, `(s, s, 3)` uint8, s at most 512 pixels: a row's own picture."""
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
    """Explain every picture by every model.

    Args:
        pictures: titles and pictures, or what is missing in their place.
        classifiers: the models, one a column, or what is missing in their place.
        targets: class names: none, for each model's own first choice; one, for all pictures; one a picture; or
            several for a single picture, which is then repeated with one class a row.
        wish: method, layers, and what the targets are compared with.
        look: colours, opacity, threshold and scale.

    Returns:
        The grid; a cell that could not be explained says why in its place.

    Raises:
        ConfigError: neither one target, nor one a picture, nor a single picture.
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
    return grid(rows, [classifier.name for classifier in classifiers], **asdict(look or Look()))


def _rows(pictures: Pictures, targets: Sequence[str]) -> list[tuple[str, Image.Image | Missing, str | None]]:
    titled = [(one.name, one) if isinstance(one, Missing) else one for one in pictures]
    if not targets:
        return [(title, image, None) for title, image in titled]
    if len(titled) == 1:
        title, image = titled[0]
        return [(f"{title}: {name}" if len(targets) > 1 else title, image, name) for name in targets]
    names = list(targets) * len(pictures) if len(targets) == 1 else list(targets)
    if len(names) != len(pictures):
        raise ConfigError(f"{len(names)} targets for {len(pictures)} pictures: name one, or one for each picture.")
    return [(title, image, name) for (title, image), name in zip(titled, names, strict=True)]


def blank() -> np.ndarray:
    """What stands in place of a row's own picture where there is none."""
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
    """One model's cells of one picture: one for each layer that is not fused."""
    if isinstance(image, Missing):
        return [Cell(None, error=image.reason)]
    if isinstance(classifier, Missing):
        return [Cell(None, error=classifier.reason)]
    index = None if name is None else class_index(classifier.labels, name)
    if name is not None and index is None:
        return [Cell(None, error=f"This model has no class {name}.")]
    try:
        layers = stage_layers(classifier) if wish.layers == (STAGES,) else wish.layers or None
        found = explain(classifier, image, index, wish.method, layers, against=wish.against, fuse=wish.fuse)
    except SwinError as error:
        return [Cell(None, error=str(error))]
    return [Cell(found, layer=place) for place in range(len(found.layers))]
