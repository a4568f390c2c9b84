"""Adapted weights against computations by hand and against timm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from timm.layers import resample_patch_embed
from timm.models._manipulate import adapt_input_conv
from torch import Tensor

from swin_core.weights.files import load_weights, read_config, save_weights
from tests.fixtures.reference import relative_error
from tests.fixtures.weights import KERNEL, TABLE, copies, small, timm_swin

pytestmark = pytest.mark.filterwarnings("error")


def loaded(source: dict[str, Tensor], path: Path, **changes: Any) -> tuple[dict[str, Tensor], Any]:
    torch.save(source, path)
    model = small(seed=9, **changes)
    report = load_weights(model, path)
    return copies(model), report


@pytest.mark.parametrize("window", [4, 8, 12])
def test_bias_tables_are_resized_bicubically_per_head(window: int, tmp_path: Path) -> None:
    source = copies(small(seed=1))
    state, report = loaded(source, tmp_path / "w.pth", window_size=window)
    for key, table in source.items():
        if not key.endswith("bias_table"):
            assert torch.equal(state[key], table)
            continue
        for head in range(table.shape[1]):
            grid = table[:, head].reshape(1, 1, 13, 13)
            by_hand = F.interpolate(grid, (2 * window - 1,) * 2, mode="bicubic", align_corners=False)
            torch.testing.assert_close(state[key][:, head], by_hand.flatten())
    assert report.adapted == (f"bias tables from window 7 to {window}",)
    assert report.random == ()


def cubic(t: float) -> float:
    """Keys' cubic kernel with a = -0.75, which `F.interpolate` uses."""
    t, a = abs(t), -0.75
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0


