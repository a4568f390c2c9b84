"""Maps that no grid holds, in Chromium: squares of a value each, marks over the image, and clicked places."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page

from swin_core.attribution.overlay import Look, overlay
from swin_core.attribution.strokes import parse_strokes
from swin_core.figures.grid import Cell, Grid, MapCell, MapGrid, MapRow, Mark, Row
from swin_core.figures.sheet import sheet_figure
from swin_core.figures.viewer_payload import (
    brush_payload,
    image_payload,
    viewer_payload,
    viewer_script,
    viewer_style,
)
from tests.fixtures.browser import browser
from tests.fixtures.grids import maker

__all__ = ["browser"]

SIZE = 256
SHOW = """async ({script, style, payload}) => {
    document.body.innerHTML = `<style>${style}</style><div id="here"></div>`;
    const url = URL.createObjectURL(new Blob([script], {type: 'text/javascript'}));
    window.module = await import(url);
    window.points = [];
    window.mounted = module.mount(document.querySelector('#here'), payload, {onPoint: place => points.push(place)});
    await Promise.all([...document.querySelectorAll('#here img')].map(one => one.src && one.decode()));
    await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
}"""
VALUES = np.random.default_rng(0).random((16, 16)).astype(np.float32)
DIM = Mark("M0 0H1V1H0ZM0.25 0.25H0.75V0.75H0.25Z", fill="rgb(0 0 0 / 0.5)")


PHOTO = np.full((SIZE, SIZE, 3), 90, np.uint8)
GRID = MapGrid(
    (
        MapRow(
            "photo",
            PHOTO,
            [
                MapCell(PHOTO, VALUES, top=0.9, marks=(DIM,), nearest=True),
                MapCell(PHOTO, VALUES, top=1.0, share=True),
            ],
        ),
    ),
    ("dimmed", "share"),
)


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    opened = browser.new_page(viewport={"width": 1300, "height": 900})
    opened.set_content("<!DOCTYPE html><html lang='en'><body></body></html>")
    payload = viewer_payload(GRID)
    opened.evaluate(SHOW, {"script": viewer_script(), "style": viewer_style(), "payload": payload})
    yield opened
    opened.close()


def sheet(page: Page, column: int) -> np.ndarray:
    source = page.evaluate(
        "column => module.cellSheet(mounted.viewer.rows[0][column + 1]).toDataURL('image/png')", column
    )
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).convert("RGB")).astype(int)


def test_each_value_fills_its_square_and_marks_lie_over_it(page: Page) -> None:
    whole = VALUES.repeat(SIZE // 16, 0).repeat(SIZE // 16, 1)
    expected = overlay(np.full((SIZE, SIZE, 3), 90, np.uint8), whole, 0.9, Look()).astype(float)
    outside = np.ones((SIZE, SIZE), bool)
    outside[64:192, 64:192] = False
    expected[outside] *= 0.5
    assert np.abs(sheet(page, 0) - expected).mean() < 1


@pytest.mark.parametrize(
    "look",
    [Look(), Look(wipe="1", split=0.3), Look(wipe="image", image=False), Look(wipe="7", raw=True)],
)
def test_what_is_saved_agrees_with_the_screen(page: Page, look: Look) -> None:
    """The server's drawing of each map, with its marks and in its look."""
    grid = replace(GRID, look=look)
    page.evaluate("payload => mounted.update(payload)", viewer_payload(grid))
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    figure = sheet_figure("title", [], [grid])
    for column, axes in enumerate(figure.axes[1:3]):
        drawn = np.asarray(axes.images[0].get_array()).astype(int)
        assert np.abs(sheet(page, column) - drawn).mean() < 2
        assert drawn[:, : round(0.3 * SIZE) - 1].std() > 5  # a map
    said = " ".join(text.get_text() for text in figure.texts)
    assert ("right of the white line" in said) == (look.wipe in ("image", "1"))
    assert ("magnitude 0." in said) == look.raw
    page.evaluate("payload => mounted.update(payload)", viewer_payload(GRID))


