"""A sheet for print: the same maps as the viewer draws, marks over them, and no text cut off."""

from __future__ import annotations

import io

import numpy as np
import pytest
from pypdf import PdfReader

from swin_core.attribution.overlay import Look, overlay
from swin_core.figures.cell_image import map_overlay
from swin_core.figures.files import encode_figure
from swin_core.figures.grid import MapCell, MapGrid, MapRow, Mark
from swin_core.figures.sheet import Tile, css_colour, sheet_figure

PHOTO = np.random.default_rng(1).integers(0, 256, (256, 256, 3), dtype=np.uint8)
VALUES = np.random.default_rng(2).random((4, 4)).astype(np.float32)


def grid(*cells: MapCell, **look: float | str | bool) -> MapGrid:
    return MapGrid((MapRow("photo", PHOTO, cells),), tuple(f"map {n}" for n in range(len(cells))), Look(**look))  # type: ignore[arg-type]


def drawn(*parts: MapGrid | tuple[Tile, ...]) -> list[np.ndarray]:
    figure = sheet_figure("title", [], parts)
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images]


@pytest.mark.parametrize("scale", ["cell", "shared"])
def test_maps_are_those_of_the_overlay_on_their_own_or_the_shared_scale(scale: str) -> None:
    cells = MapCell(PHOTO, VALUES), MapCell(PHOTO, VALUES, top=2.0, nearest=True)
    shown = grid(*cells, scale=scale, opacity=0.6, threshold=0.2)
    _, smooth, squares, _ = drawn(shown)
    tops = (2.0, 2.0) if scale == "shared" else (float(VALUES.max()), 2.0)
    assert (smooth == overlay(PHOTO, VALUES, tops[0], shown.look)).all()
    assert (squares == overlay(PHOTO, VALUES.repeat(64, 0).repeat(64, 1), tops[1], shown.look)).all()


def test_a_signed_map_sets_the_scale_of_all_and_an_empty_one_is_grey() -> None:
    cells = MapCell(PHOTO, VALUES), MapCell(PHOTO, -VALUES), MapCell(PHOTO, 0 * VALUES)
    shown = grid(*cells)
    assert (
        map_overlay(shown, shown.rows[0], cells[0]) == overlay(PHOTO, VALUES, float(VALUES.max()), Look(), signed=True)
    ).all()
    empty = map_overlay(shown, shown.rows[0], cells[2])
    assert (empty == empty[..., :1]).all()


def test_the_wipe_lays_another_map_or_the_image_right_of_its_line() -> None:
    cells = MapCell(PHOTO, VALUES), MapCell(PHOTO, VALUES.T, nearest=True), MapCell(None, None, error="no map")
    alone = [map_overlay(grid(cell), grid(cell).rows[0], cell) for cell in cells[:2]]
    for wipe, right in (("1", alone[1]), ("image", PHOTO), ("2", alone[0]), ("3", alone[0])):
        shown = grid(*cells, wipe=wipe, split=0.25)
        drawn = map_overlay(shown, shown.rows[0], cells[0])
        assert (drawn[:, :63] == alone[0][:, :63]).all()
        assert (drawn[:, 65:] == right[:, 65:]).all(), wipe
    hidden = grid(MapCell(PHOTO, 0 * VALUES), image=False)
    assert (map_overlay(hidden, hidden.rows[0], hidden.rows[0].cells[0]) == 255).all()


def test_marks_fill_by_the_even_odd_rule_and_lines_lie_in_fractions_of_the_image() -> None:
    path = "M0 0H1V1H0ZM0.25 0.25H0.75V0.75H0.25Z"
    black = np.full((256, 256, 3), 100, np.uint8)
    tile = Tile("t", black, marks=(Mark(path, fill="rgb(0 0 0 / 0.5)"), Mark("M0.1 0.2L0.3 0.2", stroke="#fff")))
    figure = sheet_figure("title", [], [(tile,)])
    expected = np.full((256, 256), 50)
    expected[64:192, 64:192] = 100
    image = np.asarray(figure.axes[0].images[0].get_array())[..., 0]
    assert (image != expected).mean() < 0.02
    (line,) = figure.axes[0].lines
    assert np.allclose(line.get_xydata(), [[0.1, 0.2], [0.3, 0.2]])


def test_colours_of_css() -> None:
    for text in ("rgba(255, 0, 51, 0.4)", "rgb(255 0 51 / 0.4)", "#ff003366"):
        assert css_colour(text) == pytest.approx((1, 0, 0.2, 0.4))
    assert css_colour("rgb(255, 0, 51)") == css_colour("#ff0033")


def test_no_text_is_cut_off_or_covered_and_all_of_it_is_in_the_pdf() -> None:
    long = "a title of very many words, with_underscores_too " * 3
    tiles = tuple(Tile(f"{long} {number}", PHOTO, (long,), width=1.2) for number in range(9))
    error = MapCell(None, None, error="there is no map, since the model has no attention")
    figure = sheet_figure("A heading", [long * 4], [grid(MapCell(PHOTO, VALUES, notes=(long,)), error), tiles])
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.texts]
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.width for box in boxes)
    assert all(box.y0 >= 0 and box.y1 <= figure.bbox.height for box in boxes)
    images = [axes.get_window_extent() for axes in figure.axes]
    assert not [box for box in boxes for image in images if box.overlaps(image)]
    text = PdfReader(io.BytesIO(encode_figure(figure, "pdf"))).pages[0].extract_text()
    assert all(words in text.replace("\n", " ") for words in ("A heading", "there is no map", "viridis", "opacity 0.8"))