def test_bicubic_resize_is_the_formula(tmp_path: Path) -> None:
    source = copies(small(seed=1))
    state, _ = loaded(source, tmp_path / "w.pth", window_size=12)
    old, new = 13, 23
    weights = torch.zeros(new, old)
    for target in range(new):
        place = (target + 0.5) * old / new - 0.5
        for tap in range(int(place // 1) - 1, int(place // 1) + 3):
            weights[target, min(max(tap, 0), old - 1)] += cubic(place - tap)
    expected = torch.einsum("ya,xb,abh->yxh", weights, weights, source[TABLE].view(old, old, 2))
    torch.testing.assert_close(state[TABLE].view(new, new, 2), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [28, 56, 112])
def test_tables_that_timm_shrank_to_small_maps_give_timms_logits(size: int, tmp_path: Path) -> None:
    depths, heads = (2, 2, 2, 2), (1, 2, 2, 4)
    theirs = timm_swin(img_size=size, depths=depths, num_heads=heads)
    torch.save(theirs.state_dict(), tmp_path / "small.pth")
    model = small(seed=5, depths=depths, num_heads=heads)
    report = load_weights(model, tmp_path / "small.pth")
    x = torch.randn(2, 3, size, size)
    with torch.inference_mode():
        assert relative_error(model(x), theirs(x)) < 1e-5
    assert report.adapted[-1].startswith("bias tables padded from")
    assert read_config(tmp_path / "small.pth").window_size == 7
    # What no token of that size reads continues the border, so that larger images see nothing foreign.
    table = model.layers[3].blocks[0].attn.relative_position_bias_table.view(13, 13, 4)
    rest = theirs.layers[3].blocks[0].attn.relative_position_bias_table
    assert torch.equal(table[0, 0], rest[0])
    assert torch.equal(table[-1, -1], rest[-1])


def test_small_tables_are_set_in_before_the_window_changes(tmp_path: Path) -> None:
    source = copies(small(seed=1))
    key = "layers.1.blocks.0.attn.relative_position_bias_table"
    for block in (0, 1):  # of a map of 4 tokens a side
        source[f"layers.1.blocks.{block}.attn.relative_position_bias_table"] = torch.randn(49, 3)
    state, report = loaded(source, tmp_path / "w.pth", window_size=12)
    rows = torch.arange(13).sub(3).clamp(0, 6)
    spread = source[key].view(7, 7, 3)[rows][:, rows]
    expected = F.interpolate(spread.permute(2, 0, 1)[None], (23, 23), mode="bicubic", align_corners=False)
    torch.testing.assert_close(state[key].view(23, 23, 3), expected[0].permute(1, 2, 0))
    assert report.adapted == (
        "bias tables from window 7 to 12",
        "bias tables padded from window 4 to 7",
    )


@pytest.mark.parametrize("channels", [1, 2, 4, 13])
def test_first_layer_takes_other_channels_as_timm_does(channels: int, tmp_path: Path) -> None:
    source = copies(small(seed=1))
    state, report = loaded(source, tmp_path / "w.pth", in_chans=channels)
    expected = source[KERNEL].sum(1, keepdim=True)
    if channels > 1:
        expected = torch.stack([source[KERNEL][:, i % 3] * 3 / channels for i in range(channels)], 1)
    torch.testing.assert_close(state[KERNEL], expected)
    torch.testing.assert_close(state[KERNEL], adapt_input_conv(channels, source[KERNEL]))
    assert report.adapted == (f"first layer from 3 to {channels} channels",)


def test_many_channels_become_one_or_fewer(tmp_path: Path) -> None:
    source = copies(small(seed=1, in_chans=5))
    state, _ = loaded(source, tmp_path / "w.pth", in_chans=1)
    torch.testing.assert_close(state[KERNEL], source[KERNEL].sum(1, keepdim=True))
    state, _ = loaded(source, tmp_path / "w.pth", in_chans=2)
    torch.testing.assert_close(state[KERNEL], source[KERNEL][:, :2] * 5 / 2)


@pytest.mark.parametrize("patch", [8, 6, 2])
def test_patch_embedding_is_resized_by_the_pseudo_inverse(patch: int, tmp_path: Path) -> None:
    source = copies(small(seed=1))
    state, report = loaded(source, tmp_path / "w.pth", patch_size=patch)
    expected = resample_patch_embed(source[KERNEL], [patch, patch])
    torch.testing.assert_close(state[KERNEL], expected, atol=1e-4, rtol=1e-4)
    assert report.adapted == (f"first layer from patches of 4 to {patch} pixels",)


def test_an_enlarged_image_gives_the_same_tokens(tmp_path: Path) -> None:
    source = small(seed=1, patch_size=2)
    save_weights(source, tmp_path / "w.safetensors")
    model = small(seed=2, patch_size=4)
    load_weights(model, tmp_path / "w.safetensors")
    patches = torch.randn(9, 3, 2, 2)
    enlarged = F.interpolate(patches, (4, 4), mode="bicubic", antialias=True, align_corners=False)
    torch.testing.assert_close(model.patch_embed(enlarged), source.patch_embed(patches), atol=1e-4, rtol=1e-4)


def test_absolute_embedding_is_resized(tmp_path: Path) -> None:
    source = copies(small(seed=1, absolute_embedding=True))
    state, report = loaded(source, tmp_path / "w.pth", absolute_embedding=True, image_size=80)
    grid = source["absolute_pos_embed"].view(1, 14, 14, 12).permute(0, 3, 1, 2)
    expected = F.interpolate(grid, (20, 20), mode="bicubic", align_corners=False).permute(0, 2, 3, 1)
    torch.testing.assert_close(state["absolute_pos_embed"].view(1, 20, 20, 12), expected)
    assert report.adapted == ("absolute embedding from 14 x 14 to 20 x 20 patches",)


def test_head_of_another_class_count_is_left_at_random(tmp_path: Path) -> None:
    source = copies(small(seed=1))
    state, report = loaded(source, tmp_path / "w.pth", num_classes=5)
    fresh = copies(small(seed=9, num_classes=5))
    for key, value in state.items():
        assert torch.equal(value, fresh[key] if key.startswith("head.") else source[key])
    assert report.skipped == ("head of 10 classes",)
    assert report.random == ("head of 5 classes",)
    assert report.summary().endswith("skipped: head of 10 classes; left at random: head of 5 classes")
    _, report = loaded(source, tmp_path / "w.pth", num_classes=0)
    assert report.skipped == ("head of 10 classes",)
    assert report.random == ()


def test_mixing_matrices_of_another_window_are_left_at_random(tmp_path: Path) -> None:
    source = copies(small(seed=1, mixer="mlp"))
    state, report = loaded(source, tmp_path / "w.pth", mixer="mlp", window_size=4)
    fresh = copies(small(seed=9, mixer="mlp", window_size=4))
    for key, value in state.items():
        assert torch.equal(value, fresh[key] if "spatial_mlp" in key else source[key])
    assert report.random == tuple(f"mixing matrices of stage {stage}, which are of another window" for stage in (1, 2))


def test_fine_tuning_from_small_images_to_large(tmp_path: Path) -> None:
    source = small(seed=1, patch_size=2, window_size=4, image_size=16)
    save_weights(source, tmp_path / "w.safetensors")
    model = small(seed=2, patch_size=4, window_size=8, image_size=64, num_classes=5)
    with torch.inference_mode():
        before = model(torch.ones(1, 3, 64, 64))
    report = load_weights(model, tmp_path / "w.safetensors")
    assert len(report.adapted) == 2
    with torch.inference_mode():
        after = model(torch.ones(1, 3, 64, 64))  # nothing kept from before the weights came
    assert relative_error(after, before) > 1e-3
    assert relative_error(after, model(torch.ones(1, 3, 64, 64)).detach()) < 1e-5
