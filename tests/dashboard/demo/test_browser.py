"""Tests of the demo in a browser, at two widths and in both themes."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

import swin_core
from dashboard.shared.model_names import column_titles, sample_images
from dashboard.shared.samples import first_sample
from swin_core.attribution.what_if import what_if
from swin_core.figures.text import percent
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


def paint(page: Page, *corners: tuple[float, float]) -> None:
    """Draw a rectangle between two places of the image, in fractions of it."""
    box = page.locator(".brush-canvas").bounding_box()
    assert box is not None
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.mouse.move(*places[0])
    page.mouse.down()
    page.mouse.move(*places[1], steps=4)
    page.mouse.up()


def test_a_stroke_is_answered_beside_the_old_probabilities(visit: Open) -> None:
    """The answer is that of swin_core; another image has no strokes, and the first one has them again."""
    page = visit()
    old = page.locator(".viewer").element_handle()
    page.get_by_role("button", name="Rectangle", exact=True).click()
    paint(page, (0.25, 0.2), (0.75, 0.7))
    note = page.locator(".caption small", has_text="logit")
    expect(note).to_have_count(2, timeout=PATIENCE)
    assert old is not None
    assert old.evaluate("viewer => viewer.isConnected")  # the old answer stayed in view
    sample = first_sample(OURS)
    for number, name in enumerate(OURS, 1):
        found = what_if(swin_core.load(name), sample_images()[sample], "r-250.200-750.700")
        label, probability = found.after.top_classes(1)[0]
        was = float(found.before.probabilities[found.before.labels.index(label)])
        words = f"{label}{percent(probability)}was {percent(was)}"
        expect(page.locator(".viewer .cell").nth(number).locator(".class").first).to_contain_text(words)
    other = "tulip" if sample != "tulip" else "cat"
    page.get_by_role("button", name=other, exact=True).click()
    expect(page.locator(".viewer .cell").first).to_contain_text(f"true class: {other}", timeout=PATIENCE)
    expect(note).to_have_count(0)
    page.get_by_role("button", name=sample, exact=True).click()
    expect(note).to_have_count(2, timeout=PATIENCE)
    page.get_by_role("button", name="Remove all strokes").click()
    expect(note).to_have_count(0, timeout=PATIENCE)


def test_another_image_chosen_at_once_drops_the_stroke(visit: Open) -> None:
    page = visit()
    page.get_by_role("button", name="Rectangle", exact=True).click()
    paint(page, (0.25, 0.2), (0.75, 0.7))
    page.get_by_role("button", name="cup", exact=True).click()
    expect(page.locator(".viewer .cell").first).to_contain_text("true class: cup", timeout=PATIENCE)
    expect(page.locator(".brush-tools")).to_have_attribute("aria-busy", "false")
    expect(page.get_by_role("button", name="Undo stroke")).to_be_disabled()


def test_a_phone_shows_one_map_at_a_time(visit: Open) -> None:
    page = visit(NARROW)
    box = page.locator(".viewer .cell").nth(1).bounding_box()
    assert box is not None
    assert 200 < box["width"] < NARROW[0]
    expect(page.get_by_role("button", name="Look")).to_be_visible()


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
