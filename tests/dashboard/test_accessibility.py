"""Every page in both themes, on a wide screen and on a phone: no serious finding of axe-core, and by the keyboard."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.fixtures.browser import (
    GROUNDS,
    NARROW,
    PATIENCE,
    SUBPAGE,
    Open,
    Server,
    at_rest,
    browser,
    findings,
    seen_as,
    visible,
    windows,
)

__all__ = ["browser"]

QUICK = "model=swin_nano_cifar100"
PAGES = {
    "compare": f"?{QUICK}&trust=false&means=true&means_count=8",
    "browse": "browse",
    "audit": "audit",
    "train": "train",
    "train, a new run": "train?new=fast-cifar100",
    "inside": f"inside?{QUICK}",
    "models": "models",
}
COLOURS = ("color-contrast", "link-in-text-block")


@pytest.fixture
def visit(dashboard: Server, browser: Browser) -> Iterator[Open]:
    with windows(browser, SUBPAGE) as open_window:

        def visit(path: str) -> Page:
            page = open_window()
            page.goto(f"{dashboard.address}/{path}")
            visible(page.get_by_role("heading", level=1).first)
            at_rest(page)
            return page

        yield visit


SILENT = """() => [...document.querySelectorAll('img, [data-testid=stPlotlyChart]')].filter(one => {
    const named = one.closest('[aria-label], [role=img], [aria-hidden=true]') || one.querySelector('[aria-label]');
    return one.tagName === 'IMG' ? !one.hasAttribute('alt') : !named;
}).map(one => one.outerHTML.slice(0, 200))"""


@pytest.mark.parametrize("name", list(PAGES))
def test_no_page_has_a_serious_finding_in_any_theme_or_width(visit: Open, name: str) -> None:
    page = visit(PAGES[name])
    assert page.evaluate(SILENT) == []
    assert findings(page) == []
    seen_as(page, "dark")
    assert findings(page, rules=COLOURS) == []  # nothing else depends on the theme
    seen_as(page, "dark", NARROW)
    assert findings(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW[0]


def test_what_opens_has_no_serious_finding(visit: Open) -> None:
    page = visit(f"?{QUICK}&sample=cat")
    for name in ("Link", "Export"):
        page.get_by_role("button", name=name).click()
        expect(page.get_by_test_id("stPopoverBody")).to_be_visible()
        for scheme in GROUNDS:
            seen_as(page, scheme)
            assert findings(page, "[data-testid=stPopoverBody]") == []
        page.keyboard.press("Escape")
        expect(page.get_by_test_id("stPopoverBody")).to_have_count(0)
    page.locator(".st-key-grid button.badge").first.click()
    expect(page.get_by_role("dialog")).to_contain_text("Does this map beat the baselines?", timeout=PATIENCE)
    for scheme in GROUNDS:
        seen_as(page, scheme)
        assert findings(page, "[role=dialog]") == []


FOCUS = """() => {
    let here = document.activeElement;
    while (here.shadowRoot?.activeElement) here = here.shadowRoot.activeElement;
    const name = here.getAttribute('aria-label') || here.labels?.[0]?.innerText || here.innerText || here.title || '';
    const around = [here, here.parentElement, here.parentElement?.parentElement, here.parentElement?.parentElement
        ?.parentElement].filter(one => one && one !== document.body);
    const ring = style => style.outlineStyle !== 'none' && style.outlineWidth !== '0px' || style.boxShadow !== 'none';
    const seen = around.some(one => ring(getComputedStyle(one)) || ring(getComputedStyle(one, '::before')));
    const {width, height} = here.getBoundingClientRect();
    return [name.trim().replace(/\\s+/g, ' '), seen || here.tagName === 'INPUT', width > 0 && height > 0, here.tagName];
}"""


def test_everything_on_the_first_page_is_reached_by_the_keyboard_and_seen(visit: Open) -> None:
    page = visit(f"?{QUICK}&sample=cat")
    visible(page.locator(".st-key-grid button.badge").first)  # measured in the background
    reached: list[str] = []
    unseen: list[str] = []
    for _ in range(140):
        page.keyboard.press("Tab")
        name, seen, there, tag = page.evaluate(FOCUS)
        if tag == "BODY":
            break
        reached.append(name)
        if not (seen and there):
            unseen.append(f"{tag} {name}")
    text = "\n".join(reached)
    for name in ("Browse", "Audit", "Train", "Inside", "Add images", "cat", "Add a model", "Opacity", "Scale"):
        assert name in text, name
    for name in ("Class:", "Method:", "Layer:", "Contrast:", "Reset", "Link", "Export", "The mean map of a class"):
        assert name in text, name
    assert "Map check:" in text
    assert unseen == []


def test_a_page_is_changed_and_a_picture_chosen_by_keys_alone(visit: Open) -> None:
    page = visit(f"?{QUICK}&trust=false")
    page.locator(".st-key-film").get_by_role("button", name="dandelion").first.focus()
    page.keyboard.press("Space")
    page.wait_for_url("**sample=dandelion**")
    at_rest(page)
    page.get_by_test_id("stTopNavLink").filter(has_text="Train").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/train")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Training runs")
