"""From pictures and models to the grid: every picture explained by every model."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from PIL import Image

from swin_core.errors import ConfigError, SwinError
from swin_core.explain import explain
from swin_core.explain.figure import Cell, Grid, Row, class_index, grid
from swin_core.explain.render import Look
from swin_core.zoo import Classifier

__all__ = ["MODELS_AT_MOST", "Missing", "compare", "middle"]

MODELS_AT_MOST = 4
"""Columns of one grid: more do not fit a screen or a page."""

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


def compare(
    pictures: Pictures,
    classifiers: Sequence[Classifier | Missing],
    targets: Sequence[str] = (),
    *,
    method: str = "gradcam",
    layer: str | None = None,
    look: Look | None = None,
) -> Grid:
    """Explain every picture by every model.

    Args:
        pictures: titles and pictures, or what is missing in their place.
        classifiers: the models, one a column, or what is missing in their place.
        targets: class names: none, for each model's own first choice; one, for all pictures; one a picture; or
            several for a single picture, which is then repeated with one class a row.
        method: the attribution method.
        layer: the target layer of all models; None for each model's default.
        look: colours, opacity, threshold and scale.

    Returns:
        The grid; a cell that could not be explained says why in its place.

    Raises:
        ConfigError: neither one target, nor one a picture, nor a single picture.
    """
    rows = _rows(pictures, targets)
    return grid(
        [
            Row(title, _shown(image), [_cell(one, image, name, method, layer) for one in classifiers])
            for title, image, name in rows
        ],
        [classifier.name for classifier in classifiers],
        **asdict(look or Look()),
    )


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


def _shown(image: Image.Image | Missing) -> np.ndarray:
    return np.full((SHOWN_PIXELS, SHOWN_PIXELS, 3), BLANK, np.uint8) if isinstance(image, Missing) else middle(image)


def _cell(
    classifier: Classifier | Missing, image: Image.Image | Missing, name: str | None, method: str, layer: str | None
) -> Cell:
    if isinstance(image, Missing):
        return Cell(None, error=image.reason)
    if isinstance(classifier, Missing):
        return Cell(None, error=classifier.reason)
    try:
        index = None if name is None else class_index(classifier.labels, name)
        if name is not None and index is None:
            return Cell(None, error=f"This model has no class {name}.")
        targets = None if index is None else [index]
        return Cell(explain(classifier, image, targets, method, None if layer is None else [layer]))
    except SwinError as error:
        return Cell(None, error=str(error))
