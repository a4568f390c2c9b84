"""Layouts of Hugging Face and OpenMMLab, and what shapes, masks and windows of a file tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import SwinConfig as TheirConfig
from transformers import SwinForImageClassification

from swin_core.errors import WeightsError
from swin_core.models.swin import Swin
from swin_core.weights.files import load_weights, read_config
from swin_core.weights.shapes import config_of
from tests.fixtures.reference import randomise, relative_error
from tests.fixtures.weights import copies, microsoft_state, small


@pytest.mark.parametrize("qkv_bias", [True, False])
def test_hugging_face_swin_gives_the_same_logits(qkv_bias: bool, tmp_path: Path) -> None:
    config = TheirConfig(
        image_size=64, embed_dim=12, depths=[2, 2], num_heads=[2, 3], window_size=4, num_labels=10, qkv_bias=qkv_bias
    )
    theirs = randomise(SwinForImageClassification(config)).eval()
    torch.save(
        {"state_dict": {f"model.{key}": value for key, value in theirs.state_dict().items()}}, tmp_path / "w.ckpt"
    )
    model = Swin(read_config(tmp_path / "w.ckpt")).eval()
    report = load_weights(model, tmp_path / "w.ckpt")
    assert (report.layout, report.adapted, report.random) == ("transformers", (), ())
    assert model.config.qkv_bias == qkv_bias
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert relative_error(model(x), theirs(x).logits) < 1e-5


class UnfoldMerging(nn.Module):
    """Patch merging of OpenMMLab: `nn.Unfold` sorts a neighbourhood by channel, row and column."""

    def __init__(self, norm: nn.LayerNorm, reduction: nn.Linear):
        super().__init__()
        self.norm, self.reduction = norm, reduction

    def forward(self, x: Tensor) -> Tensor:
        batch, height, width, _ = x.shape
        unfolded = F.unfold(x.permute(0, 3, 1, 2), kernel_size=2, stride=2)  # (B, 4C, H / 2 * W / 2)
        x = self.reduction(self.norm(unfolded.transpose(1, 2)))
        return x.view(batch, height // 2, width // 2, -1)


def openmmlab_state(model: Swin) -> dict[str, Tensor]:
    """A model's weights under the keys of mmpretrain; merging is not reordered."""
    parts = {
        "patch_embed.proj.": "patch_embed.projection.",
        "layers.": "stages.",
        ".attn.": ".attn.w_msa.",
        ".mlp.fc1.": ".ffn.layers.0.0.",
        ".mlp.fc2.": ".ffn.layers.1.",
    }
    state = {}
    for key, value in copies(model).items():
        if key.startswith("head."):
            state[key.replace("head.", "head.fc.")] = value
            continue
        if key.startswith("norm."):
            key = key.replace("norm.", f"norm{len(model.config.depths) - 1}.")
        for ours, theirs in parts.items():
            key = key.replace(ours, theirs)
        state[f"backbone.{key}"] = value
    return state


def test_openmmlab_swin_gives_the_same_logits(tmp_path: Path) -> None:
    source = small(seed=3)
    torch.save({"meta": {"epoch": 3}, "state_dict": openmmlab_state(source)}, tmp_path / "epoch_300.pth")
    model = Swin(read_config(tmp_path / "epoch_300.pth")).eval()
    assert load_weights(model, tmp_path / "epoch_300.pth").layout == "openmmlab"
    x = torch.randn(2, 3, 56, 56)
    with torch.inference_mode():
        ours = model(x)
        merging: Any = source.layers[0].downsample
        source.layers[0].downsample = UnfoldMerging(merging.norm, merging.reduction)
        assert relative_error(ours, source(x)) < 1e-5
        source.layers[0].downsample = merging
        assert relative_error(ours, source(x)) > 1e-2  # the order matters


# What a file contradicts is not guessed


def test_masks_tell_the_image_size() -> None:
    for side in (56, 112):
        assert config_of(microsoft_state(small(image_size=side))).image_size == side
    state = microsoft_state(small(image_size=112))
    del state["layers.0.blocks.1.attn_mask"]
    assert config_of(state).image_size == 112  # the mask of the second stage is left


def test_masks_that_contradict_each_other_are_refused() -> None:
    state = microsoft_state(small(image_size=112))
    state["layers.0.blocks.1.attn_mask"] = torch.zeros(4, 49, 49)
    with pytest.raises(WeightsError, match="its masks are of maps of 14 and 28 tokens, not of one image"):
        config_of(state)
    state["layers.0.blocks.1.attn_mask"] = torch.zeros(4, 16, 16)
    with pytest.raises(WeightsError, match="which is not of a window of 7"):
        config_of(state)


def test_windows_that_differ_by_stage_are_refused_with_the_remedy() -> None:
    with torch.device("meta"):
        theirs = timm.create_model("swin_s3_tiny_224", embed_dim=12, num_heads=(1, 2, 4, 8))
    state = {key: torch.zeros(value.shape) for key, value in theirs.state_dict().items()}
    with pytest.raises(WeightsError, match=r"its windows are 7, 7, 14, 7 by stage.*timm/<model>@<file>"):
        config_of(state)


@pytest.mark.parametrize(("image", "windows"), [(32, (7, 4, 2)), (64, (7, 7, 4)), (112, (7, 7, 7))])
def test_windows_that_a_small_image_shrinks_are_one_window(image: int, windows: tuple[int, ...]) -> None:
    """timm shrinks the window, and so the table, where a map is smaller."""
    theirs = timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=image, embed_dim=12, depths=(1, 1, 2), num_heads=(1, 2, 4)
    )
    tables = [theirs.layers[stage].blocks[0].attn.relative_position_bias_table for stage in range(3)]
    assert [len(table) for table in tables] == [(2 * window - 1) ** 2 for window in windows]
    config = config_of(theirs.state_dict())
    assert config.window_size == 7


def test_a_stage_with_two_windows_is_refused() -> None:
    state = copies(small())
    state["layers.1.blocks.1.attn.relative_position_bias_table"] = torch.zeros(49, 3)
    with pytest.raises(WeightsError, match="the windows of its stage 2 differ"):
        config_of(state)
