"""Key layouts of other libraries, and the config that the shapes of weights imply."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from swin_core.errors import WeightsError
from swin_core.models.swin import Swin
from swin_core.weights import key_layouts
from swin_core.weights.files import load_weights
from swin_core.weights.key_layouts import LAYOUTS, KeyLayout, convert
from swin_core.weights.shapes import config_of
from swin_core.zoo.build import build
from tests.fixtures.weights import SMALL, copies, microsoft_state, same, small


def test_old_timm_files_have_the_authors_layout() -> None:
    state = microsoft_state(small())
    assert convert(state)[1] == "microsoft"
    # timm 0.8: patch merging closes a stage, as in the authors' code, and the head is timm's.
    model = small(depths=(2, 2, 1, 1), num_heads=(1, 2, 2, 2))
    state = {key.replace("head.", "head.fc."): value for key, value in copies(model).items()}
    own, layout = convert(state)
    assert layout == "timm"
    assert same(own, copies(model))


def test_published_names_are_unique_across_a_four_stage_model() -> None:
    config = replace(SMALL, depths=(2, 2, 2, 2), num_heads=(1, 2, 2, 2))
    model = Swin(config)
    theirs = timm.create_model(
        "swin_tiny_patch4_window7_224", embed_dim=12, depths=(2, 2, 2, 2), num_heads=(1, 2, 2, 2), num_classes=10
    )
    own, _ = convert(theirs.state_dict())
    assert {key: value.shape for key, value in own.items()} == {
        key: value.shape for key, value in model.state_dict().items()
    }


def toy_key(key: str) -> str:
    """Our key in the layout of a made-up library that counts stages from 1."""
    key = re.sub(r"^layers\.(\d)\.blocks\.", lambda match: f"stage{int(match[1]) + 1}.block", key)
    key = re.sub(r"^layers\.(\d)\.downsample\.", r"pool.\1.", key)
    return key.replace(".mlp.", ".ffn.").replace("patch_embed.", "stem.").replace("head.", "classifier.")


def test_a_new_layout_is_one_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    toy = KeyLayout(
        "toy",
        lambda keys: "stem.proj.weight" in keys,
        {
            "stem.": "patch_embed.",
            "stage{next}.block": "layers.{stage}.blocks.",
            "pool.{stage}.": "layers.{stage}.downsample.",
            ".ffn.": ".mlp.",
            "classifier.": "head.",
        },
    )
    source, model = small(seed=1), small()
    path = tmp_path / "toy.pth"
    torch.save({toy_key(key): value for key, value in copies(source).items()}, path)
    with pytest.raises(WeightsError, match="not those of a Swin"):
        load_weights(model, path)
    monkeypatch.setattr(key_layouts, "LAYOUTS", [*LAYOUTS, toy])
    assert load_weights(model, path).layout == "toy"
    assert same(copies(model), copies(source))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"in_chans": 13, "patch_size": 2, "image_size": 28},
        {"depths": (1, 2, 3), "num_heads": (1, 2, 4), "image_size": 112, "num_classes": 0},
        {"mlp_ratio": 2.5, "qkv_bias": False},
        {"mixer": "mlp", "window_size": 4, "image_size": 32},
        {"absolute_embedding": True, "image_size": 200},
    ],
)
def test_config_of_weights_without_metadata(changes: dict[str, Any]) -> None:
    model = small(**changes)
    assert config_of(model.state_dict()) == model.config


@pytest.mark.parametrize(
    "variant",
    ["swin_tiny", "swin_mlp_tiny_c24", "swin_nano", "swin_micro", "swin_milli", "swin_mini", "swin_mlp_nano"],
)
def test_config_of_named_variants(variant: str) -> None:
    model = build(variant)
    assert config_of(model.state_dict()) == model.config
