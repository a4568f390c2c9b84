"""The dashboard as a person meets it: the documented command, a real browser, both widths and both themes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import psutil
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.fixtures.browser import (
    GROUNDS,
    NARROW,
    PATIENCE,
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


@pytest.fixture
def visit(dashboard: Server, browser: Browser) -> Iterator[Open]:
    """Open the page in a window of its own; trust, which takes long, is measured only where a test asks for it."""
    with windows(browser) as open_window:

        def visit(query: str = "", size: tuple[int, int] = WIDE, scheme: str = "light", trust: bool = False) -> Page:
            page = open_window(size, scheme)
            if not trust:
                query = f"{query}&trust=false" if query else "?trust=false"
            page.goto(f"{dashboard.address}/{query}")
            visible(page.locator(".st-key-grid .frame").first)
            at_rest(page)
            return page

        yield visit


def captions(page: Page) -> list[str]:
    """The texts of the grid."""
    return page.locator(".st-key-grid :is(.head, .caption, .message)").all_inner_texts()


def overlap(one: dict[str, float], other: dict[str, float]) -> bool:
    return all(
        one[start] + one[size] > other[start] + 1 and other[start] + other[size] > one[start] + 1
        for start, size in (("x", "width"), ("y", "height"))
    )


def test_the_documented_command_listens_on_this_machine_only(dashboard: Server) -> None:
    process = psutil.Process(dashboard.program.pid)
    family = [process, *process.children(recursive=True)]
    listening = [
        connection.laddr.ip
        for member in family
        for connection in member.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening
    assert set(listening) == {"127.0.0.1"}


def test_first_view_is_four_classes_by_the_models_that_know_them(visit: Open, tmp_path: Path) -> None:
    page = visit()
    text = " ".join(captions(page))
    for words in ("Swin XS", "Swin XS, no shift", "cat.jpg", "dog.jpg", "rose.jpg", "tulip.jpg"):
        assert words in text
    assert text.count("right") == 8 + 2  # under the maps, and in the heads of the columns
    expect(page.get_by_text("Bright areas raised the score")).to_be_visible()
    expect(page.get_by_text("Agreement of the maps")).to_be_visible()
    cells = boxes(page, ".viewer .frame", 4 * 3)
    for cell in cells:
        assert cell["width"] == pytest.approx(cell["height"], abs=1)
        assert cell["width"] == pytest.approx(cells[0]["width"], abs=1)
        assert cell["width"] > 250

    page.get_by_role("button", name="Export").click()
    with page.expect_download() as started:
        page.get_by_role("button", name="Image (PNG)").click()
    started.value.save_as(tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 400


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_nothing_overlaps_and_the_page_does_not_scroll_sideways(visit: Open, size: tuple[int, int]) -> None:
    page = visit(
        "?sample=rose&sample=cat&model=swin_micro_flowers&model=timm%2Fno_such_model_of_a_long_name_2024", size
    )
    expect(page.get_by_test_id("stAlert")).to_contain_text("timm has no model")
    texts = boxes(page, ".viewer .scroller :is(b, small, .class, .badge)")
    pictures = boxes(page, ".viewer .frame")
    assert not [pair for pair in combinations(texts, 2) if overlap(*pair)]
    assert not [pair for pair in ((one, other) for one in texts for other in pictures) if overlap(*pair)]
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]


def test_on_a_phone_the_first_map_is_near_the_top_and_a_row_is_a_strip(visit: Open) -> None:
    page = visit("?sample=tulip&model=swin_milli_cifar100&model=swin_milli_flowers", NARROW)
    assert min(frame["y"] for frame in boxes(page, ".viewer .frame")) < 310
    expect(page.locator(".st-key-tabs")).to_be_in_viewport()
    expect(page.get_by_test_id("stHeader")).to_be_hidden()
    strip = page.locator(".st-key-grid .row:not(.heads)")
    assert strip.evaluate("strip => strip.scrollWidth > 2 * strip.clientWidth")
    assert strip.evaluate("strip => getComputedStyle(strip).scrollSnapType") == "x mandatory"
    size = page.locator(".st-key-grid small").first.evaluate("text => getComputedStyle(text).fontSize")
    assert float(size.removesuffix("px")) >= 12
    for button in boxes(page, ".viewer .foot button"):
        assert button["height"] >= 24


def test_text_follows_the_theme(visit: Open) -> None:
    lightness = {}
    page = visit("?sample=tulip&model=swin_micro_flowers")
    for scheme in GROUNDS:
        seen_as(page, scheme)
        fill = page.locator(".st-key-grid .caption").first.evaluate("text => getComputedStyle(text).color")
        lightness[scheme] = sum(map(int, re.findall(r"\d+", fill)[:3])) / 3
    assert lightness["light"] < 80
    assert lightness["dark"] > 180


def test_an_upload_is_explained_and_a_broken_one_is_one_line(visit: Open, tmp_path: Path) -> None:
    page = visit("?model=swin_micro_flowers")
    attack = "<img src=x onerror=window.hit=1>.png"
    (tmp_path / attack).write_bytes(b"this is no image")
    Image.effect_mandelbrot((90, 60), (-2, -1, 1, 1), 30).convert("RGB").save(tmp_path / "mine.jpg")
    page.get_by_role("button", name="Add images").click()
    chooser = page.locator("input[type=file]")
    chooser.set_input_files([tmp_path / "mine.jpg", tmp_path / attack])
    expect(page.locator(".st-key-grid .caption", has_text="mine.jpg").first).to_be_visible(timeout=PATIENCE)
    at_rest(page)
    alert = page.get_by_test_id("stAlert")
    expect(alert).to_have_count(1)
    assert attack in alert.inner_text()
    assert page.evaluate("window.hit") is None
    assert "tulip.jpg" not in " ".join(captions(page))


def test_a_dragged_control_sends_nothing_and_back_undoes_it(visit: Open) -> None:
    page = visit("?sample=tulip&model=swin_micro_flowers")
    sent = messages(page)
    opacity = page.get_by_role("slider", name="Opacity", exact=True)
    expect(opacity).to_have_value("80")
    box = opacity.bounding_box()
    assert box is not None
    page.wait_for_timeout(500)
    sent.clear()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 0.8 * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.4 * box["width"], y, steps=20)
    expect(opacity).not_to_have_value("80")
    assert sent == []
    page.mouse.up()
    page.wait_for_url("**opacity=**")
    at_rest(page)
    assert sent
    assert f"opacity={opacity.input_value()}" in page.url
    page.go_back()
    page.wait_for_url(re.compile(r"^(?!.*opacity=)"))
    expect(opacity).to_have_value("80", timeout=PATIENCE)


def test_a_link_reproduces_the_view_and_names_it(visit: Open) -> None:
    """It holds every image and model, also one that is missing; what it cannot mean is reported."""
    values = [("sample", "tulip"), ("sample", "cat"), ("model", "swin_micro_flowers"), ("model", "nowhere.pth")]
    values += [("opacity", "40"), ("colors", "cividis"), ("scale", "Shared")]
    page = visit(f"?{urlencode([*values, ('sample', 'nothing')])}")
    expect(page.get_by_test_id("stAlert").filter(has_text="sample=nothing")).to_be_visible()
    text = " ".join(captions(page))
    expect(page.get_by_role("combobox", name="Scale", exact=True)).to_have_value("shared")
    expect(page.get_by_role("combobox", name="Colour map", exact=True)).to_have_value("cividis")
    assert "cat.jpg" in text
    assert "swin_micro_cifar100" not in text
    page.get_by_role("button", name="Link").click()
    link = page.get_by_test_id("stPopoverBody").get_by_test_id("stCode").inner_text()
    assert sorted(parse_qsl(urlsplit(link).query)) == sorted([*values, ("trust", "false")])


DROPPED = """(name) => {
    const canvas = document.createElement('canvas');
    canvas.width = canvas.height = name === 'paste' ? 40 : 50;  // the same image again would be the first one
    canvas.getContext('2d').fillRect(5, 5, 20, 20);
    return new Promise(done => canvas.toBlob(blob => {
        const files = new DataTransfer();
        files.items.add(new File([blob], `${name}.png`, {type: 'image/png'}));
        files.items.add(new File(['text'], `${name}.txt`, {type: 'text/plain'}));
        const event = name === 'paste' ? new ClipboardEvent('paste', {clipboardData: files, bubbles: true})
            : new DragEvent('drop', {dataTransfer: files, bubbles: true, cancelable: true});
        done(document.querySelector('h1').dispatchEvent(event));
    }));
}"""


def test_an_image_can_be_pasted_or_dropped_anywhere(visit: Open) -> None:
    page = visit("?model=swin_micro_flowers")
    for kind in ("paste", "drop"):
        page.evaluate(DROPPED, kind)
        expect(page.locator(".st-key-grid .caption", has_text=f"{kind}.png").first).to_be_visible(timeout=PATIENCE)
        expect(page.get_by_role("alert")).to_contain_text(f"Left out: {kind}.txt. Drop images of up to 50 MiB each.")
        at_rest(page)


def test_back_undoes_a_choice_of_an_image_and_of_a_method(visit: Open) -> None:
    page = visit("?sample=tulip&model=swin_micro_flowers")
    first = page.url
    undo = page.get_by_role("button", name="Undo", exact=True)
    expect(undo).to_be_disabled()
    page.locator(".st-key-film").get_by_role("button", name="rose").first.click()
    page.wait_for_url("**sample=rose**")
    at_rest(page)
    page.locator(".st-key-method_box").get_by_role("button").first.click()
    page.get_by_role("button", name="Attention rollout", exact=True).first.click()
    page.wait_for_url("**method=Attention**")
    at_rest(page)
    page.get_by_role("button", name="Undo").click()
    page.wait_for_url(re.compile(r"^(?!.*method=)"))
    at_rest(page)
    expect(page.locator(".st-key-grid .caption", has_text="rose.jpg").first).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    page.wait_for_url(first)
    expect(undo).to_be_disabled()
    expect(page.locator(".st-key-grid .caption", has_text="rose.jpg")).to_have_count(0, timeout=PATIENCE)


def test_full_screen_reset_and_the_camera(visit: Open) -> None:
    page = visit("?sample=rose&model=swin_micro_flowers")
    page.get_by_role("button", name="Full screen").click()
    page.wait_for_function("document.fullscreenElement === document.documentElement")
    expect(page.locator(".st-key-film")).to_be_hidden()
    expect(page.locator(".st-key-grid .frame").first).to_be_visible()
    page.get_by_role("button", name="Full screen").click()
    page.wait_for_function("document.fullscreenElement === null")
    page.get_by_role("button", name="Add images").click()
    page.get_by_text("Use the camera").click()
    page.wait_for_function("document.querySelector('[data-testid=stCameraInput] video')?.readyState >= 2")
    page.get_by_role("button", name="Take Photo").click()
    expect(page.locator(".st-key-grid .caption", has_text="camera 1.jpg").first).to_be_visible(timeout=PATIENCE)
    at_rest(page)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Reset", exact=True).click()
    page.wait_for_url(re.compile(r"/$"))
    expect(page.locator(".st-key-grid .caption", has_text="cat.jpg").first).to_be_visible(timeout=PATIENCE)
    expect(page.locator(".st-key-grid .caption", has_text="camera 1.jpg")).to_have_count(0)


def test_the_tour_is_shown_until_it_is_dismissed(dashboard: Server, browser: Browser) -> None:
    window = browser.new_context()
    page = window.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(f"{dashboard.address}/?sample=tulip&model=swin_micro_flowers&trust=false")
    expect(page.get_by_role("heading", name="1 of 3: Images")).to_be_visible(timeout=PATIENCE)
    page.get_by_role("button", name="Next").click()
    page.get_by_role("button", name="Next").click()
    assert findings(page, ".st-key-tour_place") == []
    visible(page.locator(".brush-tools").first)
    page.set_viewport_size({"width": NARROW[0], "height": NARROW[1]})
    card, tools = page.locator("#tour").bounding_box(), page.locator(".brush-tools").first.bounding_box()
    assert card is not None
    assert tools is not None
    assert card["y"] + card["height"] <= tools["y"]  # on a phone it would cover them at the bottom
    page.get_by_role("button", name="Done").click()
    page.reload()
    visible(page.locator(".st-key-grid .frame").first)
    expect(page.locator("#tour")).to_be_hidden()
    window.close()


def test_a_badge_opens_its_curves_and_what_is_drawn_stays_while_trust_is_measured(visit: Open) -> None:
    page = visit("?sample=tulip&model=swin_nano_cifar100", trust=True)
    page.locator(".st-key-grid button.badge").first.click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Does this map beat the baselines?", timeout=PATIENCE)
    expect(dialog.locator(".js-plotly-plot")).to_have_count(3)
    expect(dialog).to_contain_text("random maps")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    at_rest(page)
    boxes(page, ".viewer button.badge", 1)

    place = boxes(page, ".st-key-grid")
    page.locator(".st-key-film").get_by_role("button", name="rose").first.click()
    drawn = boxes(page, ".viewer .frame", 4)  # measured or not yet
    at_rest(page)
    boxes(page, ".viewer button.badge", 2)
    assert boxes(page, ".viewer .frame", 4) == drawn
    assert boxes(page, ".st-key-grid")[0]["y"] == place[0]["y"]
