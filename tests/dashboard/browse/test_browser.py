"""Tests of the Browse page in a browser, with real images."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Browser, Locator, Page, TimeoutError, expect

from dashboard.shared.model_names import MAX_IMAGES, column_titles
from swin_core.data.cifar100 import cifar100, find_layout
from swin_core.data.flowers import CLASSES as FLOWERS
from tests.fixtures.browse import EVIL
from tests.fixtures.browser import (
    NARROW,
    PATIENCE,
    ROOT,
    SUBPAGE,
    WIDE,
    Open,
    Server,
    at_rest,
    browser,
    findings,
    messages,
    visible,
    windows,
)

__all__ = ["browser"]

COUNT = 300
"""Number of CIFAR-100 images; their predictions take half a second."""

KNOWING = "swin_nano_cifar100"
"""A model that knows every class of them; the first view's model knows two."""


@pytest.fixture(scope="module")
def some_data(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A part of the real data sets, and a class whose name is HTML."""
    folder = tmp_path_factory.mktemp("data")
    for split in ("train", "test"):
        files = find_layout(data_root, split)
        if files[0].suffix != ".parquet":
            pytest.skip("only the hub's layout of CIFAR-100 can be cut")
        (folder / "cifar100").mkdir(exist_ok=True)
        pq.write_table(pq.read_table(files[0]).slice(0, COUNT), folder / "cifar100" / f"{split}-0.parquet")
    for name in FLOWERS:
        (folder / "flower_photos" / name).mkdir(parents=True)
        for file in sorted((data_root / "flower_photos" / name).glob("*.jpg"))[:20]:
            shutil.copy(file, folder / "flower_photos" / name)
    (folder / "evil" / EVIL).mkdir(parents=True)
    shutil.copy(ROOT / "assets" / "samples" / "rose.jpg", folder / "evil" / EVIL / "<script>1<script>.jpg")
    return folder


@pytest.fixture(scope="module")
def server(some_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The dashboard with these images and an empty cache."""
    home = tmp_path_factory.mktemp("home")
    started = Server(home, SWIN_DATA_ROOT=some_data, SWIN_CACHE_ROOT=home / "cache")
    yield started
    started.end()


@pytest.fixture
def visit(server: Server, browser: Browser) -> Iterator[Open]:
    """Open the page in a window of its own."""
    with windows(browser, SUBPAGE) as open_window:

        def visit(query: str = "", size: tuple[int, int] = WIDE, scheme: str = "light") -> Page:
            page = open_window(size, scheme)
            page.goto(f"{server.address}/browse{query}")
            visible(page.get_by_role("heading", level=1))
            return page

        yield visit


def tiles(page: Page) -> Locator:
    return page.locator("#sheet li .open")


def focused(page: Page) -> str:
    """The title of what has the focus."""
    return page.evaluate("""() => {
        let found = document.activeElement;
        while (found?.shadowRoot?.activeElement) found = found.shadowRoot.activeElement;
        return found.title;
    }""")


def judged(page: Page) -> None:
    """Wait until every tile has its prediction, and the page's script has ended."""
    visible(page.locator("#sheet .verdict").first)
    at_rest(page)


def labels(page: Page) -> list[str]:
    return page.locator("#sheet .label").all_text_contents()


def test_search_then_confusion_then_compare(visit: Open, some_data: Path) -> None:
    page = visit(f"?model={KNOWING}")
    judged(page)
    # One image of each class, each with its class and a verdict of words and sign.
    assert len(set(labels(page))) == tiles(page).count() == 50
    for verdict in page.locator("#sheet .verdict").all_text_contents():
        assert verdict.startswith(("✓ right ", "✗ wrong: "))

    field = page.get_by_label("Search")
    field.fill("fish")
    field.press("Enter")
    page.wait_for_url("**search=fish**")
    data = cifar100(some_data, "test")
    rows = zip(data.names, data.labels, data.coarse_labels, strict=True)
    found = sum(
        any("fish" in text for text in (name, data.classes[fine], data.coarse_classes[coarse]))
        for name, fine, coarse in rows
    )
    visible(page.get_by_text(f"{found} images", exact=True))
    field.fill("")
    field.press("Enter")

    page.get_by_role("tab", name="Confusion").click()
    mark = page.locator(".js-plotly-plot .points path").nth(5)
    mark.wait_for(state="attached", timeout=PATIENCE)
    mark.scroll_into_view_if_needed()
    box = mark.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    hover = page.locator(".hoverlayer .hovertext")
    expect(hover).to_contain_text(" taken for ", timeout=PATIENCE)
    truth, _, rest = (hover.text_content() or "").partition(" taken for ")
    predicted, _, counts = rest.partition(": ")
    page.mouse.click(x, y)
    page.wait_for_url("**predicted=**")
    visible(tiles(page).first)
    expect(tiles(page)).to_have_count(int(counts.split()[0]), timeout=PATIENCE)
    assert set(labels(page)) == {truth}
    for verdict in page.locator("#sheet .verdict").all_text_contents():
        assert verdict.startswith(f"✗ wrong: {predicted} ")

    # A pick does not move the images.
    place = tiles(page).first.bounding_box()
    pick = page.locator("#sheet .pick").first
    pick.focus()
    page.keyboard.press("Enter")
    visible(page.get_by_text("1 image in the tray"))
    assert tiles(page).first.bounding_box() == place
    expect(pick).to_have_attribute("aria-pressed", "true")
    file = (page.locator("#sheet .thumb > img").first.get_attribute("alt") or "").removeprefix("Image ")
    page.get_by_role("link", name="To Compare").click()
    visible(page.get_by_role("heading", name="Compare models"))
    captions = page.locator(".st-key-grid .caption")
    expect(captions.filter(has_text=file[:10]).first).to_be_attached(timeout=PATIENCE)
    expect(captions.filter(has_text="tulip.jpg")).to_have_count(0)


MODELS = ["swin_micro_flowers", KNOWING]


def chosen(page: Page, key: str) -> list[str]:
    """The values of a query parameter."""
    return parse_qs(urlsplit(page.url).query).get(key, [])


def opened_by_link(visit: Open) -> Page:
    """The page opened by a link with other models than the defaults."""
    page = visit(f"?data=flower_photos&split=val&search=tulip&model={MODELS[0]}&model={MODELS[1]}")
    judged(page)
    return page


def test_one_click_opens_a_selection_on_compare(visit: Open) -> None:
    page = opened_by_link(visit)
    page.wait_for_url("**search=tulip**")
    shown = page.locator("#sheet .thumb > img").evaluate_all("images => images.map(image => image.alt)")
    assert 0 < len(shown) <= MAX_IMAGES
    page.get_by_role("link", name="Compare these").click()
    visible(page.get_by_role("heading", name="Compare models"))
    grid = page.locator(".st-key-grid :is(.head, .caption)")
    for words in shown:
        file = words.removeprefix("Image ")
        expect(grid.filter(has_text=file[:10]).first).to_be_attached(timeout=PATIENCE)
    expect(grid.filter(has_text="tulip.jpg")).to_have_count(0)
    for title in column_titles(MODELS):
        expect(grid.filter(has_text=title).first).to_be_attached(timeout=PATIENCE)
    # The address is that of the comparison, for a link or a reload.
    page.wait_for_function("location.search.includes('picked=')", timeout=PATIENCE)
    assert (len(chosen(page, "picked")), chosen(page, "show_pictures")) == (len(shown), [])
    assert chosen(page, "model") == MODELS


def test_choices_of_a_link_are_kept_on_another_page(visit: Open) -> None:
    page = opened_by_link(visit)
    page.get_by_role("link", name="Compare", exact=True).locator("visible=true").first.click()
    visible(page.get_by_role("heading", name="Compare models"))
    page.wait_for_function("location.search.includes('model=')", timeout=PATIENCE)
    assert chosen(page, "model") == MODELS


SIZE = """() => [...document.querySelectorAll('*')].filter(element => element.shadowRoot)
    .flatMap(element => [...element.shadowRoot.querySelectorAll('#sheet img[src]')])
    .reduce((sum, image) => sum + image.src.length, 0)"""


def test_a_sheet_of_maps_is_light_and_follows_the_hand(visit: Open) -> None:
    page = visit("?data=flower_photos&split=train&size=100")
    expect(tiles(page)).to_have_count(90, timeout=PATIENCE)
    assert page.evaluate(SIZE) < 2_000_000
    page.get_by_label("Heat maps", exact=True).dispatch_event("click")
    heat = page.locator("#sheet canvas.heat:visible")
    visible(heat.first)
    at_rest(page)
    expect(tiles(page)).to_have_count(50)
    assert page.evaluate(SIZE) < 600_000
    colour = "canvas => canvas.toDataURL()"
    before = heat.first.evaluate(colour)
    sent = messages(page)
    slider = page.get_by_label("Opacity", exact=True)
    slider.evaluate("input => { input.value = 30; input.dispatchEvent(new Event('input')); }")
    page.wait_for_timeout(300)
    assert heat.first.evaluate(colour) != before
    assert sent == []
    slider.evaluate("input => input.dispatchEvent(new Event('change'))")
    page.wait_for_url("**opacity=30**")
    # The same look, in the large view and on Compare.
    tiles(page).first.click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Opacity", exact=True)).to_have_value("30", timeout=PATIENCE)


def test_the_large_view_by_keys_and_the_focus_returns(visit: Open) -> None:
    page = visit(f"?model={KNOWING}")
    judged(page)
    names = page.locator("#sheet .open").evaluate_all("all => all.map(one => one.title.split(':')[0])")
    tiles(page).nth(1).focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    for step, key in ((2, ""), (3, "ArrowRight"), (4, "ArrowRight"), (3, "ArrowLeft")):
        if key:
            page.keyboard.press(key)
        visible(dialog.get_by_text(f"{step} of {COUNT}", exact=True))
        visible(dialog.locator(".caption b").filter(has_text=names[step - 1]).first)
    # In a control an arrow key has its own meaning.
    dialog.get_by_label("Opacity", exact=True).focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_url("**opacity=81**")
    visible(dialog.get_by_text(f"3 of {COUNT}", exact=True))
    dialog.get_by_role("button", name="Add to Compare").click()
    visible(dialog.get_by_role("button", name="Remove from Compare"))
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0, timeout=PATIENCE)
    visible(page.get_by_text("1 image in the tray"))
    expect(page.locator("#sheet .pick").nth(2)).to_have_attribute("aria-pressed", "true", timeout=PATIENCE)
    page.wait_for_function("() => !location.search.includes('image=')")
    page.wait_for_timeout(400)
    assert focused(page).startswith(names[2])


