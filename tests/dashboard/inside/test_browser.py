"""Tests of the Inside page in a browser."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

import swin_core
from dashboard.inside.drawing import rolled_view
from dashboard.shared.model_names import sample_images
from swin_core.anatomy.structure import anatomy
from tests.fixtures.browser import (
    NARROW,
    SUBPAGE,
    WIDE,
    Open,
    Server,
    at_rest,
    boxes,
    browser,
    findings,
    messages,
    seen_as,
    visible,
    windows,
)

__all__ = ["browser"]

MAPS = ".st-key-attention_maps"


@pytest.fixture
def visit(dashboard: Server, browser: Browser) -> Iterator[Open]:
    """Open the page in a window of its own."""
    with windows(browser, SUBPAGE) as open_window:

        def visit(query: dict[str, str], size: tuple[int, int] = WIDE, scheme: Any = "light") -> Page:
            page = open_window(size, scheme)
            chosen = {"sample": "cat", "model": "swin_micro_flowers", **query}
            page.goto(f"{dashboard.address}/inside?{urlencode(chosen)}")
            visible(page.locator(".st-key-stages_chart .js-plotly-plot"))
            at_rest(page)
            return page

        yield visit


def click_at(page: Page, column: int, across: float, down: float) -> None:
    """Click the image or a map at a position given as fractions of its width and height."""
    frame = page.locator(f"{MAPS} .frame").nth(column)
    frame.scroll_into_view_if_needed()
    box = frame.bounding_box()
    assert box is not None
    frame.click(position={"x": across * box["width"], "y": down * box["height"]})


def heat(page: Page, column: int, before: str = "") -> str:
    """The colours of a map, once they are others than before."""
    canvas = page.locator(f"{MAPS} .frame").nth(column).locator("canvas.heat").first
    for _ in range(600):
        content = str(canvas.evaluate("canvas => canvas.toDataURL()"))
        if content != before:
            return content
        page.wait_for_timeout(100)
    raise AssertionError("the map stayed as it was")


def in_address(page: Page, **values: str) -> None:
    """Wait until the URL has these query parameters."""
    for key, value in values.items():
        page.wait_for_url(lambda url, key=key, value=value: parse_qs(urlsplit(url).query).get(key) == [value])
    at_rest(page)


def test_block_and_token_are_chosen_by_mouse_and_keyboard(visit: Open) -> None:
    page = visit({"panel": "Attention", "block": "Stage 1 block 1"})
    squares = page.locator(".st-key-stages_chart .shapelayer path")
    assert squares.count() == 8
    first = [heat(page, column) for column in (1, 2)]
    box = squares.nth(3).bounding_box()  # the second block of the second stage
    assert box is not None
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    in_address(page, block="Stage 2 block 2")
    before = [heat(page, column, old) for column, old in zip((1, 2), first, strict=True)]

    # 16 x 16 tokens: the 15th row and the second column, in a window whose parts lie at four corners.
    click_at(page, 1, 1.5 / 16, 14.5 / 16)
    in_address(page, row="15", column="2")
    expect(page.get_by_role("spinbutton", name="Row")).to_have_value("15")
    clicked = heat(page, 1, before[0])
    heat(page, 2, before[1])

    page.get_by_role("radio", name="3", exact=True).or_(page.get_by_role("button", name="3", exact=True)).click()
    in_address(page, head="3")
    by_head = heat(page, 1, clicked)
    expect(page.locator(f"{MAPS} .head .title").nth(1)).to_contain_text("head 3")

    row = page.get_by_role("spinbutton", name="Row")
    row.fill("4")
    row.press("Enter")
    in_address(page, row="4")
    by_key = heat(page, 1, by_head)

    # The same token again after another one, on the image: a selection is no switch.
    click_at(page, 0, 1.5 / 16, 14.5 / 16)
    in_address(page, row="15", column="2")
    assert heat(page, 1, by_key) == by_head


def test_images_are_square_and_the_page_does_not_scroll_sideways(visit: Open) -> None:
    page = visit({"panel": "Windows", "block": "Stage 2 block 2", "drawn": "Shift"})
    for size in (WIDE, NARROW):
        seen_as(page, "dark", size)
        for name in ("windows_picture", "rolled_picture"):
            (box,) = boxes(page, f".st-key-{name} .imagelayer image", 1)
            (room,) = boxes(page, f".st-key-sized_{name}")
            assert box["width"] == pytest.approx(box["height"], abs=1.5)
            assert box["width"] == pytest.approx(room["width"], abs=3)
            assert room["height"] == pytest.approx(box["height"], abs=3)
            assert box["width"] > 300
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]


def test_the_equation_opens(visit: Open) -> None:
    page = visit({"panel": "Cost"})
    page.get_by_role("button", name=re.compile("Equation")).click()
    shown = page.get_by_test_id("stPopoverBody")
    expect(shown.locator(".katex").first).to_be_visible()
    assert shown.locator(".katex").count() == 2
    assert shown.locator(".katex-error").count() == 0


def test_invalid_query_parameters_are_reported(visit: Open) -> None:
    page = visit({"panel": "Attention", "block": "Stage 7 block 1", "row": "99", "head": "x"})
    alert = page.get_by_test_id("stAlert")
    for words in ("block=Stage 7 block 1", "row=99", "head=x"):
        expect(alert).to_contain_text(words)
    heat(page, 1)


def test_a_look_is_dragged_without_a_message_and_the_crosshair_is_linked(visit: Open) -> None:
    page = visit({"panel": "Attention", "block": "Stage 2 block 2"})
    before, sent = heat(page, 2), messages(page)
    slider = page.get_by_role("slider", name="Opacity", exact=True)
    slider.evaluate("input => { input.value = 20; input.dispatchEvent(new Event('input')); }")
    heat(page, 2, before)
    assert sent == []
    page.locator(f"{MAPS} .frame").nth(0).hover(position={"x": 40, "y": 40})
    expect(page.locator(f"{MAPS} .frame.crossed")).to_have_count(3)
    expect(page.locator(f"{MAPS} .frame").nth(1).locator(".chip")).to_contain_text("%")


def test_the_shift_is_stepped_by_keys_to_the_map_as_it_is_computed(visit: Open) -> None:
    """The third step is the image rolled as the block rolls it; without motion each step is there at once."""
    page = visit({"panel": "Windows", "block": "Stage 2 block 2"})
    page.emulate_media(reduced_motion="reduce")
    figure = page.locator(".shift-figure")
    words = figure.get_by_role("status")
    expect(words).to_contain_text("1 of 4")
    for key in ("ArrowRight", "ArrowRight"):
        figure.press(key)
    expect(words).to_contain_text("3 of 4")
    source = figure.locator("canvas").evaluate("canvas => canvas.toDataURL('image/png')")
    seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).convert("RGB")).astype(int)
    model = swin_core.load("swin_micro_flowers")
    block = next(block for block in anatomy(model).blocks if block.title == "Stage 2 block 2")
    view = model.view(swin_core.read_image(sample_images()["cat"]))
    rolled = rolled_view(view, block.positions(), anatomy(model).token_size(block))
    expected = np.asarray(Image.fromarray(rolled).resize(seen.shape[1::-1], Image.Resampling.NEAREST))
    assert np.median(np.abs(seen - expected).max(-1)) <= 2  # lines are drawn over the rest
    assert (np.abs(seen - expected).max(-1) > 8).mean() < 0.1
    figure.press("End")
    expect(words).to_contain_text("4 of 4")
    figure.get_by_role("button", name="Play").click()
    expect(words).to_contain_text("1 of 4")
    expect(words).to_contain_text("2 of 4")
    figure.get_by_role("button", name="Pause").click()
    expect(figure.get_by_role("button", name="Play")).to_be_visible()
    assert findings(page, ".st-key-shift") == []

    # With motion it moves.
    page.emulate_media(reduced_motion="no-preference")
    figure.press("Home")
    expect(words).to_contain_text("1 of 4")
    page.wait_for_timeout(2000)
    canvas = page.locator(".shift-figure canvas")
    drawings = [canvas.evaluate("canvas => canvas.toDataURL()")]
    page.locator(".shift-figure").get_by_role("button", name="Next").click()
    between = "canvas => new Promise(done => setTimeout(() => done(canvas.toDataURL()), 500))"
    drawings += [canvas.evaluate(between), canvas.evaluate(between.replace("500", "1500"))]
    assert len(set(drawings)) == 3
