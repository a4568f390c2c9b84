"""The timeline of a run in a browser: the chosen epoch is scrolled into view."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.fixtures.browser import NARROW, PATIENCE, Server, at_rest, browser, visible, windows
from tests.fixtures.pages import FLOWERS, save_model

__all__ = ["browser"]

EPOCHS = 12
RUN = "20260101-120000-mine"
INSIDE = """() => {
    const strip = document.querySelector(".timeline");
    const frame = strip.getBoundingClientRect(), here = strip.querySelector(".here").getBoundingClientRect();
    return [frame.left, here.left, here.right, frame.right, strip.scrollWidth - strip.clientWidth];
}"""


@pytest.fixture
def run(dashboard: Server) -> Iterator[str]:
    """The name of a run with weights of many epochs."""
    folder = dashboard.home / "runs" / RUN
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.json").write_text('{"name": "mine"}')
    for epoch in range(1, EPOCHS + 1):
        save_model(folder / "checkpoints", f"epoch-{epoch:04}", FLOWERS, epoch)
    save_model(folder, "model", FLOWERS, EPOCHS)
    yield RUN
    shutil.rmtree(folder)


def expect_epoch_in_view(page: Page, epoch: int) -> None:
    caption = page.locator(".timeline .here figcaption")
    expect(caption).to_have_text(re.compile(rf"^{epoch}\s"), use_inner_text=True, timeout=PATIENCE)
    at_rest(page)
    left, start, end, right, hidden = page.evaluate(INSIDE)
    assert hidden > right - left  # most of the strip cannot be seen at a time
    assert left <= start < end <= right


def test_on_a_phone_the_chosen_epoch_is_in_view(dashboard: Server, browser: Browser, run: str) -> None:
    with windows(browser) as open_window:
        page = open_window(NARROW)
        page.goto(f"{dashboard.address}/?sample=tulip&model={run}&trust=false")
        visible(page.locator(".st-key-grid .frame").first)
        at_rest(page)
        page.get_by_text("Heat maps over the epochs").click()
        expect_epoch_in_view(page, EPOCHS)
        slider = page.get_by_role("slider", name="Epoch")
        slider.focus()
        for _ in range(5):
            page.keyboard.press("ArrowLeft")
        expect_epoch_in_view(page, EPOCHS - 5)
        slider.focus()
        page.keyboard.press("Home")
        expect_epoch_in_view(page, 1)