SWIPED = """([element, from, to]) => {
    const box = element.getBoundingClientRect();
    const touch = x => new Touch({identifier: 1, target: element, clientX: x, clientY: box.top + 20});
    const send = (type, x, touches) => element.dispatchEvent(new TouchEvent(type, {
        bubbles: true, composed: true, touches, changedTouches: [touch(x)]}));
    send('touchstart', from, [touch(from)]);
    send('touchend', to, []);
}"""


def test_a_swipe_goes_on_at_the_end_of_the_strip_of_models(visit: Open) -> None:
    page = visit(f"?model={KNOWING}", NARROW)
    judged(page)
    tiles(page).first.tap()
    dialog = page.get_by_role("dialog")
    strip = dialog.locator(".row:not(.heads)")
    visible(dialog.get_by_text(f"1 of {COUNT}", exact=True))
    visible(strip)
    strip.evaluate("(row, code) => eval(code)([row, 300, 100])", SWIPED)
    page.wait_for_timeout(300)
    visible(dialog.get_by_text(f"1 of {COUNT}", exact=True))
    strip.evaluate("row => { row.scrollLeft = row.scrollWidth; }")
    strip.evaluate("(row, code) => eval(code)([row, 300, 100])", SWIPED)
    visible(dialog.get_by_text(f"2 of {COUNT}", exact=True))
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW[0]


