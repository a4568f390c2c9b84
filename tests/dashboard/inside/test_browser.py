"""Tests of the Inside page in a browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.fixtures.browser import (
    NARROW,
    SUBPAGE,
    WIDE,
    Open,
    Server,
    at_rest,
    boxes,
    browser,
    dashboard,
    drawn,
    visible,
    windows,
)

__all__ = ["browser", "dashboard"]

PICTURE, ROLLED = ".st-key-attention_picture", ".st-key-rolled_out"


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


def click_at(page: Page, selector: str, across: float, down: float) -> None:
    """Click an image at a position given as fractions of its width and height."""
    page.locator(selector).scroll_into_view_if_needed()
    (box,) = boxes(page, f"{selector} .imagelayer image", 1)
    page.mouse.move(box["x"] + across * box["width"] - 3, box["y"] + down * box["height"] - 3)
    page.mouse.click(box["x"] + across * box["width"], box["y"] + down * box["height"])


def in_address(page: Page, **values: str) -> None:
    """Wait until the URL has these query parameters."""
    for key, value in values.items():
        page.wait_for_url(lambda url, key=key, value=value: parse_qs(urlsplit(url).query).get(key) == [value])
    at_rest(page)


def test_block_and_token_are_chosen_by_mouse_and_keyboard(visit: Open) -> None:
    page = visit({"panel": "Attention", "block": "Stage 1 block 1"})
    squares = page.locator(".st-key-stages_chart .shapelayer path")
    assert squares.count() == 8
    first = [drawn(page, one) for one in (PICTURE, ROLLED)]
    box = squares.nth(3).bounding_box()  # the second block of the second stage
    assert box is not None
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    in_address(page, block="Stage 2 block 2")
    before = [drawn(page, one, old) for one, old in zip((PICTURE, ROLLED), first, strict=True)]

    # 16 x 16 tokens: the 15th row and the second column, in a window whose parts lie at four corners.
    click_at(page, PICTURE, 1.5 / 16, 14.5 / 16)
    in_address(page, row="15", column="2")
    expect(page.get_by_role("spinbutton", name="Row")).to_have_value("15")
    clicked = drawn(page, PICTURE, before[0])
    drawn(page, ROLLED, before[1])

    page.get_by_role("radio", name="3", exact=True).or_(page.get_by_role("button", name="3", exact=True)).click()
    in_address(page, head="3")
    by_head = drawn(page, PICTURE, clicked)
    expect(page.get_by_text("head 3", exact=False).first).to_be_visible()

    row = page.get_by_role("spinbutton", name="Row")
    row.fill("4")
    row.press("Enter")
    in_address(page, row="4")
    by_key = drawn(page, PICTURE, by_head)

    # The same token again after another one: a selection is no switch.
    click_at(page, PICTURE, 1.5 / 16, 14.5 / 16)
    in_address(page, row="15", column="2")
    assert drawn(page, PICTURE, by_key) == by_head


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_images_are_square_and_the_page_does_not_scroll_sideways(visit: Open, size: tuple[int, int]) -> None:
    page = visit({"panel": "Windows", "block": "Stage 2 block 2", "drawn": "Shift"}, size, "dark")
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
    drawn(page, PICTURE)
