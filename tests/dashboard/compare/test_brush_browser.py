"""The brush on the Compare page in a browser: from a stroke to the answer of all models, the link, and back."""

from __future__ import annotations

from urllib.error import HTTPError
from urllib.parse import parse_qs, urlsplit
from urllib.request import urlopen

import pytest
from playwright.sync_api import Browser, Page, expect

import swin_core
from dashboard.shared.model_names import sample_images
from swin_core.figures.text import percent
from tests.fixtures.browser import PATIENCE, Server, at_rest, browser, findings, visible, windows

__all__ = ["browser"]

pytestmark = pytest.mark.usefixtures("one_thread")

MODEL = "swin_micro_flowers"


def strokes(page: Page) -> str:
    return parse_qs(urlsplit(page.url).query).get("brush", [""])[0].rpartition("~")[2]


@pytest.mark.parametrize(
    ("content", "status"), [(b"{}", 404), (b'{"token": "x", "stroke": {}}', 404), (b" " * 70_000, 413)]
)
def test_a_request_about_a_stroke_needs_a_token_and_is_small(dashboard: Server, content: bytes, status: int) -> None:
    with pytest.raises(HTTPError) as refused:
        urlopen(f"{dashboard.address}/stroke", content, timeout=60)
    assert refused.value.code == status


def test_a_stroke_is_answered_as_what_if_does_and_a_link_shows_it_again(dashboard: Server, browser: Browser) -> None:
    with windows(browser) as open_window:
        page = open_window()
        page.goto(f"{dashboard.address}/?sample=tulip&model={MODEL}&trust=false")
        visible(page.locator(".st-key-grid .class").first)
        at_rest(page)
        before = page.locator(".viewer").element_handle()
        page.get_by_role("button", name="Rectangle", exact=True).click()
        box = page.locator(".brush-canvas").bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 0.2 * box["height"])
        page.mouse.down()
        page.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + 0.7 * box["height"], steps=4)
        with page.expect_response("**/stroke") as first_answer:
            page.mouse.up()
        note = page.locator(".caption small", has_text="logit")
        visible(note)
        at_rest(page)
        assert before is not None
        assert before.evaluate("viewer => viewer.isConnected")  # the old answer was in view until the new one came
        page.wait_for_function("location.search.includes('brush=')")
        assert strokes(page).startswith("r-250.200-750.700")
        classifier = swin_core.load(MODEL, device="cpu")
        found = swin_core.what_if(classifier, sample_images()["tulip"], strokes(page))
        label, probability = found.after.top_classes(1)[0]
        was = float(found.before.probabilities[found.before.labels.index(label)])
        (sent,) = first_answer.value.json()
        assert sent["cells"][0]["classes"][0]["label"] == label
        assert sent["cells"][0]["classes"][0]["probability"] == pytest.approx(probability, rel=1e-4)
        first = page.locator(".viewer .class").first
        expect(first).to_contain_text(f"{label}{percent(probability)}was {percent(was)}")
        expect(note).to_contain_text(f"logit {found.change[0]:+.2f}")
        assert findings(page, ".st-key-grid") == []
        # The link shows the same, and undo leads back.
        page.reload()
        visible(note)
        expect(first).to_contain_text(f"was {percent(was)}")
        # At once, while the page may still run: the click must not be lost.
        page.get_by_role("button", name="Undo stroke").click()
        expect(note).to_have_count(0, timeout=PATIENCE)
        page.wait_for_function("!location.search.includes('brush=')")
