"""The brush in Chromium: what it sends, by mouse, touch and keyboard, and that its strokes are drawn as the mask."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page

from swin_core.attribution.strokes import parse_strokes
from tests.fixtures.browser import NARROW, WIDE, browser, findings, windows

__all__ = ["browser"]

SCRIPT = files("swin_core.figures").joinpath("viewer", "brush.js").read_text("utf-8")
# The cell shows the middle half of the photo's width and its whole height.
PAGE = """<!DOCTYPE html><html lang="en"><title>Brush</title><body style="margin: 0"><main>
<div id="cell" style="position: relative; width: 300px; height: 300px; background: #7a8"></div></main></body></html>"""
START = """
window.sent = [];
const cell = document.getElementById("cell");
const toPhoto = (x, y) => {
  const box = cell.getBoundingClientRect();
  return [0.25 + 0.5 * (x - box.left) / box.width, (y - box.top) / box.height];
};
window.strokesText = strokesText;
window.brush = attachBrush(cell, toPhoto, {onStroke: (stroke) => window.sent.push(stroke)},
  {strokes: [], fill: "blur", keep: false, fills: {blur: "the blurred image", mean: "the mean colour"}});
"""


@pytest.fixture(params=[WIDE, NARROW], ids=["mouse", "touch"])
def page(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    with windows(browser) as open_window:
        page = open_window(request.param)
        page.set_default_timeout(10_000)
        page.set_content(PAGE)
        page.add_script_tag(type="module", content=SCRIPT + START)
        page.wait_for_function("window.brush")
        yield page


def sent(page: Page) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = page.evaluate("sent")
    return found


def answer(page: Page, **brush: Any) -> None:
    """Answer as a host does: with the strokes that it has understood."""
    last = sent(page)[-1]
    strokes = parse_strokes(last["strokes"]).vectors() if last["strokes"] else []
    page.evaluate("brush => window.brush.update(brush)", {**last, "strokes": strokes, **brush})


def drag(page: Page, *points: tuple[float, float]) -> None:
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=5)
    page.mouse.up()


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def canvas(page: Page) -> np.ndarray:
    content = page.evaluate("document.querySelector('.brush-canvas').toDataURL()")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content.split(",")[1]))).convert("RGBA"))


def test_a_stroke_is_sent_when_it_ends_and_covers_its_mask(page: Page) -> None:
    press(page, "Brush")
    page.get_by_label("Brush size").fill("20")
    page.mouse.move(60, 60)
    page.mouse.down()
    page.mouse.move(150, 90, steps=9)
    page.mouse.move(240, 210, steps=9)
    assert sent(page) == []
    page.mouse.up()
    (stroke,) = sent(page)
    assert stroke.pop("time") > 0
    assert stroke == {"strokes": "b200-350.200-500.300-650.700", "fill": "blur", "keep": False}
    # The photo is twice as wide as the cell; the region is striped until the answer comes, then outlined.
    mask = parse_strokes(stroke["strokes"]).mask(300, 600)[:, 150:450]
    ratio = page.evaluate("devicePixelRatio")
    size = (round(300 * ratio), round(300 * ratio))
    expected = np.asarray(Image.fromarray(mask).resize(size))
    striped = canvas(page)[..., 3] > 0
    assert (striped != expected).mean() < 0.02
    answer(page)
    ring = canvas(page)[..., 3] > 0
    assert not ring[expected].mean() > 0.1
    assert 0 < ring.mean() < 0.1
    page.evaluate("window.brush.destroy()")
    assert page.locator("#cell ~ *, #cell *").count() == 0


def test_a_click_paints_a_dot(page: Page) -> None:
    press(page, "Brush")
    page.get_by_label("Brush size").fill("20")
    page.mouse.click(150, 150)
    (stroke,) = sent(page)
    mask = parse_strokes(stroke["strokes"]).mask(300, 600)[:, 150:450]
    striped = canvas(page)[..., 3] > 0
    assert (striped != np.asarray(Image.fromarray(mask).resize(striped.shape))).mean() < 0.005
    assert striped.any()


def test_rectangle_eraser_undo_reset_fill_and_keep(page: Page) -> None:
    press(page, "Rectangle")
    drag(page, (30, 30), (120, 90))
    answer(page)
    press(page, "Eraser")
    page.get_by_label("Brush size").fill("10")
    drag(page, (60, 60), (61, 60))
    answer(page)
    page.get_by_label("Replace the region by").select_option("mean")
    answer(page)
    page.get_by_label("Keep only this").check()
    answer(page)
    press(page, "Undo stroke")
    answer(page)
    press(page, "Remove all strokes")
    answer(page)
    both = "r-300.100-450.300_e100-350.200-352.200"
    assert [(each["strokes"], each["fill"], each["keep"]) for each in sent(page)] == [
        ("r-300.100-450.300", "blur", False),
        (both, "blur", False),
        (both, "mean", False),
        (both, "mean", True),
        ("r-300.100-450.300", "mean", True),
        ("", "mean", True),
    ]
    assert not canvas(page).any()
    for name in ("Undo stroke", "Remove all strokes"):
        assert page.get_by_role("button", name=name).is_disabled()


def test_keyboard_alone_places_a_rectangle(page: Page) -> None:
    page.get_by_role("button", name="Rectangle").focus()
    page.keyboard.press("Enter")
    page.locator(".brush-canvas").focus()
    for key in ("Shift+ArrowLeft", "ArrowUp", "Enter", "Shift+ArrowRight", "Shift+ArrowDown", "ArrowDown"):
        page.keyboard.press(key)
    assert page.get_by_role("status").inner_text() == "50 % from the left, 60 % from the top"
    assert sent(page) == []
    page.keyboard.press("Enter")
    assert sent(page)[0]["strokes"] == "r-400.480-500.600"
    answer(page)
    page.keyboard.press("Control+z")
    assert sent(page)[1]["strokes"] == ""
    answer(page)
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")  # ends the rectangle, then leaves the area
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Rectangle"
    assert len(sent(page)) == 2


def test_an_answer_to_an_earlier_stroke_does_not_undo_the_next(page: Page) -> None:
    press(page, "Rectangle")
    drag(page, (30, 30), (60, 60))
    first = sent(page)[0]
    drag(page, (90, 90), (120, 120))
    vectors = parse_strokes(first["strokes"]).vectors()
    page.evaluate("brush => window.brush.update(brush)", {**first, "strokes": vectors})
    press(page, "Undo stroke")
    assert [each["strokes"] for each in sent(page)] == [
        "r-300.100-350.200",
        "r-300.100-350.200_r-400.300-450.400",
        "r-300.100-350.200",
    ]


def test_an_answer_that_a_newer_one_has_overtaken_does_not_take_strokes_back(page: Page) -> None:
    """Each stroke is answered twice: at once, and by the page, which takes longer."""
    press(page, "Rectangle")
    drag(page, (30, 30), (60, 60))
    first = sent(page)[0]
    answer(page)
    drag(page, (90, 90), (120, 120))
    answer(page)
    vectors = parse_strokes(first["strokes"]).vectors()
    page.evaluate("brush => window.brush.update(brush)", {**first, "strokes": vectors})
    drag(page, (150, 150), (180, 180))
    assert sent(page)[-1]["strokes"] == "r-300.100-350.200_r-400.300-450.400_r-500.500-550.600"
    # What the host knows by then is adopted, also when it is the region of before (Back in the browser).
    page.evaluate("brush => window.brush.update(brush)", {**first, "strokes": vectors, "time": sent(page)[-1]["time"]})
    press(page, "Undo stroke")
    assert sent(page)[-1]["strokes"] == ""


def test_the_fill_is_that_of_the_page_also_before_the_first_stroke(page: Page) -> None:
    page.evaluate("brush => window.brush.update(brush)", {"strokes": [], "fill": "mean", "keep": True})
    press(page, "Rectangle")
    assert page.get_by_label("Replace the region by").input_value() == "mean"
    assert page.get_by_label("Keep only this").is_checked()
    page.get_by_label("Replace the region by").select_option("blur")
    assert [(each["strokes"], each["fill"], each["keep"]) for each in sent(page)] == [("", "blur", True)]
    answer(page)
    drag(page, (30, 30), (60, 60))
    assert (sent(page)[-1]["fill"], sent(page)[-1]["keep"]) == ("blur", True)


def test_another_photo_takes_the_place_of_a_stroke_without_an_answer(page: Page) -> None:
    press(page, "Rectangle")
    drag(page, (30, 30), (60, 60))
    assert canvas(page).any()
    page.evaluate("brush.update({strokes: [], fill: 'blur', keep: false, image: 'other'})")
    assert not canvas(page).any()
    assert page.get_by_role("button", name="Undo stroke").is_disabled()
    drag(page, (90, 90), (120, 120))
    assert sent(page)[-1]["strokes"] == "r-400.300-450.400"


def test_a_click_without_a_tool_stays_with_the_cell(page: Page) -> None:
    page.evaluate("() => { window.clicks = 0; document.getElementById('cell').onclick = () => window.clicks++; }")
    page.mouse.click(100, 100)
    assert page.evaluate("clicks") == 1
    press(page, "Brush")
    page.mouse.click(100, 100)
    assert page.evaluate("clicks") == 1
    assert len(sent(page)) == 1
    press(page, "Brush")
    page.mouse.click(100, 100)
    assert page.evaluate("clicks") == 2


def test_long_strokes_are_simplified_and_a_full_region_says_so(page: Page) -> None:
    text = page.evaluate("strokesText([{tool: 'brush', size: 0, points: [[-0.2, 0.5], [1.5, 0.12345]]}])")
    assert text == "b1-0.500-1000.123"
    many = [{"tool": "brush", "size": 0.1, "points": [[0.5, 0.5]] * 799}]
    page.evaluate("brush => window.brush.update(brush)", {"strokes": many, "fill": "blur", "keep": False})
    press(page, "Rectangle")
    drag(page, (30, 30), (60, 60))
    assert page.get_by_role("status").inner_text() == "The region is full: undo strokes, or remove all."
    assert sent(page) == []


def test_tools_are_accessible(page: Page) -> None:
    press(page, "Brush")
    assert findings(page) == []
