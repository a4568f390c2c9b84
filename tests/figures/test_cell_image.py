"""The pixels of cells and images in files against what the browser's viewer exports of them."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
from PIL import Image
from playwright.sync_api import Page

from swin_core.attribution.overlay import Look
from swin_core.attribution.strokes import parse_strokes
from swin_core.attribution.what_if import Edit
from swin_core.figures.cell_image import cell_overlay, row_image
from swin_core.figures.grid import Cell
from tests.fixtures.browser import browser
from tests.fixtures.grids import maker
from tests.fixtures.viewer_page import frame, grid_of, made, page, pixels, show, smooth

__all__ = ["browser", "page"]


def test_the_wipe_lays_another_crop_over_the_same_place_of_the_photo(page: Page) -> None:
    make = maker()
    part = replace(made(make), region=(64, 32, 192, 160))
    grid = grid_of([Cell(made(make)), Cell(part)], look=Look(wipe="1", split=0.3, opacity=1.0))
    show(page, grid)
    seen, drawn = pixels(page, 0, 0), cell_overlay(grid, grid.rows[0], grid.rows[0].cells[0])
    assert np.abs(seen - drawn).mean() < 2
    # Left of the line the cell itself, and right of it the other one's image where the photo shows it.
    off = replace(grid, look=Look(opacity=1.0))
    own, other = (cell_overlay(off, off.rows[0], cell).astype(int) for cell in off.rows[0].cells)
    assert np.abs(drawn[:, :72].astype(int) - own[:, :72]).max() == 0
    reduced = np.asarray(Image.fromarray(other.astype(np.uint8)).resize((128, 128), Image.Resampling.BILINEAR))
    assert np.abs(drawn[34:158, 80:190].astype(int) - reduced[2:126, 16:126]).mean() < 4


def test_the_screen_is_as_files_are_where_a_map_is_almost_empty_or_the_image_hidden(page: Page) -> None:
    strong = made(maker())
    weak = replace(strong, maps=strong.maps * 0.005, image=smooth(256, seed=1))
    cells = [Cell(strong), Cell(weak)]
    page.evaluate("document.body.style.cssText = 'background: #12161c; color: white'")
    for look in (Look(wipe="1"), Look(wipe="0"), Look(image=False), Look(image=False, wipe="1"), Look(wipe="image")):
        grid = grid_of(cells, look=look)
        show(page, grid)
        for column, cell in enumerate(cells):
            drawn = cell_overlay(grid, grid.rows[0], cell)
            shot = Image.open(io.BytesIO(frame(page, 0, column).screenshot())).convert("RGB").resize((256, 256))
            inner = slice(26, 190), slice(26, 230)  # without the round corners and what is written below
            for seen in (pixels(page, 0, column), np.asarray(shot).astype(int)):
                assert np.abs(seen - drawn)[inner].mean() < 3, (look, column)
    page.evaluate("document.body.style.cssText = ''")


def test_a_painted_region_is_outlined_in_the_files_as_on_the_screen(page: Page) -> None:
    strokes = parse_strokes("b200-300.300-500.400_r-600.600-800.900_e60-700.700")
    grid = grid_of([Cell(made(maker()))])
    row = replace(grid.rows[0], edit=Edit(strokes))
    show(page, replace(grid, rows=(row,)))
    seen, drawn = pixels(page, 0, -1), row_image(row).astype(int)
    assert np.abs(seen - drawn).mean() < 3  # the ring is a little thinner on the screen
    # Each place of one ring is near one of the other, the ring around what was erased included.
    rings = [np.argwhere(np.abs(one - row.thumbnail).max(-1) > 12) for one in (seen, drawn)]
    for ring, other in (rings, rings[::-1]):
        assert all(np.abs(other - place).max(1).min() <= 4 for place in ring)
    inside = strokes.mask(256, 256)
    assert (drawn == row.thumbnail)[inside].all()
    # A crop from the middle of a wide photo shows the region where the photo has it.
    wide = replace(row, image=Image.new("RGB", (512, 256)), edit=Edit(parse_strokes("r-500.0-1000.1000")))
    (edges,) = np.nonzero((row_image(wide) != wide.thumbnail).any((0, 2)))
    assert edges.min() in (125, 126)
    assert edges.max() == 127
