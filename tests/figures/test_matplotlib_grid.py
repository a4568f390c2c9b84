"""The grid for print: the same overlays, and no text cut off."""

from __future__ import annotations

import io

import numpy as np
import pytest
from pypdf import PdfReader

from swin_core.attribution.overlay import overlay
from swin_core.figures.files import encode
from swin_core.figures.grid import Cell
from swin_core.figures.matplotlib_grid import matplotlib_figure
from tests.fixtures.grids import Make, one_row


def test_print_shows_the_same_overlays(make: Make) -> None:
    cells = [Cell(make()), Cell(None, error="no such layer"), Cell(make())]
    shown = one_row(*cells, opacity=0.5, threshold=0.2, scale="shared", title="costs $5 and $6 {x}", truth="rose")
    figure = matplotlib_figure(shown)
    drawn = [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images]
    for number, cell in ((1, cells[0]), (2, cells[2])):
        assert cell.explanation is not None
        # An image of 40 pixels is shown with 6 pixels for each.
        image = cell.explanation.image[np.arange(240) // 6][:, np.arange(240) // 6]
        expected = overlay(image, cell.explanation.maps[0, 0], shown.shared_top, shown.look)
        assert (drawn[number] == expected).all()
    text = PdfReader(io.BytesIO(encode(shown, "pdf"))).pages[0].extract_text()
    for words in ("costs $5 and $6 {x}", "daisy", "no such layer", "scale: shared", "gradcam at norm", "viridis"):
        assert words in text


@pytest.mark.parametrize("count", [1, 4])
def test_no_text_is_cut_off_or_covered(make: Make, count: int) -> None:
    long = "a class of a very long name, with a synonym, and_with_underscores_too"
    cells = [Cell(make(labels=(long, "b"), predicted=1, target=0)), Cell(None, error="no such layer; " * 20)]
    shown = one_row(*(cells * 2)[:count], title="photo_of_a_long_name_" * 4, truth=long, threshold=0.5)
    figure = matplotlib_figure(shown)
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.texts]
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.width for box in boxes)
    assert all(box.y0 >= 0 and box.y1 <= figure.bbox.height for box in boxes)
    images = [axes.get_window_extent() for axes in figure.axes if axes.images]
    assert not [box for box in boxes for image in images if box.overlaps(image)]