def test_class_and_file_names_are_text(visit: Open) -> None:
    page = visit("?data=evil")
    visible(page.locator("#sheet .label").first)
    assert labels(page) == [EVIL]
    assert page.locator("img[src=x]").count() == 0
    tiles(page).first.click()
    visible(page.get_by_role("dialog").get_by_text("<script>1<script>.jpg", exact=True).first)
    visible(page.get_by_role("dialog").get_by_text(EVIL, exact=False).first)
    assert page.locator("img[src=x]").count() == 0


def rest_on_a_point(page: Page) -> tuple[float, float]:
    """Move over the map until the pointer rests on a point; return its place once its image is shown."""
    box = page.locator("#frame").bounding_box()
    assert box is not None
    sent = messages(page)
    for step in range(1, 40):
        place = box["x"] + box["width"] * step / 40, box["y"] + box["height"] / 2
        before = len(sent)
        page.mouse.move(*place)
        page.wait_for_timeout(300)  # a point's image is asked for after 90 ms
        if len(sent) == before:
            continue
        with suppress(TimeoutError):
            page.locator("#tip:not([hidden])").wait_for(timeout=3000)
            return place
    raise AssertionError("no point was found")


def test_the_map_shows_selects_and_opens(visit: Open) -> None:
    page = visit(f"?model={KNOWING}&view=Map")
    visible(page.get_by_text("Most confident mistakes"))  # the predictions are there, and with them all colours
    at_rest(page)
    page.get_by_role("button", name="Make the map").click()
    visible(page.locator(f'#map[data-drawn="{COUNT}"]'))
    at_rest(page)
    assert page.locator("#legend li").count() == 7  # six classes, and the others
    assert not findings(page)
    frame = page.locator("#frame")
    frame.evaluate("element => element.scrollIntoView({ block: 'center' })")

    place = rest_on_a_point(page)
    assert page.locator("#tip img").get_attribute("src").startswith("data:image/")  # type: ignore[union-attr]
    assert page.locator("#tip p").nth(1).text_content().startswith(("✓ right", "✗ wrong"))  # type: ignore[union-attr]

    box = frame.bounding_box()
    assert box is not None
    left, top, right, bottom = box["x"] + 2, box["y"] + 2, box["x"] + box["width"] - 2, box["y"] + box["height"] - 2
    page.mouse.move(left, top)
    page.mouse.down()
    for corner in ((right, top), (right, bottom), (left, bottom), (left, top + 5)):
        page.mouse.move(*corner, steps=3)
    page.mouse.up()
    visible(page.get_by_text(f"{COUNT} images selected"))
    page.get_by_role("button", name="Box").click()
    page.mouse.move(left, top)
    page.mouse.down()
    page.mouse.move((left + right) / 2, bottom, steps=3)
    page.mouse.up()
    expect(page.get_by_text(f"{COUNT} images selected")).to_have_count(0)
    count = int((page.get_by_text("images selected").text_content() or "").split()[0])
    assert 0 < count < COUNT

    at_rest(page)
    frame.evaluate("element => element.scrollIntoView({ block: 'center' })")
    page.mouse.click(*place)
    dialog = page.get_by_role("dialog")
    visible(dialog.get_by_text("Nearest images"))
    expect(dialog.locator("[class*=st-key-nearest_] img")).to_have_count(8)
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    page.get_by_role("button", name="Show them").click()
    visible(page.get_by_text(f"Only the {count} images of your selection on the map"))


@pytest.mark.parametrize(("size", "scheme"), [(WIDE, "dark"), (NARROW, "light")])
def test_no_tab_scrolls_sideways(visit: Open, size: tuple[int, int], scheme: str) -> None:
    page = visit(f"?model={KNOWING}", size, scheme)
    judged(page)
    for view, shown in {
        "Images": tiles(page).first,
        "Map": page.locator("#frame").or_(page.get_by_role("button", name="Make the map")),
        "Confusion": page.locator(".js-plotly-plot").first,
        "Classes": page.get_by_test_id("stDataFrame").first,
        "Confidence": page.get_by_test_id("stDataFrame").first,
    }.items():
        tab = page.get_by_role("tab", name=view, exact=True)
        tab.click()
        expect(tab).to_have_attribute("aria-selected", "true")
        at_rest(page)
        visible(shown)
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0], view
