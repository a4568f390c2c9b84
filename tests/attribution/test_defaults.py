"""Default methods: the best measured one for a Swin, Grad-CAM for other architectures."""

from __future__ import annotations

import numpy as np
import pytest
import timm
from PIL import Image

import swin_core
from swin_core.attribution.defaults import default_method
from swin_core.attribution.layers import default_layer
from swin_core.zoo.classifier import Classifier

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def image() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8))


def test_our_swin_starts_with_patches_hirescam_at_a_layer(small_classifier: Classifier, image: Image.Image) -> None:
    assert default_method(small_classifier) == "patchrelevance"
    assert default_method(small_classifier, at_layer=True) == "hirescam"
    assert default_layer(small_classifier).endswith("norm1")
    default = swin_core.explain(small_classifier, image)
    assert (default.method, default.layers) == ("patchrelevance", ("input",))
    named = swin_core.explain(small_classifier, image, method="patchrelevance")
    np.testing.assert_array_equal(default.maps, named.maps)
    at_norm = swin_core.explain(small_classifier, image, layers="norm")
    assert (at_norm.method, at_norm.layers) == ("hirescam", ("norm",))


def test_one_stage_starts_with_rollout(image: Image.Image) -> None:
    model = swin_core.build("vit_nano", num_classes=3)
    classifier = Classifier(model, ["a", "b", "c"], (0.5,) * 3, (0.5,) * 3, 32)
    assert default_method(classifier) == "gradrollout"
    assert swin_core.explain(classifier, image).maps.max() > 0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("swin_tiny_patch4_window7_224", "gradrollout"),
        ("swinv2_cr_tiny_224", "gradcam"),
        ("vit_tiny_patch16_224", "gradcam"),
        ("resnet18", "gradcam"),
    ],
)
def test_timm_models_have_a_default_that_works(name: str, expected: str, image: Image.Image) -> None:
    model = timm.create_model(name, num_classes=3)
    classifier = Classifier(model, ["a", "b", "c"], (0.5,) * 3, (0.5,) * 3, 224)
    assert default_method(classifier) == expected
    assert swin_core.explain(classifier, image).method == expected


def test_windows_without_attention_need_none(image: Image.Image) -> None:
    model = swin_core.build("swin_mlp_nano", num_classes=3)
    classifier = Classifier(model, ["a", "b", "c"], (0.5,) * 3, (0.5,) * 3, 32)
    assert default_method(classifier) == "patchrelevance"
    assert default_method(classifier, at_layer=True) == "hirescam"
    assert swin_core.explain(classifier, image).maps.max() > 0
    model = swin_core.build("swin_mlp_nano", num_classes=3, depths=(2,), num_heads=(2,))
    classifier = Classifier(model, ["a", "b", "c"], (0.5,) * 3, (0.5,) * 3, 32)
    assert default_method(classifier) == "gradcam"
    assert swin_core.explain(classifier, image).maps.max() > 0
