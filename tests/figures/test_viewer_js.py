"""The viewer in Chromium: its colours against the server's drawing, and what mouse, touch and keys do."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from swin_core.attribution.overlay import COLORMAPS, Look
from swin_core.attribution.regions import bilinear
from swin_core.attribution.strokes import Strokes
from swin_core.figures.cell_image import cell_overlay
from swin_core.figures.grid import Cell
from swin_core.figures.viewer_payload import brush_payload, viewer_payload
from tests.fixtures.browser import browser, findings
from tests.fixtures.grids import maker
from tests.fixtures.viewer_page import SHOW, frame, grid_of, made, page, pixels, show, smooth, values

__all__ = ["browser", "page"]

ATTACK = "<img src=x onerror=window.hit=1>"


# -- colours


def test_colours_equal_the_servers_for_every_look(page: Page) -> None:
    make = maker()
    coarse, fine = made(make), made(make, (224, 224), 256)
    fine.maps[:] = bilinear(fine.maps[0, 0, ::56, ::56], 224, 224) ** 2
    strong = replace(coarse, maps=coarse.maps * 2)
    signed = replace(coarse, maps=coarse.maps - coarse.maps.mean())
    small = replace(made(make, size=32), region=(0, 0, 32, 32))
    looks = [Look(name, 0.8, 0.2, scale) for name in COLORMAPS for scale in ("cell", "shared")]
    looks += [Look(opacity=1.0), Look(opacity=0.0), Look(threshold=0.6), Look(image=False), Look(wipe="image")]
    looks += [Look(contours=(0.25, 0.75)), Look(contours=(0.4,), scale="shared", wipe="1", split=0.7)]
    for cells in ([coarse, fine, strong, small], [signed, coarse, strong, fine]):
        for number, look in enumerate(looks):
            grid = grid_of([Cell(one) for one in cells], look=look)
            show(page, grid, keep=number > 0)
            for column, cell in enumerate(grid.rows[0].cells):
                difference = np.abs(pixels(page, 0, column) - cell_overlay(grid, grid.rows[0], cell))
                assert difference.mean() < 2, (look, column, difference.mean())


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_the_screen_shows_what_the_export_and_the_server_draw(page: Page, width: int, scheme: Any) -> None:
    page.set_viewport_size({"width": width, "height": 1000})
    page.emulate_media(color_scheme=scheme)
    grid = grid_of([Cell(made(maker()))], look=Look(opacity=1.0))
    show(page, grid)
    frame(page, 0, 0).scroll_into_view_if_needed()
    shot = Image.open(io.BytesIO(frame(page, 0, 0).screenshot())).convert("RGB")
    side = min(shot.size)
    inner = (slice(side // 10, -side // 10),) * 2  # without the round corners
    for drawing in (pixels(page, 0, 0), cell_overlay(grid, grid.rows[0], grid.rows[0].cells[0])):
        expected = Image.fromarray(drawing.astype(np.uint8)).resize(shot.size, Image.Resampling.BILINEAR)
        difference = np.abs(np.asarray(shot).astype(int) - np.asarray(expected))[inner]
        assert difference.mean() < 2
    page.set_viewport_size({"width": 1300, "height": 1000})


def test_a_map_with_almost_no_signal_is_grey_and_says_so(page: Page) -> None:
    strong = made(maker())
    weak = replace(strong, maps=strong.maps * 0.005)
    grid = grid_of([Cell(strong), Cell(weak)])
    show(page, grid)
    assert [message for message in page.locator(".message").all_inner_texts() if message] == ["Almost no signal"]
    seen = pixels(page, 0, 1)
    assert np.abs(seen - cell_overlay(grid, grid.rows[0], grid.rows[0].cells[1])).mean() < 2
    assert np.abs(seen - seen.mean(-1, keepdims=True)).max() <= 1
    # The same map of another model is shown in full: only values of one model have the same unit.
    other = grid_of([Cell(strong), Cell(replace(weak, weights_hash="another"))])
    assert not any(other.is_almost_empty(cell) for cell in other.rows[0].cells)


def test_contour_lines_lie_where_the_map_has_the_chosen_value(page: Page) -> None:
    make = maker()
    show(page, grid_of([Cell(made(make)), Cell(made(make, (3, 14)))]))
    page.get_by_text("More").click()
    page.get_by_label("Contour lines").fill("30, 70")
    page.get_by_label("Contour lines").press("Tab")
    page.wait_for_function("calls.length")
    assert page.evaluate("calls.at(-1)[1].contours") == [0.3, 0.7]
    found = page.evaluate("""mounted.viewer.rows[0].slice(1).map(cell => {
        const points = cell.path.getAttribute('d').match(/[\\d.]+ [\\d.]+/g).map(one => one.split(' ').map(Number));
        return points.map(([x, y]) => module.valueAt(cell.map, x, y) / cell.data.map.top);
    })""")
    for levels in found:
        assert len(levels) > 20
        assert max(min(abs(level - 0.3), abs(level - 0.7)) for level in levels) < 0.05


# -- places


def test_every_cell_shows_its_value_at_the_same_place_of_the_photo(page: Page) -> None:
    make = maker()
    whole, part = made(make), replace(made(make, (4, 4)), region=(64, 32, 192, 160))
    grid = grid_of([Cell(whole), Cell(part)])
    show(page, grid)
    box = frame(page, 0, 0).bounding_box()
    for x, y in ((0.4, 0.3), (0.6, 0.55), (0.1, 0.9)):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        shown = values(page)
        for cell, text in zip(grid.rows[0].cells, shown, strict=True):
            assert cell.explanation is not None
            assert cell.map is not None
            left, top, right, bottom = (edge / 256 for edge in cell.explanation.region)
            u, v = (x - left) / (right - left), (y - top) / (bottom - top)
            if not (0 <= u <= 1 and 0 <= v <= 1):
                assert text == ""
                continue
            expected = bilinear(cell.map, 1, 1, (u, v, u, v))[0, 0] / cell.magnitude
            assert int(text.split()[0]) == pytest.approx(100 * expected, abs=1.1)
    page.mouse.move(5, 5)
    assert values(page) == ["", ""]


def test_wheel_drag_and_double_click_move_all_cells(page: Page) -> None:
    make = maker()
    show(page, grid_of([Cell(made(make)), Cell(replace(made(make), region=(64, 32, 192, 160)))]))
    target = frame(page, 0, 0)
    box = target.bounding_box()
    x, y = box["x"] + 0.25 * box["width"], box["y"] + 0.25 * box["height"]
    page.mouse.move(x, y)
    place = page.evaluate("mounted.viewer.point")
    page.mouse.wheel(0, -300)
    page.wait_for_function("mounted.viewer.view.zoom > 2")
    page.mouse.move(x, y)
    after = page.evaluate("mounted.viewer.point")
    assert after["x"] == pytest.approx(place["x"], abs=0.005)
    assert after["y"] == pytest.approx(place["y"], abs=0.005)
    centres = page.evaluate("""mounted.viewer.cells().map(cell => {
        const seen = mounted.viewer.seen(cell.data.region); return seen.left + seen.width / 2;
    })""")
    assert centres[0] == pytest.approx(centres[1])
    before = page.evaluate("mounted.viewer.view")
    page.mouse.down()
    page.mouse.move(x - 60, y - 40, steps=4)
    page.mouse.up()
    moved = page.evaluate("mounted.viewer.view")
    seen = 1 / before["zoom"]
    assert moved["x"] - before["x"] == pytest.approx(60 / box["width"] * seen, abs=0.01)
    assert moved["y"] - before["y"] == pytest.approx(40 / box["height"] * seen, abs=0.01)
    target.dblclick()
    assert page.evaluate("mounted.viewer.view.zoom") == 1


def test_two_fingers_zoom(page: Page) -> None:
    show(page, grid_of([Cell(made(maker()))]))
    box = frame(page, 0, 0).bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    session = page.context.new_cdp_session(page)

    def touch(kind: str, *spreads: float) -> None:
        points = [{"x": x + spread, "y": y, "id": number} for number, spread in enumerate(spreads)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", -20, 20)
    touch("touchMove", -40, 40)
    touch("touchMove", -60, 60)
    touch("touchEnd")
    assert page.evaluate("mounted.viewer.view.zoom") == pytest.approx(3, rel=0.05)
    page.get_by_role("button", name="Whole image").click()
    assert page.evaluate("mounted.viewer.view.zoom") == 1


def test_keys_move_the_crosshair_zoom_and_go_back(page: Page) -> None:
    show(page, grid_of([Cell(made(maker())), Cell(made(maker()))]))
    frame(page, 0, 0).focus()
    for key in ("ArrowRight", "ArrowDown", "Shift+ArrowRight"):
        page.keyboard.press(key)
    assert page.evaluate("mounted.viewer.point") == {"x": pytest.approx(0.62), "y": pytest.approx(0.52)}
    assert all(re.fullmatch(r"\d+ % of peak", text) for text in values(page))
    spoken = page.locator(".status").inner_text()
    assert spoken.startswith("62 % across, 52 % down; model 0: ")
    page.keyboard.press("+")
    assert page.evaluate("mounted.viewer.view.zoom") == 1.25
    page.keyboard.press("Escape")
    assert page.evaluate("[mounted.viewer.view.zoom, mounted.viewer.point]") == [1, None]
    page.keyboard.press("Enter")
    assert page.evaluate("calls") == [["cell", {"row": 0, "column": 0}]]


# -- controls


def test_a_dragged_slider_draws_at_once_and_tells_the_host_once(page: Page) -> None:
    show(page, grid_of([Cell(made(maker()))]))
    slider = page.get_by_role("slider", name="Opacity", exact=True)
    box = slider.bounding_box()
    assert box is not None
    before = pixels(page, 0, 0)
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 0.8 * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.1 * box["width"], y, steps=5)
    assert page.evaluate("calls") == []
    assert np.abs(pixels(page, 0, 0) - before).mean() > 3
    page.mouse.up()
    page.wait_for_function("calls.length")
    page.wait_for_timeout(250)
    ((name, look),) = page.evaluate("calls")
    assert name == "look"
    assert Look(**look).opacity == pytest.approx(int(slider.input_value()) / 100)


def test_every_control_works_by_keys_and_by_touch(page: Page) -> None:
    show(page, grid_of([Cell(made(maker())), Cell(made(maker()))]))
    for name in ("Opacity", "Threshold"):
        slider = page.get_by_role("slider", name=name, exact=True)
        slider.focus()
        page.keyboard.press("ArrowRight")
        expect(slider).to_have_value("81" if name == "Opacity" else "1")
    box = page.get_by_role("slider", name="Threshold", exact=True).bounding_box()
    assert box is not None
    page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.get_by_role("combobox", name="Colour map", exact=True).select_option("magma")
    page.get_by_role("combobox", name="Scale", exact=True).select_option("shared")
    page.wait_for_function("calls.length && calls.at(-1)[1].scale === 'shared'")
    look = page.evaluate("calls.at(-1)[1]")
    assert Look(**look) == Look("magma", 0.81, look["threshold"], "shared")
    assert look["threshold"] == pytest.approx(0.47, abs=0.04)
    page.get_by_text("More").click()
    page.get_by_label("Wipe", exact=True).select_option("1")
    page.get_by_role("slider", name="Wipe position").fill("25")
    page.get_by_label("Show image").uncheck()
    page.get_by_label("Raw values").check()
    page.wait_for_function("calls.at(-1)[1].raw")
    changed = Look("magma", 0.81, look["threshold"], "shared", wipe="1", split=0.25, image=False, raw=True)
    assert Look(**page.evaluate("calls.at(-1)[1]")) == changed


def test_a_look_of_a_link_is_shown_by_the_controls(page: Page) -> None:
    look = Look(contours=(0.25, 0.5), wipe="1", split=0.3, image=False, raw=True)
    show(page, grid_of([Cell(made(maker())), Cell(made(maker()))], look=look))
    page.get_by_text("More").click()
    expect(page.get_by_label("Contour lines")).to_have_value("25 50")
    expect(page.get_by_label("Wipe", exact=True)).to_have_value("1")
    expect(page.get_by_role("slider", name="Wipe position")).to_have_value("30")
    expect(page.get_by_label("Show image")).not_to_be_checked()
    expect(page.get_by_label("Raw values")).to_be_checked()
    show(page, grid_of([Cell(made(maker()))], look=look))  # there is no such column
    expect(page.get_by_label("Wipe", exact=True)).to_have_value("")
    expect(page.locator(".line").last).to_be_hidden()


def test_a_payload_with_the_same_look_keeps_what_the_user_has_set(page: Page) -> None:
    make = maker()
    grid = grid_of([Cell(made(make))])
    show(page, grid)
    slider = page.get_by_role("slider", name="Opacity", exact=True)
    slider.focus()
    page.keyboard.press("Home")
    show(page, grid_of([Cell(made(make))]), keep=True)
    expect(slider).to_have_value("0")
    show(page, replace(grid, look=Look(opacity=0.3)), keep=True)
    expect(slider).to_have_value("30")


def test_the_wipe_shows_the_image_or_another_model_right_of_a_line(page: Page) -> None:
    make = maker()
    grid = grid_of([Cell(made(make)), Cell(made(make))], look=Look(opacity=1.0))
    show(page, grid)
    first, second = (cell_overlay(grid, grid.rows[0], cell).astype(int) for cell in grid.rows[0].cells)
    page.get_by_text("More").click()
    page.get_by_label("Wipe", exact=True).select_option("image")
    page.get_by_role("slider", name="Wipe position").fill("25")
    for choice, right in (("image", smooth(256).astype(int)), ("1", second)):
        page.get_by_label("Wipe", exact=True).select_option(choice)
        page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        seen = pixels(page, 0, 0)
        assert np.abs(seen - first)[:, :60].mean() < 2
        assert np.abs(seen - right)[:, 68:].mean() < 2
        shot = Image.open(io.BytesIO(frame(page, 0, 0).screenshot())).convert("RGB").resize((256, 256))
        assert np.abs(np.asarray(shot).astype(int) - right)[20:-20, 72:-20].mean() < 4


def test_a_magnitude_stands_beside_raw_values_only(page: Page) -> None:
    cell = Cell(made(maker()))
    show(page, grid_of([cell]))
    text = page.get_by_text(f"magnitude {cell.magnitude:.3g} at norm", exact=True)
    expect(text).to_be_hidden()
    page.get_by_text("More").click()
    page.get_by_label("Raw values").check()
    expect(text).to_be_visible()


def test_escape_takes_back_a_zoom_by_the_wheel_without_a_click(page: Page) -> None:
    show(page, grid_of([Cell(made(maker()))]))
    page.evaluate("document.activeElement?.blur()")
    frame(page, 0, 0).hover()
    page.mouse.wheel(0, -300)
    page.wait_for_function("mounted.viewer.view.zoom > 1")
    page.keyboard.press("Escape")
    assert page.evaluate("mounted.viewer.view.zoom") == 1


def test_a_cell_is_saved_while_a_brush_is_in_hand(page: Page) -> None:
    payload = viewer_payload(grid_of([Cell(made(maker()))]))
    payload["rows"][0]["brush"] = brush_payload(Strokes(), "blur", keep=False)
    page.evaluate("callbacks.onStroke = () => {}")
    page.evaluate(SHOW, {"payload": payload, "keep": False})
    page.get_by_role("button", name="Brush", exact=True).click()
    page.locator(".brush-canvas").hover()
    page.mouse.wheel(0, -300)  # zooms, although the canvas of the brush lies over the frame
    page.wait_for_function("mounted.viewer.view.zoom > 2")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save this cell as PNG").first.click()
    assert saved.value.suggested_filename == "swinlens-map.png"
    page.evaluate("delete callbacks.onStroke")


def test_a_badge_belongs_to_its_map_and_a_click_opens_it(page: Page) -> None:
    make = maker()
    one, other = grid_of([Cell(made(make))]), grid_of([Cell(made(make))])
    show(page, one)
    key = viewer_payload(one)["rows"][0]["cells"][0]["key"]
    page.evaluate("key => mounted.badges({[key]: {text: 'better', better: true}})", key)
    page.get_by_role("button", name="better", exact=True).click()
    assert page.evaluate("calls") == [["cell", {"row": 0, "column": 0}]]
    show(page, other, keep=True)
    expect(page.get_by_role("button", name="better", exact=True)).to_have_count(0)


# -- safety, files, accessibility, phones


def test_names_from_outside_are_text(page: Page) -> None:
    explanation = replace(made(maker()), labels=(ATTACK, "b", "c"))
    grid = grid_of([Cell(explanation), Cell(None, error=ATTACK)], title=ATTACK, truth=ATTACK)
    show(page, replace(grid, columns=(ATTACK, ATTACK)))
    assert page.locator("#here").inner_text().count(ATTACK) >= 5
    assert page.locator("img[src=x]").count() == 0
    assert page.evaluate("window.hit") is None


def test_outputs_of_a_notebook_hold_a_viewer_each(page: Page, browser: Browser) -> None:
    explanation = replace(made(maker()), labels=(ATTACK + "</script>", "b", "c"))
    outputs = [explanation._repr_html_(), grid_of([Cell(explanation)] * 2)._repr_html_()]
    window = browser.new_page()
    window.set_content("<!DOCTYPE html><title>notebook</title>" + "".join(outputs))
    expect(window.locator(".viewer")).to_have_count(2)
    expect(window.locator(".viewer .frame")).to_have_count(2 + 3)
    expect(window.locator("figure")).to_have_count(0)
    assert window.locator(".viewer").first.inner_text().count(ATTACK) >= 1
    assert window.evaluate("window.hit") is None
    window.close()
    plain = re.sub(r"<script.*?</script>", "", outputs[1], flags=re.DOTALL)
    assert plain.count("<img alt=") == 2


def test_grid_and_cell_are_saved_as_seen(page: Page) -> None:
    show(page, grid_of([Cell(made(maker())), Cell(None, error="no model")]))
    page.get_by_text("More").click()
    for press in (
        lambda: page.get_by_role("button", name="Save grid as PNG").click(),
        lambda: page.get_by_role("button", name="Save this cell as PNG").nth(1).focus() or page.keyboard.press("Enter"),
    ):
        with page.expect_download() as started:
            press()
        with Image.open(started.value.path()) as image:
            assert image.format == "PNG"
            saved = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(saved - pixels(page, 0, 0)).max() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_is_found_by_axe(page: Page, scheme: Any) -> None:
    show(page, grid_of([Cell(made(maker())), Cell(None, error="no")], [Cell(made(maker()))] * 2, truth="daisy"))
    page.add_style_tag(content=f":root {{ color-scheme: {scheme}; background: Canvas; color: CanvasText; }}")
    page.get_by_text("More").click()
    assert findings(page, "#here") == []


def test_on_a_phone_one_column_is_seen_at_a_time_and_rows_swipe_together(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    show(page, grid_of(*[[Cell(made(maker())) for _ in range(3)] for _ in range(2)]))
    rows = page.locator(".row:not(.heads)")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    boxes = rows.first.locator(".cell").evaluate_all("all => all.map(one => one.getBoundingClientRect().toJSON())")
    for left, right in pairwise(boxes):
        assert left["width"] > 300
        assert right["x"] >= left["x"] + left["width"]
    rows.first.evaluate("row => row.scrollTo({left: row.children[2].offsetLeft})")
    page.wait_for_function("document.querySelectorAll('.row:not(.heads)')[1].scrollLeft > 300")
    page.get_by_role("button", name="Look").click()
    for box in page.locator(".foot :is(button, input, select, summary)").evaluate_all(
        "all => all.map(one => one.getBoundingClientRect().toJSON()).filter(box => box.width)"
    ):
        assert box["height"] >= 24
    page.set_viewport_size({"width": 1300, "height": 1000})
