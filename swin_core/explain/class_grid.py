"""A grid with a row for each class and a column for each model, each map with its trust: the report's figure 11."""

from collections.abc import Sequence
from dataclasses import asdict, replace

from PIL import Image

from swin_core.errors import ConfigError, SwinError
from swin_core.explain.compare import STAGES, Missing, Wish, compare
from swin_core.explain.figure import Cell, Grid, grid
from swin_core.explain.render import Look
from swin_core.explain.trust import assess
from swin_core.progress import Progress, counter
from swin_core.zoo import Classifier

__all__ = ["class_grid"]


def class_grid(
    rows: Sequence[tuple[str, Image.Image, str]],
    classifiers: Sequence[Classifier | Missing],
    *,
    wish: Wish | None = None,
    look: Look | None = None,
    progress: Progress | None = None,
) -> Grid:
    """Explain the picture of each row for the row's class by every model, and measure each map.

    Args:
        rows: title, picture, and the class that is explained, which is taken for the true one; an empty class for
            each model's own first choice.
        classifiers: the models, one a column, or what is missing in their place.
        wish: method and one layer.
        look: colours, opacity, threshold and scale.
        progress: called with the cells done and their number.

    Returns:
        The grid. A cell whose map is empty, or of a model that does not know the class, has no trust figure.

    Raises:
        ConfigError: several layers, of which a cell could show but one.
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
            cells.append(_measured(classifier, cell))
            tick(1)
        drawn.append(replace(row, cells=cells, truth=name))
    return grid(drawn, [one.name for one in classifiers], **asdict(look or Look()))


def _measured(classifier: Classifier | Missing, cell: Cell) -> Cell:
    """The cell with its trust figure, or with a note why there is none."""
    found = cell.explanation
    if isinstance(classifier, Missing) or found is None or cell.map is None or not cell.magnitude:
        return cell
    try:
        return replace(cell, trust=assess(classifier, found.view, cell.map, found.targets[cell.target])[0])
    except SwinError as error:
        return replace(cell, note=str(error))
