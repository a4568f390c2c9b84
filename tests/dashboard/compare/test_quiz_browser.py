"""The quiz in Chromium: by keyboard on a wide screen, by touch on a phone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.fixtures.browser import NARROW, SUBPAGE, WIDE, Open, Server, browser, findings, visible, windows

__all__ = ["browser"]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def open_window(browser: Browser) -> Iterator[Open]:
    with windows(browser, SUBPAGE) as opened:
        yield opened


def test_a_guess_by_keyboard_shows_the_map_and_the_score(dashboard: Server, open_window: Open) -> None:
    page = open_window(WIDE, "dark")
    page.goto(f"{dashboard.address}/?sample=tulip&model=swin_micro_flowers&trust=false")
    page.get_by_role("button", name="More").click()
    page.get_by_role("link", name="Quiz: where does it look?").click()
    board = page.get_by_role("application")
    visible(board)
    before = page.locator(".photo").get_attribute("src")
    board.focus()
    for key in ("ArrowRight", "Shift+ArrowUp", "ArrowDown"):
        page.keyboard.press(key)
    expect(page.get_by_role("status").filter(has_text="from the left")).to_have_text(
        "52 % from the left, 42 % from the top"
    )
    assert findings(page) == []
    page.keyboard.press("Enter")
    visible(page.get_by_role("button", name="Next image"))
    visible(page.get_by_text("points: your circle holds"))
    assert page.locator(".photo").get_attribute("src") != before
    visible(page.locator(".best"))
    assert findings(page) == []


def test_a_guess_by_touch_on_a_phone(dashboard: Server, open_window: Open) -> None:
    page = open_window(NARROW)
    page.goto(f"{dashboard.address}/quiz?quiz=3")
    board = page.get_by_role("application")
    visible(board)
    box = board.bounding_box()
    assert box is not None
    page.touchscreen.tap(box["x"] + 0.25 * box["width"], box["y"] + 0.75 * box["height"])
    expect(page.get_by_role("status").filter(has_text="from the left")).to_have_text(
        "25 % from the left, 75 % from the top"
    )
    page.get_by_role("button", name="This is my guess").tap()
    visible(page.get_by_role("button", name="Next image"))
    own = page.locator(".own").bounding_box()
    assert own is not None
    assert own["x"] + own["width"] / 2 == pytest.approx(box["x"] + 0.25 * box["width"], abs=2)
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW[0]
