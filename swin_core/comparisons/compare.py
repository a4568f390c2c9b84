"""Build a grid: explain every image by every model."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from swin_core.attribution.explain import explain
from swin_core.attribution.layers import stage_layers
from swin_core.attribution.overlay import Look
from swin_core.attribution.what_if import Edit
from swin_core.errors import ConfigError, SwinError
from swin_core.figures.grid import Cell, Grid, Row
from swin_core.system.progress import Progress, counter
from swin_core.trust.assess import assess
from swin_core.zoo.classifier import Classifier

MODELS_AT_MOST = 4
"""Maximum number of columns: more do not fit a screen or a page."""

STAGES = "stages"
"""Stands for target layers: the last layer of each stage of a model."""

THUMBNAIL_PIXELS = 512
"""Side of a row's thumbnail."""


@dataclass(frozen=True)
class Missing:
    """An image that could not be read, or a model that could not be loaded; its cells show the reason."""

    name: str
    reason: str


@dataclass(frozen=True)
class ExplainSettings:
    """Arguments of `explain` that all cells of a grid share."""

    method: str | None = None
    """A key of `METHODS`; None for the best one measured for each model."""
    layers: tuple[str, ...] = ()
    """Target layers of all models, with one row for each layer unless they are fused; `(STAGES,)` for each model's
    own stages, and empty for each model's default layer."""
    against: str | None = None
    """Contrast class of the targets."""
    fuse: str | None = None
    """How the maps of several layers become one map."""
    edit: Edit | None = None
    """A region to replace in every image; the classes are those of the images as they were."""


def center_square(image: Image.Image | None) -> np.ndarray:
    """Return a row's thumbnail: the square in the middle of an image, `(s, s, 3)` uint8, s at most 512 pixels.

    A grey square is returned if there is no image.
    """
    if image is None:
        return np.full((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS, 3), 237, np.uint8)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    square.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    return np.asarray(square)


def compare(
    images: Sequence[tuple[str, Image.Image] | Missing],
    classifiers: Sequence[Classifier | Missing],
    targets: Sequence[str] = (),
    *,
    settings: ExplainSettings | None = None,
    look: Look | None = None,
) -> Grid:
    """Explain every image by every model.

    Args:
        images: titles and images.
        classifiers: the models, one for each column.
        targets: class names. None: each model's top-1 class. One: for all images. As many as images: one each.
            Several for a single image: one row for each class.
        settings: method, layers and contrast class.
        look: colours, opacity, threshold and scale.

    Returns:
        The grid; a cell that could not be explained holds the reason.

    Raises:
        ConfigError: the number of targets does not fit the number of images, or the region to replace has no pixel.
    """
    settings = settings or ExplainSettings()
    rows = []
    for title, image, class_name in _rows(images, targets):
        whole = None if isinstance(image, Missing) else image
        edit = None if whole is None else settings.edit
        changed = whole if whole is None or edit is None else edit.apply(whole)
        thumbnail = center_square(changed)
        columns = [_explain_cells(classifier, image, changed, class_name, settings) for classifier in classifiers]
        count = max(map(len, columns))
        for layer in range(count):
            row_title = title
            if count > 1:
                row_title += f": stage {layer + 1}" if settings.layers == (STAGES,) else f": {settings.layers[layer]}"
            cells = [_cell_of_layer(column, layer) for column in columns]
            rows.append(Row(row_title, thumbnail, cells, image=whole, edit=edit))
    return Grid(tuple(rows), tuple(classifier.name for classifier in classifiers), look or Look())


