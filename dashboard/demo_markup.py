"""What the demo shows of an answer: the heat maps side by side as HTML, and two of them for the slider.

Names of classes, models and files come from anywhere: everything that is text is escaped here.
"""

from collections.abc import Sequence
from html import escape

import numpy as np
from PIL import Image

from dashboard.demo_answers import Answer, predictions
from swin_core.explain.explanation import Region, common_parts
from swin_core.explain.figure import cell_overlay
from swin_core.explain.grid import Cell, Grid
from swin_core.explain.render import bar_colors, data_uri, enlarged, percent, shorten

__all__ = ["PICTURE", "heat_maps", "notice", "slides"]

PICTURE = "The picture alone"
"""What the slider can show in place of a model."""

_BAR_STEPS = 12
_SLIDE_PIXELS = 512


def notice(text: str) -> str:
    """One line in place of heat maps: what is missing, and what to do."""
    return f'<p class="swin-notice" role="status">{escape(text)}</p>'


def heat_maps(answer: Answer) -> str:
    """The picture and each model's heat map with its caption and its likeliest classes, as one row that wraps."""
    row = answer.grid.rows[0]
    shown = f"<figcaption><strong>{escape(row.title)}</strong>{_lines(_truth(row.truth))}</figcaption>"
    panels = [_panel("Picture", _image(row.picture, f"The picture {row.title}"), shown)]
    for name, title, cell in zip(answer.models, answer.grid.columns, answer.cells, strict=True):
        panels.append(_panel(shorten(title), *_model(answer.grid, cell), hint=name))
    # On a phone it is swiped sideways, by the keyboard too.
    group = '<div class="swin-grid" role="group" aria-label="Heat maps" tabindex="0">'
    return f"{group}{''.join(panels)}</div>{_scale(answer.grid)}"


def _truth(truth: str) -> list[str]:
    return [f"it shows: {truth}"] if truth else []


def _panel(head: str, picture: str, caption: str, hint: str = "") -> str:
    return (
        f'<figure><div class="swin-head" title="{escape(hint or head)}">{escape(head)}</div>{picture}{caption}</figure>'
    )


def _model(grid: Grid, cell: Cell) -> tuple[str, str]:
    """The picture and the caption of a model's panel."""
    if cell.explanation is None or cell.map is None:
        return f'<div class="swin-empty">{escape(cell.error)}</div>', ""
    caption = grid.caption(grid.rows[0], cell)
    alternative = f"Heat map of {cell.explanation.model} for {caption.headline}"
    text = f"<strong>{escape(caption.headline)}</strong>{_lines(caption.notes)}{_bars(cell)}"
    return _image(cell_overlay(grid, cell), alternative), f"<figcaption>{text}</figcaption>"


def _lines(notes: Sequence[str]) -> str:
    return "".join(f"<span>{escape(note)}</span>" for note in notes)


def _bars(cell: Cell) -> str:
    """The likeliest classes as bars; all panels have the same scale, 0 to 100 %."""
    rows = "".join(
        f'<li><span class="swin-label" title="{escape(label)}">{escape(label)}</span><span>{percent(value)}</span>'
        f'<i style="width:{100 * value:.1f}%"></i></li>'
        for label, value in predictions(cell)
    )
    return f'<ol class="swin-bars" aria-label="Likeliest classes">{rows}</ol>'


def _image(pixels: np.ndarray, alternative: str) -> str:
    # The pixels go into the page itself, so that nothing is kept on disk for them and nothing has to be fetched.
    return f'<img src="{data_uri(pixels)}" alt="{escape(alternative)}">'


def _scale(grid: Grid) -> str:
    """The colours from the bottom to the top of the scale, and its name."""
    stops = ",".join(f"rgb({r},{g},{b})" for r, g, b in bar_colors(grid.look, _BAR_STEPS, grid.signed))
    bar = f'<i style="background:linear-gradient(90deg,{stops})"></i>'
    return f'<p class="swin-scale">{bar}<span>{escape(grid.scale_name)}</span></p>'


def slides(answer: Answer, left: object, right: object) -> tuple[Image.Image, Image.Image] | None:
    """Two heat maps of one size for the slider, cut to what both models see.

    Args:
        answer: heat maps of one picture.
        left: a model's name, `PICTURE`, or anything else for the first model.
        right: likewise, for the second model, or the picture where there is only one.

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
    """The cell of a model on one side of the slider, None for the picture itself."""
    if name in answer.models:
        return answer.cells[answer.models.index(str(name))]
    return answer.cells[place] if name != PICTURE and place < len(answer.cells) else None


def _cut(pixels: np.ndarray, part: Region) -> Image.Image:
    height, width = pixels.shape[:2]
    box = (part[0] * width, part[1] * height, part[2] * width, part[3] * height)
    return Image.fromarray(pixels).resize((_SLIDE_PIXELS, _SLIDE_PIXELS), Image.Resampling.BICUBIC, box)
