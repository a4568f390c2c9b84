"""Models and images of the tests of attribution methods."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from torch import Tensor, nn

import swin_core
from tests.fixtures.grad_cam import TIMM


@pytest.fixture(scope="module")
def swin() -> nn.Module:
    """timm's Swin at 64 pixels: the last block on a grid of 8 x 8, its second norm as tokens."""
    torch.manual_seed(3)
    model = timm.create_model(
        "swin_tiny_patch4_window7_224",
        img_size=64,
        embed_dim=24,
        depths=(2, 2),
        num_heads=(2, 4),
        window_size=4,
        num_classes=6,
    )
    nn.init.normal_(model.get_classifier().weight, std=0.5)
    return model.eval()


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    torch.manual_seed(3)
    return timm.create_model("resnet10t", num_classes=6).eval()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3, 64, 64)


@pytest.fixture
def cat(samples: dict[str, Path]) -> Image.Image:
    return swin_core.read_image(samples["cat"])


@pytest.fixture(scope="module", params=TIMM)
def peer(request: pytest.FixtureRequest) -> swin_core.Classifier:
    """A timm classifier of random weights, larger than timm's own so that its logits differ between classes."""
    torch.manual_seed(1)
    model = timm.create_model(request.param, num_classes=10)
    nn.init.normal_(model.get_classifier().weight, std=0.1)
    return swin_core.Classifier.from_timm(model.eval(), request.param)
