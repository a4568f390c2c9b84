"""Tests of the demo in a browser, at two widths and in both themes."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

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
            expect(page.locator(".swin-bars")).to_have_count(2, timeout=PATIENCE)
            return page

        yield visit
    assert not foreign


def test_an_example_is_explained_with_a_slider(visit: Open) -> None:
    page = visit()
    heads = page.locator(".swin-head")
    expect(heads).to_have_text(["Image", *OURS])
    expect(page.locator("figcaption").first).to_contain_text("true class: rose")
    page.get_by_role("button", name="tulip").click()
    expect(page.locator("figcaption").first).to_contain_text("true class: tulip", timeout=PATIENCE)
    expect(page.locator(".swin-grid figure").nth(1)).to_contain_text("tulips", timeout=PATIENCE)
    maps = page.locator(".swin-grid img")
    expect(maps).to_have_count(3)
    assert all(maps.nth(number).evaluate("image => image.naturalWidth >= 256") for number in range(3))
    assert all(maps.nth(number).get_attribute("alt") for number in range(3))
    expect(page.locator(".slider-wrap")).to_be_visible()
    sides = page.locator(".slider-wrap img")
    assert sides.evaluate_all("all => all.map(image => image.naturalWidth)") == [512, 512]


def test_another_model_adds_a_heat_map(visit: Open) -> None:
    """The class names of this model are markup, and are shown as text."""
    page = visit()
    page.get_by_label(HOSTILE[0], exact=True).check()
    expect(page.locator(".swin-head")).to_have_text(["Image", *OURS, HOSTILE[0]], timeout=PATIENCE)
    expect(page.locator(".swin-grid figure").nth(3).locator("li")).to_have_count(5)
    assert page.locator("img[src='x']").count() == 0


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
    for part in (".swin-grid", ".slider-wrap", ".swin-scale"):
        box = page.locator(part).first.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= size[0]
        assert box["height"] > 8
    assert findings(page) == []
