"""Pretrained models of torchvision: from torch's cache, or a message without a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

import swin_core
from swin_core.errors import ModelError
from swin_core.zoo import torchvision_models
from tests.fixtures.reference import randomise

NAME = "mobilenet_v3_small"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.setattr(torchvision_models, "reachable", lambda host: False)
    return tmp_path / "checkpoints"


def test_without_a_network_the_message_says_what_to_do(cache: Path) -> None:
    with pytest.raises(ModelError, match=f"the weights of torchvision/{NAME} are not on this machine and there is no"):
        swin_core.load(f"torchvision/{NAME}")
    with pytest.raises(ModelError, match="torchvision has no model 'mobilenet_v9'"):
        swin_core.load("torchvision/mobilenet_v9")


def test_weights_in_the_cache_give_torchvisions_probabilities(cache: Path) -> None:
    model = randomise(torchvision.models.get_model(NAME, weights=None)).eval()
    weights = torchvision.models.get_model_weights(NAME).DEFAULT
    cache.mkdir()
    torch.save(model.state_dict(), cache / weights.url.rpartition("/")[2])
    classifier = swin_core.load(f"torchvision/{NAME}")
    assert (classifier.name, classifier.labels[0]) == (f"torchvision/{NAME}", "tench")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 250, 3), dtype=np.uint8))
    with torch.inference_mode():
        expected = model(weights.transforms()(image)[None]).softmax(-1).numpy()
    np.testing.assert_allclose(classifier.predict([image]), expected, rtol=1e-3, atol=1e-6)
