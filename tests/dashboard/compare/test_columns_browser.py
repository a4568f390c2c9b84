"""The heads of the columns on Compare, and choices that Back restores, in a browser."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.fixtures.browser import PATIENCE, Server, at_rest, browser, visible, windows

__all__ = ["browser"]

pytestmark = pytest.mark.usefixtures("one_thread")

MODELS = ["swin_micro_flowers", "swin_nano_four_classes"]


def query(page: Page, name: str) -> list[str]:
    return parse_qs(urlsplit(page.url).query).get(name, [])


def test_columns_are_moved_and_removed_with_the_link_and_the_wipe(dashboard: Server, browser: Browser) -> None:
    with windows(browser) as open_window:
        page = open_window()
        models = "&".join(f"model={name}" for name in MODELS)
        page.goto(f"{dashboard.address}/?sample=tulip&{models}&trust=false&method=Grad-CAM&wipe=1&opacity=60")
        left = page.get_by_role("button", name=re.compile("^Move .* to the left$"))
        visible(left.last)
        at_rest(page)
        title = page.locator(".heads .head .title").last.inner_text()
        left.last.click()
        page.wait_for_url(re.compile(f"model={MODELS[1]}&model={MODELS[0]}"))
        expect(page.locator(".heads .head .title").nth(1)).to_have_text(title)  # the first is that of the images
        at_rest(page)
        assert (query(page, "wipe"), query(page, "opacity")) == (["0"], ["60"])
        expect(page.get_by_label("Wipe", exact=True)).to_have_value("0")
        page.get_by_role("button", name="Undo", exact=True).click()  # once for both
        page.wait_for_url(re.compile(f"model={MODELS[0]}&model={MODELS[1]}"))
        expect(page.locator(".heads .head .title").last).to_have_text(title)
        at_rest(page)
        assert query(page, "wipe") == ["1"]
        expect(page.get_by_label("Wipe", exact=True)).to_have_value("1")
        expect(page.get_by_role("button", name="Undo", exact=True)).to_be_disabled()
        left.last.click()
        expect(page.locator(".heads .head .title").nth(1)).to_have_text(title)
        at_rest(page)
        # The second click of a double click hits the next column, or the old one: neither is removed.
        page.get_by_role("button", name=f"Remove {title}", exact=True).dblclick()
        page.wait_for_function("name => !location.search.includes(name)", arg=MODELS[1])
        at_rest(page)
        expect(page.locator(".heads .head")).to_have_count(2)
        assert query(page, "model") == MODELS[:1]
        assert query(page, "wipe") == []
        expect(page.get_by_label("Wipe", exact=True)).to_have_value("")


def test_what_is_done_while_the_page_runs_is_neither_lost_nor_done_twice(dashboard: Server, browser: Browser) -> None:
    """Streamlit keeps one trigger of a component that waits for the end of a run."""
    with windows(browser) as open_window:
        page = open_window()
        first, second = "swin_nano_cifar100", MODELS[1]  # slow enough by sliding occlusion, and no slower
        page.goto(f"{dashboard.address}/?sample=tulip&model={first}&model={second}&trust=false&method=Grad-CAM")
        visible(page.locator(".st-key-grid .class").nth(5))
        at_rest(page)
        slider, asked = page.get_by_label("Opacity", exact=True), page.locator(".st-key-grid .class").nth(1)
        move = page.get_by_role("button", name=re.compile("^Move .* to the left$")).last
        label = asked.locator(".word").inner_text()
        page.locator(".st-key-method_box").get_by_role("button").first.click()
        page.get_by_role("button", name="Sliding occlusion", exact=True).first.click()
        page.wait_for_url("**method=Sliding**")
        # The menu lies over the grid. The viewer waits a moment for further changes before it tells the page of a look.
        slider.evaluate(
            "input => { input.value = 30; input.dispatchEvent(new Event('input'));"
            " input.dispatchEvent(new Event('change')); }"
        )
        page.wait_for_timeout(400)
        asked.evaluate("button => button.click()")
        move.evaluate("button => button.click()")
        page.wait_for_url(re.compile("opacity=30"))
        page.wait_for_url(re.compile(f"model={second}&model={first}"))
        at_rest(page)
        assert (query(page, "opacity"), query(page, "class1")) == (["30"], [label])
        assert query(page, "model") == [second, first]


def test_back_restores_a_layer_by_its_name(dashboard: Server, browser: Browser) -> None:
    with windows(browser) as open_window:
        page = open_window()
        page.goto(f"{dashboard.address}/?sample=tulip&model={MODELS[0]}&trust=false&method=Grad-CAM&layer=layers.0")
        opener = page.locator(".st-key-layer_box button").first
        expect(opener).to_contain_text("layers.0", timeout=PATIENCE)
        visible(page.locator(".st-key-grid .frame").first)
        at_rest(page)
        opener.click()
        page.get_by_role("combobox", name="Layer").click()
        page.get_by_role("option", name="All stages, side by side").click()
        page.wait_for_function("location.search.includes('stages')")
        visible(page.locator(".st-key-cards button").first)
        at_rest(page)
        page.keyboard.press("Escape")
        page.go_back()
        expect(opener).to_contain_text("layers.0", timeout=PATIENCE)
        at_rest(page)
        assert query(page, "layer") == ["layers.0"]
        expect(page.locator(".st-key-cards")).to_have_count(0)
        expect(page.locator(".heads .column-tools")).to_have_count(1)
