"""What the tests of the Browse page share: two data sets and three models, made up, and the page at an address."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixtures_pages import ROOT, empty_caches, run
from fixtures_pictures import FINE, small_cifar, write_hub
from PIL import Image
from streamlit.testing.v1 import AppTest

import swin_core
from dashboard import browse_choices, browse_tiles, browse_work, collection
from swin_core import zoo

EVIL = "<img src=x onerror=alert(1)>"
HOLDING = (browse_work, browse_tiles, browse_choices, collection)
"""The modules of the Browse page that hold something from one run of its script to the next."""


def save(folder: Path, name: str, labels: tuple[str, ...], seed: int) -> None:
    torch.manual_seed(seed)
    model = swin_core.build("swin_micro", num_classes=len(labels), image_size=32).eval()
    # So that every class is predicted for some pictures.
    pixels = torch.from_numpy(small_cifar()["pixels"]).permute(0, 3, 1, 2)
    with torch.no_grad():
        model.head.bias -= model((pixels / 255 - 0.5) / 0.5).mean(0)
    described = {"labels": labels, "image_size": 32, "mean": [0.5] * 3, "std": [0.5] * 3, "description": "random"}
    swin_core.save_weights(model, folder / f"{name}.safetensors", described)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("assets")
    save(folder, "first", FINE, 1)
    save(folder, "second", (*FINE[::-1], "whale"), 2)
    save(folder, "third", ("cat", EVIL), 3)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_hub(folder / "cifar100", small_cifar())
    draw = np.random.default_rng(0)
    for name in ("cat", EVIL):
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(60):
            pixels = draw.integers(0, 256, (24, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / name / f"{number:02}{'<b>' if number == 0 else ''}.png")
    return folder


@pytest.fixture(autouse=True)
def fresh(bundle: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three bundled models, two data sets, an empty cache folder, and nothing held from an earlier test."""
    monkeypatch.setattr(zoo, "ASSETS", bundle)
    monkeypatch.setenv("SWIN_DATA_ROOT", str(data))
    monkeypatch.setenv("SWIN_CACHE_ROOT", str(tmp_path / "cache"))
    empty_caches(monkeypatch, *HOLDING)
    monkeypatch.setattr(browse_work, "_jobs", {})


def opened(**query: str | list[str]) -> AppTest:
    """The page at an address, with all predictions."""
    return settled(at_first(**query))


def at_first(**query: str | list[str]) -> AppTest:
    """The page at an address, before its script has run."""
    app = AppTest.from_file(str(ROOT / "dashboard" / "app.py"), default_timeout=120)
    for name, value in {"model": ["first", "second"], **query}.items():
        app.query_params[name] = value
    return app.switch_page("views/browse.py")


def settled(app: AppTest) -> AppTest:
    """Run the page until all predictions are there, one model after the other."""
    end = time.monotonic() + 60
    while True:
        run(app)
        # What came while the page was drawn is shown by the next run, which may ask for the second model.
        if idle() and idle(run(app)):
            return app
        assert time.monotonic() < end
        time.sleep(0.05)


def idle(_: AppTest | None = None) -> bool:
    return all(job.error for job in [*browse_work._jobs.values()])


def sheet(app: AppTest) -> list[dict[str, Any]]:
    """The tiles of the sheet."""
    (found,) = [one for one in app.get("bidi_component") if one.proto.component_name.endswith("gallery")]
    tiles: list[dict[str, Any]] = json.loads(found.proto.json)["tiles"]
    return tiles