def _rows(
    images: Sequence[tuple[str, Image.Image] | Missing], targets: Sequence[str]
) -> list[tuple[str, Image.Image | Missing, str | None]]:
    """Return title, image and class name of each row; None for the top-1 class."""
    titled = [(image.name, image) if isinstance(image, Missing) else image for image in images]
    if not targets:
        return [(title, image, None) for title, image in titled]
    if len(titled) == 1:
        title, image = titled[0]
        return [(f"{title}: {name}" if len(targets) > 1 else title, image, name) for name in targets]
    names = list(targets) * len(images) if len(targets) == 1 else list(targets)
    if len(names) != len(images):
        raise ConfigError(f"{len(names)} targets for {len(images)} images: name one, or one for each image.")
    return [(title, image, name) for (title, image), name in zip(titled, names, strict=True)]


def _explain_cells(
    classifier: Classifier | Missing,
    image: Image.Image | Missing,
    changed: Image.Image | None,
    class_name: str | None,
    settings: ExplainSettings,
) -> list[Cell]:
    """Explain one image by one model: one cell for each layer, or a single cell with the reason why not.

    If a region is to be replaced, the cells explain the changed image.
    """
    if isinstance(image, Missing):
        return [Cell(None, error=image.reason)]
    if isinstance(classifier, Missing):
        return [Cell(None, error=classifier.reason)]
    try:
        layers = stage_layers(classifier) if settings.layers == (STAGES,) else settings.layers or None
        explanation = explain(
            classifier, image, class_name, settings.method, layers, against=settings.against, fuse=settings.fuse
        )
        before = None
        if settings.edit is not None and changed is not None:
            before = explanation
            explanation = explain(
                classifier,
                changed,
                before.targets,
                before.method,
                layers,
                against=before.against,
                fuse=settings.fuse,
            )
    except SwinError as error:
        return [Cell(None, error=str(error))]
    return [Cell(explanation, layer=layer, before=before) for layer in range(len(explanation.layers))]


def _cell_of_layer(column: list[Cell], layer: int) -> Cell:
    if layer < len(column):
        return column[layer]
    return column[0] if column[0].error else Cell(None, error=f"this model has {len(column)} stages.")


def class_grid(
    rows: Sequence[tuple[str, Image.Image, str]],
    classifiers: Sequence[Classifier | Missing],
    *,
    settings: ExplainSettings | None = None,
    look: Look | None = None,
    progress: Progress | None = None,
) -> Grid:
    """Explain each image for its class by every model, and measure the trust in each map.

    Args:
        rows: title, image, and its true class, which is explained; an empty class explains each model's top-1 class.
        classifiers: the models, one for each column.
        settings: method, contrast class and at most one layer.
        look: colours, opacity, threshold and scale.
        progress: called with the number of cells done and of all cells.

    Returns:
        The grid. A cell has no trust if its map is empty or its model does not know the class.

    Raises:
        ConfigError: several layers, since a cell shows one map.
    """
    settings = settings or ExplainSettings()
    if STAGES in settings.layers or len(settings.layers) > 1:
        raise ConfigError(f"a cell shows one map: name one layer, not {' and '.join(settings.layers)}.")
    tick = counter(progress, len(rows) * len(classifiers))
    measured_rows = []
    for title, image, truth in rows:
        (row,) = compare([(title, image)], classifiers, [truth] if truth else (), settings=settings).rows
        cells = []
        for classifier, cell in zip(classifiers, row.cells, strict=True):
            cells.append(cell if isinstance(classifier, Missing) else with_trust(classifier, cell))
            tick(1)
        measured_rows.append(replace(row, cells=cells, truth=truth))
    return Grid(tuple(measured_rows), tuple(classifier.name for classifier in classifiers), look or Look())


def with_trust(classifier: Classifier, cell: Cell) -> Cell:
    """Return the cell with the trust in its map, or with a note that says why it cannot be measured.

    A cell without a map, or with an empty one, is returned as it is.
    """
    explanation = cell.explanation
    if explanation is None or cell.map is None or not cell.magnitude:
        return cell
    try:
        (trust,) = assess(classifier, explanation.view, cell.map, explanation.targets[cell.target])
    except SwinError as error:
        return replace(cell, note=str(error))
    return replace(cell, trust=trust)
