"""In Chromium: a weights file that says nothing becomes a model with class names on Compare."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import torch
from playwright.sync_api import Browser, expect

from tests.fixtures.browser import NARROW, PATIENCE, WIDE, Server, at_rest, browser, findings, visible, windows

__all__ = ["browser"]

NAMES = ["Löwenzahn", "daisy", "roses", "sunflowers", "tulips"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """The dashboard, started in a folder of its own."""
    started = Server(tmp_path, folder=tmp_path)
    yield started
    started.end()


def test_from_an_unknown_file_to_a_heat_map_with_the_right_class_name(
    server: Server, browser: Browser, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=5)
    with torch.no_grad():
        head = model.get_classifier()
        head.bias.copy_(torch.tensor([9.0, 0, 0, 0, 0]))  # the first class, for any image
    torch.save({"state_dict": model.state_dict(), "arch": "test_resnet"}, tmp_path / "mine.pth")
    with windows(browser) as open_window:
        page = open_window(WIDE)
        page.goto(f"{server.address}/?model=swin_micro_flowers&trust=false")
        page.get_by_role("button", name="Add a model").click()
        page.get_by_role("link", name="From a weights file").click()
        visible(page.get_by_role("heading", name="1. Weights"))
        at_rest(page)
        page.locator("input[type=file]").first.set_input_files(tmp_path / "mine.pth")
        names = page.get_by_label("Class names", exact=True)
        visible(names)
        names.fill("\n".join(NAMES[:4]))
        names.press("Control+Enter")
        visible(page.get_by_text("the model has 5 classes, these are 4 names"))
        names.fill("\n".join(NAMES))
        names.press("Control+Enter")
        save = page.get_by_role("button", name="Save and compare")
        expect(save).to_be_enabled(timeout=PATIENCE)
        visible(page.get_by_text(f"{NAMES[0]} · ", exact=False).first)
        at_rest(page)
        assert findings(page) == []
        page.set_viewport_size({"width": NARROW[0], "height": NARROW[1]})
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") <= NARROW[0]
        page.set_viewport_size({"width": WIDE[0], "height": WIDE[1]})
        save.click()
        visible(page.get_by_role("heading", name="Compare models"))
        at_rest(page)
        expect(page.locator(".viewer .class").first).to_contain_text(NAMES[0], timeout=PATIENCE)
    assert tomllib.loads((tmp_path / "models" / "mine.pth.card.toml").read_text())["labels"] == NAMES
