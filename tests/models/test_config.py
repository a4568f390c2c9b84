"""A model variant is one line of `VARIANTS`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import swin_core
from swin_core.models.config import VARIANTS, SwinConfig
from swin_core.training.config import TrainConfig


def test_one_line_adds_a_variant(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    toy = SwinConfig(image_size=16, patch_size=2, embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4)
    monkeypatch.setitem(VARIANTS, "swin_toy", toy)
    model = swin_core.build("swin_toy", num_classes=3, image_size=16).eval()
    assert TrainConfig(variant="swin_toy", data="cifar100").variant == "swin_toy"
    swin_core.save_weights(model, tmp_path / "toy.safetensors")
    again = swin_core.build("swin_toy", num_classes=3, image_size=16).eval()
    swin_core.load_weights(again, tmp_path / "toy.safetensors")
    image = torch.randn(1, 3, 16, 16)
    assert torch.equal(again(image), model(image))
    with pytest.raises(swin_core.SwinError, match="swin_toy"):  # the error for an unknown name lists it
        swin_core.build("swin_toyy")