def test_a_click_and_enter_tell_the_place_and_shares_are_read_in_percent(page: Page) -> None:
    frames = page.locator(".frame")
    box: Any = frames.nth(2).bounding_box()
    frames.nth(2).click(position={"x": 0.3 * box["width"], "y": 0.6 * box["height"]})
    frames.nth(2).press("ArrowRight")
    frames.nth(2).press("Enter")
    points = page.evaluate("points")
    assert [points[0]["x"], points[0]["y"]] == pytest.approx([0.3, 0.6], abs=0.01)
    assert [points[1]["x"], points[1]["y"]] == pytest.approx([0.32, 0.6], abs=0.01)
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert frames.nth(2).locator(".chip").inner_text().endswith(" %")


def test_probabilities_come_first_and_the_map_waits_for_its_update(page: Page) -> None:
    """Also if the update is what was shown before."""
    explanation = maker()()
    payload = viewer_payload(Grid((Row("photo", explanation.image, [Cell(explanation)]),), ("model",)))
    page.evaluate("payload => mounted.update(payload)", payload)
    cell = page.locator(".row:not(.heads) .cell").nth(1)
    old = cell.locator(".classes").inner_text()
    classes = [{**payload["rows"][0]["cells"][0]["classes"][0], "label": "other", "probability": 0.25, "before": 0.5}]
    brush = brush_payload(parse_strokes("r-0.0-500.500"), "blur", keep=False)
    image = image_payload(np.full((SIZE, SIZE, 3), 10, np.uint8))
    answer = {"row": 0, "image": image, "brush": brush, "cells": [{"classes": classes}]}
    page.evaluate("row => mounted.answer([row])", answer)
    assert cell.locator(".classes").inner_text().split() == ["other", "25", "%", "was", "50", "%"]
    assert cell.get_attribute("aria-busy") == "true"
    assert cell.locator("canvas.heat").first.is_visible()
    assert page.locator(".row:not(.heads) .cell img").first.get_attribute("src") == image["source"]
    page.evaluate("payload => mounted.update(payload)", payload)
    assert cell.locator(".classes").inner_text() == old
    assert cell.get_attribute("aria-busy") is None
    assert page.locator(".row:not(.heads) .cell img").first.get_attribute("src") != image["source"]
    page.evaluate("rows => mounted.answer(rows)", [{"row": 9, "image": image, "brush": brush, "cells": []}])  # is gone


def test_maps_without_explanations_are_a_grid_too() -> None:
    draw = np.random.default_rng(4)
    image = draw.integers(0, 256, (20, 20, 3), dtype=np.uint8)
    maps = [draw.random((5, 5)).astype(np.float32), draw.random((5, 5)).astype(np.float32) * 3 - 1, np.zeros((5, 5))]
    cells = [MapCell(image, values, f"map {number}", ("a note",)) for number, values in enumerate(maps)]
    cells.append(MapCell(None, None, error="why not"))
    payload = viewer_payload(MapGrid((MapRow("row", image, cells),), ("a", "b", "c", "d")))
    assert len(payload["images"]) == 1
    (row,) = payload["rows"]
    assert payload["sharedTop"] == pytest.approx(max(np.abs(values).max() for values in maps))
    for cell, values in zip(row["cells"], maps, strict=False):
        codes = np.frombuffer(base64.b64decode(cell["map"]["data"]), "<u2").reshape(5, 5)
        low, high = cell["map"]["low"], cell["map"]["high"]
        assert low + codes * (high - low) / (2**16 - 1) == pytest.approx(values, abs=1e-4)
        assert cell["signed"]  # one scale bar for all
    assert [cell.get("empty") for cell in row["cells"]] == [False, False, True, None]
    assert (row["cells"][3]["error"], row["cells"][3]["map"]) == ("why not", None)
