"""Preprocessing against timm's own transforms."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.models import get_pretrained_cfg
from torch import nn

import swin_core
from swin_core.errors import ConfigError, ModelError
from swin_core.images.preprocessing import crop_region, crop_square
from swin_core.zoo import classifier

SIZES = [(300, 200), (201, 333), (256, 256), (224, 224), (37, 21), (500, 61)]


class Stub(nn.Module):
    """A model with the attributes that timm's preprocessing reads."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__()
        self.pretrained_cfg, self.num_classes = settings, settings["num_classes"]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.new_zeros(len(x), self.num_classes)


def stub(**changes: Any) -> Stub:
    settings = {"input_size": (3, 224, 224), "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.1), "num_classes": 1000}
    return Stub(settings | {"crop_pct": 0.9, "crop_mode": "center", "interpolation": "bicubic"} | changes)


def noise(size: tuple[int, int]) -> Image.Image:
    """An image of random pixels."""
    draw = np.random.default_rng(sum(size))
    return Image.fromarray(draw.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def assert_as_timm(model: Stub, image: Image.Image) -> None:
    """Assert that the classifier's tensor of an image equals timm's exactly."""
    classifier = swin_core.Classifier.from_timm(model)
    config = timm.data.resolve_data_config({}, model=model)
    expected = timm.data.create_transform(**config)(image)
    view = classifier.view(image)
    assert view.dtype == np.uint8
    assert torch.equal(classifier.tensor(view), expected[None])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("mode", ["center", "squash"])
@pytest.mark.parametrize("crop", [0.875, 0.9, 1.0, 1.15])
def test_view_is_timms(crop: float, mode: str, interpolation: str, size: tuple[int, int]) -> None:
    assert_as_timm(stub(crop_pct=crop, crop_mode=mode, interpolation=interpolation), noise(size))


def test_view_is_timms_for_every_preprocessing_that_timm_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier, "default_labels", cache(classifier.default_labels))  # a slow list of names
    seen = {}
    for name in timm.list_pretrained():
        settings = get_pretrained_cfg(name).to_dict()
        keys = ("input_size", "crop_pct", "crop_mode", "interpolation", "mean", "std")
        if settings["num_classes"]:
            seen.setdefault(tuple(settings[key] for key in keys), settings)
    assert len(seen) > 100
    for settings in seen.values():
        assert_as_timm(Stub(settings), noise((90, 70)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_classes": 0}, "has no classification head"),
        ({"input_size": (3, 224, 112)}, "takes no square crop"),
        ({"crop_mode": "border"}, "takes no square crop"),
    ],
)
def test_models_without_a_square_view_or_a_head_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        swin_core.Classifier.from_timm(stub(**changes))


@pytest.mark.parametrize("squash", [False, True])
@pytest.mark.parametrize("fraction", [0.8, 0.875, 1.0, 1.15])
def test_the_crop_is_the_region_of_the_view(fraction: float, squash: bool) -> None:
    """Pixel values are coordinates, so a view shows which region it was made of."""
    for width, height in [(300, 200), (201, 333), (64, 64), (40, 97)]:
        rows, columns = np.mgrid[:height, :width].astype(np.float32) + 0.5
        left, top, right, bottom = crop_region((width, height), 64, fraction, squash)
        for plane, first, last in ((columns, left, right), (rows.T, top, bottom)):
            image = Image.fromarray(np.ascontiguousarray(plane if plane is columns else plane.T))
            seen = np.asarray(crop_square(image, 64, fraction, Image.Resampling.BILINEAR, squash))
            line = seen[32] if plane is columns else seen[:, 32]
            step = (line[40] - line[24]) / 16
            start = line[24] - 24.5 * step
            assert abs(start - first) <= 0.55  # a whole number of pixels
            assert abs(start + 64 * step - last) <= 0.55


def test_the_crop_of_an_image_of_the_models_size_is_the_view() -> None:
    for size, fraction in (((96, 64), 1.0), (((64 * 5) // 4, 200), 0.8)):
        classifier = swin_core.Classifier(stub(), None, (0.5,) * 3, (0.5,) * 3, 64, crop_fraction=fraction)
        image = noise(size)
        np.testing.assert_array_equal(np.asarray(classifier.crop(image)), classifier.view(image))


@pytest.mark.parametrize("squash", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (2, 1), (1, 700), (5000, 3), (50_000, 1), (1, 50_000)])
def test_any_image_has_a_view_and_a_crop(size: tuple[int, int], squash: bool) -> None:
    """A strip of 50,000 pixels, resized as a whole, would be 11 million pixels long."""
    classifier = swin_core.Classifier(stub(), None, (0.5,) * 3, (0.5,) * 3, 224, crop_fraction=0.9, squash=squash)
    image = noise(size)
    started = time.perf_counter()
    assert classifier.view(image).shape == (224, 224, 3)
    assert time.perf_counter() - started < 2
    crop = classifier.crop(image)
    assert min(crop.size) >= 1
    assert all(part <= whole for part, whole in zip(crop.size, size, strict=True))


def test_the_image_stays_as_it_was() -> None:
    for squash in (False, True):
        classifier = swin_core.Classifier(stub(), None, (0.5,) * 3, (0.5,) * 3, 32, squash=squash)
        image = noise((32, 32))
        classifier.view(image)
        classifier.crop(image).thumbnail((4, 4))
        np.testing.assert_array_equal(np.asarray(image), np.asarray(noise((32, 32))))


def test_many_views_make_one_batch() -> None:
    classifier = swin_core.Classifier.from_timm(stub())
    views = np.stack([classifier.view(noise(size)) for size in SIZES[:3]])
    assert torch.equal(classifier.tensor(views), torch.cat([classifier.tensor(view) for view in views]))
    with pytest.raises(ConfigError, match="takes 3 channels; the image has 4"):
        classifier.tensor(np.zeros((8, 8, 4), np.uint8))


@pytest.mark.parametrize(
    "changes",
    [
        {"mean": (0.5, 0.5)},
        {"std": (0.5, 0.5, 0.0)},
        {"std": (0.5, 0.5, float("nan"))},
        {"mean": (0.5, 0.5, float("inf"))},
        {"mean": (), "std": ()},
        {"image_size": 0},
        {"image_size": 10**7},
        {"crop_fraction": 0.0},
        {"crop_fraction": 2.1},
        {"interpolation": "cubic"},
    ],
)
def test_wrong_preprocessing_is_refused(changes: dict[str, Any]) -> None:
    given: dict[str, Any] = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "image_size": 32} | changes
    with pytest.raises(ConfigError) as caught:
        swin_core.Classifier(stub(), None, **given)
    assert "\n" not in str(caught.value)
