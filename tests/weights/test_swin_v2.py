"""Weights files of Swin V2, made by timm, torchvision and transformers, and with the authors' buffers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import swin_core
from swin_core.errors import WeightsError
from swin_core.models.config import SwinConfig
from swin_core.models.swin import Swin
from swin_core.weights.files import load_weights, read_config, save_weights
from swin_core.weights.key_layouts import convert
from swin_core.weights.swin_v2 import v2_projections
from tests.fixtures.reference import randomise, relative_error
from tests.models.test_swin_v2 import SMALL, run, small, timm_model, torchvision_model, transformers_model

pytestmark = pytest.mark.usefixtures("one_thread")


def authors_state(model: Swin, pretrained: tuple[int, ...]) -> dict[str, Tensor]:
    """A model's weights with the authors' buffers, computed as in their `swin_transformer_v2.py`."""
    state = {key: value.clone() for key, value in model.state_dict().items()}
    config = model.config
    side = config.image_size // config.patch_size
    for stage, depth in enumerate(config.depths):
        grid = side >> stage
        window = min(config.window_size, grid)
        offsets = torch.arange(1 - window, window, dtype=torch.float32) / (pretrained[stage] - 1) * 8
        offsets = offsets.sign() * torch.log2(offsets.abs() + 1) / torch.log2(torch.tensor(8.0))
        table = torch.stack(torch.meshgrid(offsets, offsets, indexing="ij"), -1)[None]
        for block in range(depth):
            prefix = f"layers.{stage}.blocks.{block}."
            state[prefix + "attn.relative_coords_table"] = table
            state[prefix + "attn.relative_position_index"] = torch.zeros(window**2, window**2, dtype=torch.long)
            if block % 2 and grid > window:
                state[prefix + "attn_mask"] = torch.zeros((grid // window) ** 2, window**2, window**2)
    return state


@pytest.mark.parametrize(
    ("make", "layout"),
    [(timm_model, "timm"), (torchvision_model, "torchvision"), (transformers_model, "transformers")],
)
def test_files_of_libraries_give_their_logits(make: Callable[..., nn.Module], layout: str, tmp_path: Path) -> None:
    theirs = randomise(make(SMALL).eval())
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    ours = small(seed=1)
    report = load_weights(ours, tmp_path / "theirs.pth")
    assert (report.layout, report.adapted) == (layout, ())
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert relative_error(ours(x), run(theirs, x)) < 1e-5


def test_a_file_of_torchvision_tells_its_window(tmp_path: Path) -> None:
    theirs = randomise(torchvision_model(SMALL).eval())
    safetensors.torch.save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
    assert read_config(tmp_path / "theirs.safetensors") == SMALL
    classifier = swin_core.load(tmp_path / "theirs.safetensors", labels=[f"class {n}" for n in range(7)])
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert relative_error(classifier.model(x), theirs(x)) < 1e-5


@pytest.mark.parametrize("pretrained", [(4, 4, 4), (3, 3, 2)])
def test_the_authors_buffers_tell_windows_and_image_size(pretrained: tuple[int, ...], tmp_path: Path) -> None:
    model = Swin(replace(SMALL, pretrained_window_sizes=pretrained)).eval()
    randomise(model)
    state = authors_state(model, pretrained)
    assert convert(state)[1] == "microsoft"
    torch.save({"model": state}, tmp_path / "authors.pth")
    expected = SMALL if pretrained == (4, 4, 4) else replace(SMALL, pretrained_window_sizes=pretrained)
    assert read_config(tmp_path / "authors.pth") == expected
    ours = small(seed=1)
    load_weights(ours, tmp_path / "authors.pth")
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert relative_error(ours(x), model(x)) < 1e-6


def test_fine_tuning_at_another_size_keeps_the_bias_of_an_offset(tmp_path: Path) -> None:
    """At half the size the last stage has maps of 2 tokens; a bias relative to these would be another one."""
    source = small()
    save_weights(source, tmp_path / "source.safetensors")
    tuned = small(seed=1, image_size=32, num_classes=3)
    report = load_weights(tuned, tmp_path / "source.safetensors")
    assert "position bias relative to windows of 4, 4, 4, as in training" in report.adapted
    assert tuned.config.pretrained_window_sizes == (4, 4, 4)
    x = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        assert relative_error(tuned.forward_features(x), source.forward_features(x)) < 1e-6
    save_weights(tuned, tmp_path / "tuned.safetensors")
    assert swin_core.load(tmp_path / "tuned.safetensors").model.config == tuned.config


@pytest.mark.parametrize("changes", [{}, {"relative_position_bias": False}, {"qkv_bias": False}, {"in_chans": 1}])
def test_our_own_files_load_as_they_were_saved(changes: dict[str, Any], tmp_path: Path) -> None:
    model = small(**changes)
    metadata = {"mean": [0.5] * model.config.in_chans, "std": [0.5] * model.config.in_chans}
    save_weights(model, tmp_path / "own.safetensors", metadata)
    loaded = swin_core.load(tmp_path / "own.safetensors").model
    assert loaded.config == model.config
    x = torch.randn(1, model.config.in_chans, 64, 64)
    with torch.inference_mode():
        assert torch.equal(loaded(x), model(x))


def test_a_file_that_does_not_tell_its_window_is_refused(tmp_path: Path) -> None:
    safetensors.torch.save_file(small().state_dict(), tmp_path / "bare.safetensors")
    with pytest.raises(WeightsError, match=r"a Swin V2, whose window is in no weight; name the architecture") as caught:
        read_config(tmp_path / "bare.safetensors")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("version", [1, 2])
def test_another_version_is_refused_before_anything_is_copied(version: int, tmp_path: Path) -> None:
    other = Swin(SwinConfig.from_dict(SMALL.to_dict() | {"version": 3 - version}))
    save_weights(other, tmp_path / "other.safetensors")
    model = small(version=version)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(WeightsError, match=f"version {3 - version} where the model has {version}"):
        load_weights(model, tmp_path / "other.safetensors")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_damaged_projections_are_left_for_the_check_of_shapes() -> None:
    attention = "layers.0.blocks.0.attn."
    damaged = {attention + "logit_scale": torch.ones(1, 1, 1), attention + "qkv.bias": torch.ones(4)}
    damaged |= {attention + "query.weight": torch.ones(2, 2), attention + "key.weight": torch.ones(2)}
    assert v2_projections(damaged) == damaged
