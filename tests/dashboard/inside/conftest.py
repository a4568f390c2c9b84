"""The models of the tests of the Inside page."""

from __future__ import annotations

from pathlib import Path

import pytest

import swin_core
from dashboard.inside import inspection as inspection_module
from swin_core.zoo import load as zoo
from tests.fixtures.pages import FLOWERS, empty_caches, save_model


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two small bundled models of random weights; the second has no attention."""
    folder = tmp_path_factory.mktemp("assets")
    save_model(folder, "first", FLOWERS, 1)
    model = swin_core.build("swin_mlp_nano", num_classes=5, image_size=32)
    described = {"labels": FLOWERS, "image_size": 32, "mean": [0.5] * 3, "std": [0.5] * 3, "description": "random"}
    swin_core.save_weights(model, folder / "mlp.safetensors", described)
    return folder


@pytest.fixture
def fresh(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use these two models as the bundled ones, with empty caches."""
    monkeypatch.setattr(zoo, "ASSETS", bundle)
    empty_caches(monkeypatch, inspection_module)
