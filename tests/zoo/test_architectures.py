"""Architectures of timm and torchvision: the bundled table, and weights that fit."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision

from swin_core.errors import ModelError, WeightsError
from swin_core.zoo.architectures import _fingerprints, build_architecture, candidates, fingerprint, fit


@pytest.mark.parametrize(
    "name",
    [
        "timm/resnet18",
        "timm/test_vit",
        "timm/swin_tiny_patch4_window7_224",
        "torchvision/swin_v2_t",
        "torchvision/vgg11",
    ],
)
def test_the_table_is_of_the_installed_libraries(name: str) -> None:
    """If this fails after an update of timm or torchvision, run scripts/index_architectures.py."""
    assert _fingerprints()[name] == fingerprint(name)


def test_nearly_all_architectures_are_in_the_table() -> None:
    names = [f"timm/{name}" for name in timm.list_models()]
    names += [f"torchvision/{name}" for name in torchvision.models.list_models(module=torchvision.models)]
    assert len(set(names) - set(_fingerprints())) <= 5


def test_a_file_of_each_kind_is_recognised_with_other_classes_and_channels() -> None:
    for name, settings in (
        ("resnet34", {"num_classes": 7, "in_chans": 1}),
        ("mobilenetv3_small_100", {"num_classes": 2}),
        ("convnext_atto", {"num_classes": 1001}),
        ("test_vit2", {"num_classes": 3, "img_size": 96}),
    ):
        state = timm.create_model(name, **settings).state_dict()
        assert f"timm/{name}" in candidates({f"module.{key}": value for key, value in state.items()})
        assert fit(f"timm/{name}", state).settings == settings
    state = torchvision.models.vit_b_16(num_classes=4, image_size=32).state_dict()
    with pytest.raises(WeightsError, match=r"'encoder.pos_embedding' has the shape \(1, 5, 768\), not \(1, 197, 768\)"):
        fit("torchvision/vit_b_16", state)


def test_a_name_for_the_size_of_the_weights_comes_first() -> None:
    for size in (224, 384):
        state = timm.create_model(f"vit_tiny_patch16_{size}", num_classes=3).state_dict()
        found = candidates(state)
        assert f"timm/vit_tiny_patch16_{size}" in found
        assert f"timm/vit_tiny_patch16_{608 - size}" not in found


def test_weights_of_another_architecture_are_refused() -> None:
    state = timm.create_model("resnet18").state_dict()
    for name, words in (
        ("timm/resnet34", "it does not hold the weights of timm/resnet34: it lacks 'layer1.2"),
        ("timm/resnet50", "timm/resnet50: it lacks"),
        ("timm/resnet14t", "timm/resnet14t: it lacks 'conv1.0.weight'"),
    ):
        with pytest.raises(WeightsError, match=words):
            fit(name, state)
    widened = state | {"layer4.1.conv2.weight": torch.zeros(512, 512, 5, 5)}
    with pytest.raises(
        WeightsError, match=r"'layer4.1.conv2.weight' has the shape \(512, 512, 5, 5\), not \(512, 512, 3, 3\)"
    ):
        fit("timm/resnet18", widened)


def test_names_of_no_architecture() -> None:
    for name, words in (
        ("timm/resnet181", "timm has no model 'resnet181'; did you mean timm/resnet18"),
        ("torchvision/swin_v2_tt", "torchvision has no model 'swin_v2_tt'; did you mean torchvision/swin_v2_t"),
        ("keras/vgg", "there is no architecture 'keras/vgg'"),
    ):
        with pytest.raises(ModelError, match=words):
            build_architecture(name)
