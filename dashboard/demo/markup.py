"""The HTML of the demo's answers and the two images of its slider.

jinja2 makes all HTML and escapes every text, since names of classes, models and files may contain markup.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from dashboard.demo.answers import Answer, likeliest_classes
from swin_core.attribution.overlay import bar_colors, enlarged
from swin_core.attribution.regions import Region, common_parts
from swin_core.figures.grid import Cell
from swin_core.figures.matplotlib_grid import cell_overlay
from swin_core.figures.text import shorten, value_text
from swin_core.images.data_uri import image_uri

IMAGE_ALONE = "The image alone"
"""Choice of the slider in place of a model."""

_BAR_STEPS = 12
_SLIDER_PIXELS = 512

_jinja = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_NOTICE = _jinja.from_string('<p class="swin-notice" role="status">{{ text }}</p>')


@dataclass(frozen=True)
class _MapCard:
    """The image, or one model's heat map with its caption, or an error in its place."""

    head: str
    hint: str
    error: str = ""
    image: str = ""
    """A data URI, so that no file is kept."""
    alt: str = ""
    headline: str = ""
    notes: tuple[str, ...] = ()
    classes: tuple[tuple[str, str, float], ...] = ()
    """The likeliest classes: name, probability as text, and length of its bar, 0 to 1."""


def notice(text: str) -> str:
    """Return a message to show in place of heat maps."""
    return _NOTICE.render(text=text)


def heat_maps(answer: Answer) -> str:
    """Return the image and each model's heat map, with captions and likeliest classes, as one row that wraps."""
    row, grid = answer.grid.rows[0], answer.grid
    notes = (f"true class: {row.truth}",) if row.truth else ()
    cards = [_MapCard("Image", "Image", "", image_uri(row.thumbnail), f"The image {row.title}", row.title, notes)]
    for name, title, cell in zip(answer.models, grid.columns, answer.cells, strict=True):
        if cell.explanation is None or cell.map is None:
            cards.append(_MapCard(shorten(title), name, cell.error))
            continue
        caption, activation = grid.caption(row, cell), cell.explanation.activation
        cards.append(
            _MapCard(
                shorten(title),
                name,
                image=image_uri(cell_overlay(grid, cell)),
                alt=f"Heat map of {cell.explanation.model} for {caption.headline}",
                headline=caption.headline,
                notes=tuple(caption.notes),
                classes=tuple(
                    (label, value_text(value, activation), 0.0 if activation == "none" else value)
                    for label, value in likeliest_classes(cell)
                ),
            )
        )
    colors = bar_colors(grid.look, _BAR_STEPS, grid.signed)
    return _jinja.get_template("answer.html.jinja").render(cards=cards, colors=colors, scale_name=grid.scale_name)


def slider_images(answer: Answer, left: object, right: object) -> tuple[Image.Image, Image.Image] | None:
    """Return two heat maps of equal size for the slider, cropped to what both models see.

    Args:
        answer: heat maps of one image.
        left: a model's name or `IMAGE_ALONE`; anything else stands for the first model.
        right: likewise; anything else stands for the second model, or the image if there is one model.

    Returns:
        None if one of the two has no map, or the models see no common part of the image.
    """
    sides = (_slider_cell(answer, left, 0), _slider_cell(answer, right, 1))
    cells = [cell for cell in sides if cell is not None] or answer.cells
    first, last = cells[0].explanation, cells[-1].explanation
    if first is None or last is None:
        return None
    parts = common_parts(first.region, last.region)
    if parts is None:
        return None
    images = [
        _crop(enlarged(explanation.image) if cell is None else cell_overlay(answer.grid, cell), part)
        for cell, explanation, part in zip(sides, (first, last), parts, strict=True)
    ]
    return images[0], images[1]


def _slider_cell(answer: Answer, name: object, default: int) -> Cell | None:
    """Return the cell of one side of the slider, or None for the image alone."""
    if name in answer.models:
        return answer.cells[answer.models.index(str(name))]
    return answer.cells[default] if name != IMAGE_ALONE and default < len(answer.cells) else None


def _crop(pixels: np.ndarray, part: Region) -> Image.Image:
    height, width = pixels.shape[:2]
    box = (part[0] * width, part[1] * height, part[2] * width, part[3] * height)
    return Image.fromarray(pixels).resize((_SLIDER_PIXELS, _SLIDER_PIXELS), Image.Resampling.BICUBIC, box)
