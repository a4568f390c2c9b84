"""Classes and columns of the viewer in Chromium: clicks, drags and keys."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from swin_core.figures.grid import Cell
from swin_core.figures.viewer_payload import viewer_payload
from tests.fixtures.browser import browser
from tests.fixtures.grids import maker
from tests.fixtures.viewer_page import SHOW, grid_of, made, page, show

__all__ = ["browser", "page"]


def test_a_class_is_asked_for_by_a_click_and_against_another_by_a_drag(page: Page) -> None:
    show(page, grid_of([Cell(made(maker()))]))
    classes = page.locator(".class")
    classes.nth(1).click()
    classes.nth(2).drag_to(classes.nth(0))
    classes.nth(1).focus()
    page.keyboard.press("Shift+Enter")
    first, second, third = (entry["label"] for entry in page.evaluate("mounted.viewer.rows[0][1].data.classes"))
    place = {"row": 0, "column": 0}
    assert page.evaluate("calls") == [
        ["class", {**place, "label": second}],
        ["class", {**place, "label": third, "against": first}],
        ["class", {**place, "label": second, "against": first}],
    ]


def test_what_is_dropped_on_a_class_is_a_contrast_only_if_it_is_a_class(page: Page) -> None:
    show(page, grid_of([Cell(made(maker()))]))
    first, last = page.locator(".class").first, page.locator(".class").last
    assert "Shift+Enter" in (first.get_attribute("title") or "")
    last.drag_to(page.locator(".title").first)
    page.evaluate("document.querySelector('.class').dispatchEvent(new DragEvent('drop', {bubbles: true}))")
    assert page.evaluate("calls") == []


def test_a_host_without_contrasts_offers_none(page: Page) -> None:
    with_contrast = page.evaluate_handle("callbacks")
    page.evaluate("window.callbacks = {onClass: callbacks.onClass}")
    show(page, grid_of([Cell(made(maker()))]))
    second = page.locator(".class").nth(1)
    label = page.evaluate("mounted.viewer.rows[0][1].data.classes[1].label")
    assert second.get_attribute("title") == f"Explain {label}"
    assert second.get_attribute("draggable") != "true"
    second.drag_to(page.locator(".class").first)
    assert page.evaluate("calls.filter(([, asked]) => asked.against)") == []
    page.evaluate("before => { window.callbacks = before; }", with_contrast)


def test_a_column_is_moved_by_drag_and_by_keys_and_removed(page: Page) -> None:
    payload = viewer_payload(grid_of([Cell(made(maker())) for _ in range(3)]))
    for column in payload["columns"]:
        column |= {"subtitle": "5 flowers", "movable": True}
    page.evaluate("callbacks.onColumn = change => calls.push(['column', change])")
    page.evaluate(SHOW, {"payload": payload, "keep": False})
    heads = page.locator(".heads .head")
    expect(heads.nth(1)).to_contain_text("5 flowers")
    heads.nth(3).drag_to(heads.nth(1))
    right = page.get_by_role("button", name="Move model 0 to the right")
    right.focus()
    page.keyboard.press("Enter")
    # The host answers; the moved column keeps the focus.
    payload["columns"] = [payload["columns"][number] for number in (1, 0, 2)]
    moved = page.evaluate("calls")
    page.evaluate(SHOW, {"payload": payload, "keep": True})
    expect(right).to_be_focused()
    # At an end it has one button left.
    page.keyboard.press("Enter")
    moved += page.evaluate("calls")
    payload["columns"] = [payload["columns"][number] for number in (0, 2, 1)]
    page.evaluate(SHOW, {"payload": payload, "keep": True})
    expect(page.get_by_role("button", name="Move model 0 to the left")).to_be_focused()
    page.get_by_role("button", name="Remove model 2").click()
    assert [*moved, *page.evaluate("calls")] == [
        ["column", {"column": 2, "title": "model 2", "to": 0}],
        ["column", {"column": 0, "title": "model 0", "to": 1}],
        ["column", {"column": 1, "title": "model 0", "to": 2}],
        ["column", {"column": 1, "title": "model 2", "to": None}],
    ]
    assert page.get_by_role("button", name="Move model 0 to the right").count() == 0
    page.set_viewport_size({"width": 390, "height": 844})  # each cell has its title, and the first row the buttons
    left = page.locator(".cell").get_by_role("button", name="Move model 0 to the left")
    left.focus()
    page.keyboard.press("Enter")
    payload["columns"] = [payload["columns"][number] for number in (0, 2, 1)]
    page.evaluate(SHOW, {"payload": payload, "keep": True})
    expect(left).to_be_focused()
    page.set_viewport_size({"width": 1300, "height": 1000})
    page.evaluate("delete callbacks.onColumn")
    show(page, grid_of([Cell(made(maker()))]))
    assert page.locator(".heads button").count() == 0
