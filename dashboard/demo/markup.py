"""What the demo shows of an answer: the heat maps side by side as HTML, and two of them for the slider.

Names of classes, models and files come from anywhere: all HTML is made by jinja2, which escapes every text.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from dashboard.demo.answers import Answer, predictions
from swin_core.attribution.overlay import bar_colors, data_uri, enlarged
from swin_core.attribution.regions import Region, common_parts
from swin_core.figures.grid import Cell, Grid
from swin_core.figures.matplotlib_grid import cell_overlay
from swin_core.figures.text import percent, shorten

__all__ = ["PICTURE", "heat_maps", "notice", "slides"]

PICTURE = "The image alone"
"""What the slider can show in place of a model."""

_BAR_STEPS = 12
_SLIDE_PIXELS = 512

_jinja = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_jinja.filters["percent"] = percent
_NOTICE = _jinja.from_string('<p class="swin-notice" role="status">{{ text }}</p>')


@dataclass(frozen=True)
class _Panel:
    """The image, or one model's heat map with its caption; or an error in its place."""

    head: str
    hint: str
    error: str = ""
    image: str = ""
    """A data URI: nothing is kept on disk, and nothing has to be fetched."""
    alt: str = ""
    headline: str = ""
    notes: tuple[str, ...] = ()
    classes: tuple[tuple[str, float], ...] = ()
    """The likeliest classes with their probabilities; all panels draw them on one scale, 0 to 100 %."""


def notice(text: str) -> str:
    """One line in place of heat maps: what is missing, and what to do."""
    return _NOTICE.render(text=text)


def heat_maps(answer: Answer) -> str:
    """The image and each model's heat map with its caption and its likeliest classes, as one row that wraps."""
    row, grid = answer.grid.rows[0], answer.grid
    notes = (f"it shows: {row.truth}",) if row.truth else ()
    image = data_uri(row.thumbnail)
    panels = [_Panel("Picture", "Picture", "", image, f"The image {row.title}", row.title, notes)]
    for name, title, cell in zip(answer.models, grid.columns, answer.cells, strict=True):
        panels.append(_panel(grid, cell, shorten(title), name))
    return _jinja.get_template("answer.html.jinja").render(
        panels=panels, colors=bar_colors(grid.look, _BAR_STEPS, grid.signed), scale_name=grid.scale_name
    )


def _panel(grid: Grid, cell: Cell, head: str, model: str) -> _Panel:
    if cell.explanation is None or cell.map is None:
        return _Panel(head, model, cell.error)
    caption = grid.caption(grid.rows[0], cell)
    return _Panel(
        head,
        model,
        image=data_uri(cell_overlay(grid, cell)),
        alt=f"Heat map of {cell.explanation.model} for {caption.headline}",
        headline=caption.headline,
        notes=tuple(caption.notes),
        classes=tuple(predictions(cell)),
    )


def slides(answer: Answer, left: object, right: object) -> tuple[Image.Image, Image.Image] | None:
    """Two heat maps of one size for the slider, cut to what both models see.

    Args:
        answer: heat maps of one image.
        left: a model's name, `PICTURE`, or anything else for the first model.
        right: likewise, for the second model, or the image where there is only one.

    Returns:
        None where one of the two has no map, or the two see nothing in common.
    """
    sides = (_side(answer, left, 0), _side(answer, right, 1))
    shown = [cell for cell in sides if cell is not None] or answer.cells
    first, last = shown[0].explanation, shown[-1].explanation
    if first is None or last is None:
        return None
    parts = common_parts(first.region, last.region)
    if parts is None:
        return None
    images = [
        _cut(enlarged(found.picture) if cell is None else cell_overlay(answer.grid, cell), part)
        for cell, found, part in zip(sides, (first, last), parts, strict=True)
    ]
    return images[0], images[1]


def _side(answer: Answer, name: object, place: int) -> Cell | None:
    """The cell of a model on one side of the slider, None for the image itself."""
    if name in answer.models:
        return answer.cells[answer.models.index(str(name))]
    return answer.cells[place] if name != PICTURE and place < len(answer.cells) else None


def _cut(pixels: np.ndarray, part: Region) -> Image.Image:
    height, width = pixels.shape[:2]
    box = (part[0] * width, part[1] * height, part[2] * width, part[3] * height)
    return Image.fromarray(pixels).resize((_SLIDE_PIXELS, _SLIDE_PIXELS), Image.Resampling.BICUBIC, box)
