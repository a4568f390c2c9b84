"""Images and models as callers have them: every kind gives the same pixels, and the rest gets one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn

import swin_core
from swin_core.errors import ConfigError, ImageError
from swin_core.zoo.inputs import as_classifier, as_image, prepare

pytestmark = pytest.mark.usefixtures("one_thread")
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.1)


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 52, 3), dtype=np.uint8))


def tiny(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    return swin_core.build("swin_nano", num_classes=3, depths=(1, 1), num_heads=(2, 4), **options).eval()


def test_every_kind_of_image_gives_the_same_pixels(picture: Image.Image, tmp_path: Path) -> None:
    picture.save(tmp_path / "image.png")
    pixels = np.asarray(picture)
    floats = (pixels / 255).astype(np.float32)
    kinds = {
        "path": tmp_path / "image.png",
        "text": str(tmp_path / "image.png"),
        "bytes": (tmp_path / "image.png").read_bytes(),
        "RGBA": picture.convert("RGBA"),
        "HWC": pixels,
        "CHW": pixels.transpose(2, 0, 1),
        "NHWC": pixels[None],
        "HWC float": floats,
        "CHW float64": floats.transpose(2, 0, 1).astype(np.float64),
        "tensor": torch.tensor(pixels.transpose(2, 0, 1).copy()),
        "batch of one": torch.tensor(pixels.transpose(2, 0, 1).copy())[None],
    }
    for kind, image in kinds.items():
        np.testing.assert_array_equal(np.asarray(as_image(image)), pixels, err_msg=kind)
    grey = np.asarray(picture.convert("L"))
    for image in (grey, grey[None], grey[..., None]):
        np.testing.assert_array_equal(np.asarray(as_image(image)), np.repeat(grey[..., None], 3, 2))


def test_a_float_tensor_is_the_models_input(picture: Image.Image) -> None:
    classifier = swin_core.Classifier(tiny(), "abc", MEAN, STD, 32)
    expected = prepare(classifier, picture)
    x = expected.x.clone().requires_grad_()
    for tensor in (x, x[0]):
        prepared = prepare(classifier, tensor)
        torch.testing.assert_close(prepared.x, expected.x, rtol=0, atol=0)
        np.testing.assert_array_equal(prepared.view, expected.view)
        assert prepared.region == (0, 0, 32, 32)
    assert prepare(classifier, x.double()).x.dtype == torch.float32


def test_other_numbers_of_channels_are_shown_as_three() -> None:
    for channels in (1, 2, 4):
        model = tiny(in_chans=channels)
        classifier = swin_core.Classifier(model, "abc", [0.5] * channels, [0.5] * channels, 32)
        tensor = torch.rand(channels, 32, 32)
        view = prepare(classifier, tensor).view
        assert view.shape == (32, 32, 3)
        np.testing.assert_allclose(view[..., 0], 255 * (tensor[0] / 2 + 0.5), atol=0.51)
        assert swin_core.explain(classifier, tensor).maps.max() > 0


@pytest.mark.parametrize(
    ("image", "line"),
    [
        (np.zeros((5, 5, 2), np.uint8), "shape .* is no image"),
        (np.zeros((2, 3, 4, 4), np.uint8), "shape .* is no image"),
        (np.zeros((0, 4, 3), np.uint8), "shape .* is no image"),
        (np.full((4, 4, 3), 1.5), "must hold 0 to 1"),
        (np.full((4, 4, 3), np.nan), "must hold 0 to 1"),
        (np.zeros((4, 4, 3), np.int64), "array of int64"),
        (np.zeros((4, 4, 3), bool), "array of bool"),
        (torch.zeros(2, 3, 32, 32), "no single image .*explain_batch"),
        (torch.zeros(32, 32), "no single image"),
        (torch.zeros(3, 32, 32), "single colour"),
        (None, "not NoneType"),
    ],
)
def test_what_is_no_image_gets_one_line(image: Any, line: str) -> None:
    with pytest.raises(ImageError, match=line) as caught:
        prepare(swin_core.Classifier(tiny(), "abc", MEAN, STD, 32), image)
    assert "\n" not in str(caught.value)


def test_channels_must_be_the_models() -> None:
    with pytest.raises(ConfigError, match="takes 3 channels; the tensor has 4"):
        prepare(swin_core.Classifier(tiny(), "abc", MEAN, STD, 32), torch.rand(4, 32, 32))


def test_a_timm_model_brings_its_preprocessing(picture: Image.Image) -> None:
    model = timm.create_model("test_vit", num_classes=3)
    wrapped = swin_core.Classifier.from_timm(model)
    bare = as_classifier(model, picture)
    assert (bare.mean, bare.std, bare.image_size) == (wrapped.mean, wrapped.std, wrapped.image_size)
    alone, other = swin_core.explain(model, picture, 1), swin_core.explain(wrapped, picture, 1)
    np.testing.assert_array_equal(alone.maps, other.maps)
    assert alone.weights_hash == other.weights_hash


def test_a_bare_module_explains_normalised_tensors(picture: Image.Image) -> None:
    model = tiny()
    classifier = swin_core.Classifier(model, "abc", MEAN, STD, 32)
    x = classifier.tensor(classifier.view(picture))
    alone, other = swin_core.explain(model, x, [0, 2]), swin_core.explain(classifier, picture, ["a", "c"])
    np.testing.assert_array_equal(alone.maps, other.maps)
    assert alone.labels == ("class 0", "class 1", "class 2")
    assert (alone.view.min(), alone.view.max()) == (0, 255)
    with pytest.raises(ConfigError, match="brings no preprocessing"):
        swin_core.explain(model, picture)
    with pytest.raises(swin_core.SwinError, match="has no class 'rose'; it knows class 0, class 1, class 2"):
        swin_core.explain(model, x, "rose")
    with pytest.raises(ConfigError, match="a torch module, not str"):
        swin_core.explain("swin_nano", picture)
