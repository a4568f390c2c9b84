"""The Compare page without a browser, with small models of random weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

import swin_core
from dashboard import cache, choices
from dashboard.cache import Picture
from swin_core.cache import LRUCache

ROOT = Path(__file__).resolve().parent.parent
FLOWERS = ("daisy", "dandelion", "roses", "sunflowers", "tulips")
OTHERS = ("rose", "tulip", "rocket", "mountain", "<img src=x onerror=alert(1)>", "[x](https://example.org)")


def save_model(folder: Path, name: str, labels: tuple[str, ...], seed: int) -> None:
    torch.manual_seed(seed)
    model = swin_core.build("swin_micro", num_classes=len(labels), image_size=32)
    described = {"labels": labels, "image_size": 32, "mean": [0.5] * 3, "std": [0.5] * 3, "description": "random"}
    swin_core.save_weights(model, folder / f"{name}.safetensors", described)


def caches(*modules: ModuleType) -> Iterator[tuple[ModuleType, str, LRUCache[Any]]]:
    """All caches of modules: module, name, cache."""
    for module in modules:
        for name, held in list(vars(module).items()):
            if isinstance(held, LRUCache):
                yield module, name, held


def empty_caches(monkeypatch: pytest.MonkeyPatch, *modules: ModuleType) -> None:
    """Let nothing be held from an earlier test, neither by the cache nor by these modules."""
    for module, name, held in caches(cache, *modules):
        monkeypatch.setattr(module, name, LRUCache(held.entries))


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two small bundled models of random weights."""
    folder = tmp_path_factory.mktemp("assets")
    save_model(folder, "first", FLOWERS, 1)
    save_model(folder, "second", OTHERS, 2)
    return folder


def opened(**query: str | list[str]) -> AppTest:
    """The page at an address, without the figures of trust, which have tests of their own."""
    app = AppTest.from_file(str(ROOT / "dashboard" / "app.py"), default_timeout=120)
    for name, value in {"trust": "false", **query}.items():
        app.query_params[name] = value
    return run(app)


def run(app: AppTest) -> AppTest:
    app.run()
    assert not app.exception, app.exception
    return app


def figure(app: AppTest) -> dict[str, Any]:
    """The grid's figure; the other chart of the page is the agreement."""
    found: dict[str, Any] = json.loads(app.get("plotly_chart")[0].proto.spec)
    return found


def texts(app: AppTest) -> str:
    """All text of the grid, with lines joined."""
    return " ".join(note["text"] for note in figure(app)["layout"]["annotations"]).replace("<br>", " ")


def picture(name: str = "tulip", key: str = "a picture") -> Picture:
    image = swin_core.read_image(choices.samples()[name])
    return Picture(key, name, image, np.asarray(image), name)
