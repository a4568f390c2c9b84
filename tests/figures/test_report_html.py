"""The HTML report: it is complete, loads nothing, runs the viewer alone, and holds no metadata of image files."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import Browser

import swin_core
from swin_core.attribution.methods import METHODS
from swin_core.comparisons.compare import Missing, compare
from swin_core.figures.files import encode
from swin_core.figures.grid import Grid
from swin_core.figures.viewer_payload import viewer_script
from tests.fixtures.browser import browser, findings
from tests.fixtures.reports import drawn, noise_image, small_classifier, with_trust

__all__ = ["browser", "drawn", "small_classifier"]

pytestmark = pytest.mark.usefixtures("one_thread")

ATTACK = "<img src=https://example.org/x onerror=alert(1)>\"'&"


class Seen(HTMLParser):
    """Tags, attributes and texts of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def _starts(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def _says(self, data: str) -> None:
        self.texts.append(data)

    # The names by which the parser calls them.
    handle_starttag, handle_data = _starts, _says

    def every(self, name: str) -> list[str]:
        return [value for _, known, value in self.attributes if known == name]


@pytest.fixture(scope="module")
def page() -> str:
    """A page with hostile names of model, class, image and true class, with trust and a failed cell."""
    model = swin_core.build("swin_micro", num_classes=5, image_size=32)
    labels = [ATTACK + str(number) for number in range(5)]
    hostile = swin_core.Classifier(model, labels, (0.5,) * 3, (0.5,) * 3, 32, name=ATTACK)
    drawn = compare([(ATTACK, noise_image())], [hostile, Missing(ATTACK, f"there is no {ATTACK}")])
    drawn = with_trust(drawn, hostile)
    return encode(replace(drawn, rows=tuple(replace(row, truth=ATTACK) for row in drawn.rows)), "html").decode()


def test_the_page_has_no_script_but_the_viewer_and_loads_nothing(page: str) -> None:
    seen = Seen(page)
    assert [value for tag, name, value in seen.attributes if tag == "script" and name == "type"] == [
        "application/json",
        "module",
    ]
    (script,) = re.findall(r'<script type="module">(.*?)</script>', page, re.DOTALL)
    assert script.startswith(viewer_script())
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in seen.every("content")[0]
    allowed = {"html", "head", "meta", "title", "style", "body", "main", "section", "div", "p", "span", "figure"}
    allowed |= {"figcaption", "img", "small", "b", "code", "h1", "h2", "h3", "script"}
    allowed |= {"table", "thead", "tbody", "tr", "th", "td"}
    assert set(seen.tags) <= allowed
    assert not [name for _, name, _ in seen.attributes if name.startswith("on") or name in ("href", "srcset", "action")]
    assert all(value.startswith("data:image/jpeg;base64,") for value in seen.every("src"))
    styles = "".join(re.findall(r"<style>(.*?)</style>", page, re.DOTALL))
    assert "url(" not in styles
    assert "@import" not in styles
    assert "default-src 'none'" in seen.every("content")[0]


def test_from_disk_without_a_network_the_viewer_replaces_the_images(
    page: str, browser: Browser, tmp_path: Path
) -> None:
    (tmp_path / "report.html").write_text(page, encoding="utf-8")
    for scripts in (True, False):
        context = browser.new_context(java_script_enabled=scripts, offline=True)
        window = context.new_page()
        asked: list[str] = []
        faults: list[str] = []
        window.on("request", lambda request, asked=asked: asked.append(request.url))  # type: ignore[misc]
        window.on("console", lambda message, faults=faults: faults.append(message.text))  # type: ignore[misc]
        window.goto((tmp_path / "report.html").as_uri())
        assert window.locator("figure img:visible").count() == (0 if scripts else 2)
        assert window.locator(".viewer .frame:visible").count() == (2 if scripts else 0)
        assert window.locator("img[src^='https:']").count() == 0
        if scripts:
            slider = window.get_by_role("slider", name="Opacity", exact=True)
            slider.fill("20")
            assert ATTACK in window.locator(".viewer").inner_text()
            assert findings(window) == []
        assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
        assert faults == []
        context.close()


def test_every_name_on_the_page_is_text(page: str) -> None:
    seen = Seen(page)
    text = " ".join(seen.texts)
    assert text.count(ATTACK) >= 6  # title, caption, truth, model, class, first choices, the cell that failed
    assert all(value.startswith("data:") for value in seen.every("src"))
    assert [value for value in seen.every("alt") if ATTACK in value]


def test_the_page_says_what_was_measured_with_what(small_classifier: swin_core.Classifier, drawn: Grid) -> None:
    measured = with_trust(drawn, small_classifier)
    text = " ".join(Seen(encode(measured, "html").decode()).texts)
    cell = measured.rows[0].cells[0]
    explanation, trust = cell.explanation, cell.trust
    assert explanation is not None
    assert trust is not None
    for label, probability in zip(explanation.labels, explanation.probabilities, strict=True):
        assert re.search(rf"{label} · [<\d.]+", text), (label, probability)
    for words in (
        small_classifier.weights_hash,
        METHODS[explanation.method].title,
        trust.sentence,
        f"{trust.srg:+.2f}",
        torch.__version__.split("+")[0],
        "cividis",
        measured.scale_name.removeprefix("scale: "),
    ):
        assert words in text


def test_every_image_of_the_page_has_a_text_and_can_be_read(page: str) -> None:
    seen = Seen(page)
    assert seen.tags.count("img") == len(seen.every("alt"))
    assert all(seen.every("alt"))
    for source in seen.every("src"):
        with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as image:
            image.load()
            assert not image.getexif()


# -- metadata


def test_neither_report_holds_metadata_of_the_file(small_classifier: swin_core.Classifier, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8825)[29] = "1999:12:31"
    exif[0x010E] = "SECRET GARDEN"
    noise_image().save(tmp_path / "mine.jpg", exif=exif)
    assert b"SECRET GARDEN" in (tmp_path / "mine.jpg").read_bytes()
    image = swin_core.read_image(tmp_path / "mine.jpg")
    # Even an image that still has its metadata, as Pillow opens it, leaves none.
    for one in (image, Image.open(tmp_path / "mine.jpg")):
        drawn = compare([("mine.jpg", one)], [small_classifier])
        content = json.loads(encode(drawn, "json"))
        pixels = base64.b64decode(content["pictures"][0])
        for text in (encode(drawn, "html"), encode(drawn, "json"), pixels):
            assert b"SECRET" not in text
            assert b"1999:12:31" not in text
        assert {pixels[place - 4 : place] for place in chunk_starts(pixels)} == {b"IHDR", b"IDAT", b"IEND"}
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(pixels))), np.asarray(one))


def chunk_starts(content: bytes) -> list[int]:
    """Where the content of each chunk of a PNG begins."""
    places, at = [], 8
    while at < len(content):
        places.append(at + 8)
        at += 12 + int.from_bytes(content[at : at + 4], "big")
    return places


@pytest.mark.parametrize("count", [1, 3])
def test_cells_lie_close_together_and_are_as_large_as_there_is_room(
    small_classifier: swin_core.Classifier, browser: Browser, count: int
) -> None:
    content = encode(compare([("rose", noise_image())], [small_classifier] * count), "html").decode()
    window = browser.new_page(viewport={"width": 1440, "height": 900})
    window.set_content(content)
    window.evaluate("document.body.classList.remove('live')")  # as where no script runs
    boxes = window.locator("figure").evaluate_all("all => all.map(one => one.getBoundingClientRect().toJSON())")
    window.close()
    assert len(boxes) == count + 1
    assert len({box["y"] for box in boxes}) == 1
    for left, right in pairwise(boxes):
        assert right["x"] - left["x"] - left["width"] == pytest.approx(16, abs=1)
    assert boxes[0]["width"] == pytest.approx(min(400, (1232 - 16 * count) / (count + 1)), abs=1)
