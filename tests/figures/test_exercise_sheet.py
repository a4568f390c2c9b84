"""The exercise sheet: two pages A4, the answers on the second one only, nothing cut off."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from pypdf import PdfReader

from swin_core.figures.exercise_sheet import A4, TITLE, _page, exercise_sheet
from swin_core.figures.grid import Cell, Grid
from tests.fixtures.grids import Make, one_row


def test_the_first_page_asks_and_the_second_answers(make: Make) -> None:
    grid = one_row(Cell(make(predicted=2)), Cell(make(predicted=1)), Cell(None, error="no such layer"), truth="rose")
    first, second = PdfReader(io.BytesIO(exercise_sheet(grid))).pages
    for page in (first, second):
        assert [float(each) / 72 for each in page.mediabox[2:]] == pytest.approx(A4, abs=0.01)
    asked, answered = first.extract_text(), second.extract_text()
    assert TITLE in asked
    assert "Classes: dandelion, roses." in asked
    assert asked.count("____") >= 3
    assert "%" not in asked
    assert "photo.jpg" not in asked
    assert "photo.jpg" in answered
    for cell in grid.rows[0].cells[:2]:
        assert grid.caption(grid.rows[0], cell).headline.partition(" · ")[0] in answered
    assert "right" in answered
    assert "no such layer" in answered


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (8, 4)])
def test_nothing_is_cut_off_and_no_text_covers_a_map(make: Make, rows: int, columns: int) -> None:
    label = "a class of a very long name, with a synonym"
    cells = [Cell(make(labels=(label, "b"))) for _ in range(columns)]
    row = replace(one_row(*cells, truth=label).rows[0], title="photo_of_a_long_name.jpg")
    grid = Grid((row,) * rows, tuple(f"a model of a long name {n}" for n in range(columns)))
    for words in (["Find out. " * 30], []):
        figure = _page(grid, TITLE, words)
        figure.canvas.draw()
        boxes = [text.get_window_extent() for text in figure.texts if text.get_text()]
        assert all(box.x0 >= 0 and box.x1 <= figure.bbox.width for box in boxes)
        assert all(box.y0 >= 0 and box.y1 <= figure.bbox.height for box in boxes)
        images = [axes.get_window_extent() for axes in figure.axes]
        assert not [box for box in boxes for image in images if box.overlaps(image)]
        drawn = [np.asarray(axes.images[0].get_array()) for axes in figure.axes]
        assert len(drawn) == rows * (columns + 1)
