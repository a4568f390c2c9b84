"""Tests of the demo in a browser, at two widths and in both themes."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from dashboard.shared.model_names import column_titles
from tests.fixtures.browser import NARROW, PATIENCE, WIDE, Open, browser, findings, windows
from tests.fixtures.demo import HOSTILE, OURS, Started, with_random_models

__all__ = ["browser"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    yield from with_random_models(tmp_path_factory.mktemp("demo"))


@pytest.fixture
def visit(demo: Started, browser: Browser) -> Iterator[Open]:
    """Open the page in a window of its own; it must not contact other servers."""
    own = (demo.address, "data:", "blob:")
    foreign: list[str] = []
    with windows(browser) as open_window:

        def visit(size: tuple[int, int] = WIDE, scheme: str = "light") -> Page:
            page = open_window(size, scheme)
            page.on("request", lambda request: None if request.url.startswith(own) else foreign.append(request.url))
            page.goto(demo.address)
            expect(page.locator(".viewer .cell .class").first).to_be_visible(timeout=PATIENCE)
            return page

        yield visit
    assert not foreign


def test_an_example_is_explained(visit: Open) -> None:
    page = visit()
    expect(page.locator(".viewer .head .title")).to_have_text(["Image", *column_titles(OURS)])
    cells = page.locator(".viewer .cell")
    expect(cells.first).to_contain_text("true class: rose")
    page.get_by_role("button", name="tulip", exact=True).click()
    expect(cells.first).to_contain_text("true class: tulip", timeout=PATIENCE)
    expect(cells.nth(1)).to_contain_text("tulips", timeout=PATIENCE)
    expect(page.locator(".swin-notice")).to_have_count(0)


def test_another_model_adds_a_heat_map(visit: Open) -> None:
    """The class names of this model are markup, and are shown as text."""
    page = visit()
    page.get_by_label("Models, up to 4").click()
    page.get_by_role("option", name=HOSTILE[0]).click()
    expect(page.locator(".viewer .cell")).to_have_count(4, timeout=PATIENCE)
    expect(page.locator(".viewer .cell").nth(3).locator(".class")).to_have_count(3)
    assert page.locator("img[src='x']").count() == 0


def test_a_class_that_is_clicked_is_explained(visit: Open) -> None:
    page = visit()
    other = page.locator(".viewer .cell").nth(1).locator(".class:not(.explained)").first
    label = other.locator(".word").inner_text()
    other.click()
    explained = page.locator(".viewer .cell").nth(1).locator(".class.explained .word")
    expect(explained).to_have_text(label, timeout=PATIENCE)
    expect(page.get_by_label("Class", exact=True)).to_have_value(label)


def test_an_invalid_upload_is_reported(visit: Open) -> None:
    page = visit()
    page.get_by_label("Remove Image").click()
    expect(page.locator(".swin-notice")).to_contain_text("there is no image", timeout=PATIENCE)
    broken = {"name": "broken.png", "mimeType": "image/png", "buffer": b"\x89PNG\r\n\x1a\n" + bytes(50)}
    page.locator("input[type=file]").first.set_input_files(broken)  # type: ignore[arg-type]
    expect(page.locator(".swin-notice")).to_contain_text("damaged", timeout=PATIENCE)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_layout_and_accessibility(visit: Open, size: tuple[int, int], scheme: str) -> None:
    page = visit(size, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    shades = [int(number) for number in re.findall(r"\d+", ground)[:3]]
    assert (max(shades) < 60) if scheme == "dark" else (min(shades) > 200)
    for part in (".swin-viewer", ".viewer .legend"):
        box = page.locator(part).first.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= size[0]
        assert box["height"] > 8
    assert findings(page) == []
