"""Weights files: loading in every layout, reading the config, and saving."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import swin_core.system.atomic
from swin_core.errors import WeightsError
from swin_core.weights.files import load_weights, read_config, read_metadata, read_state, save_weights
from swin_core.weights.shapes import config_of
from tests.fixtures.reference import relative_error
from tests.fixtures.weights import SMALL, copies, microsoft_state, refused, same, small, timm_swin, torchvision_swin

pytestmark = pytest.mark.filterwarnings("error")


def test_own_file_returns_the_same_weights(tmp_path: Path) -> None:
    model, other = small(), small(seed=1)
    save_weights(model, tmp_path / "new folder" / "weights.safetensors", {"labels": ["a", "b"]})
    path = tmp_path / "new folder" / "weights.safetensors"
    report = load_weights(other, path)
    assert same(copies(other), copies(model))
    assert (report.layout, report.adapted, report.skipped, report.random) == ("own", (), (), ())
    assert report.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert report.summary() == f"weights.safetensors (own layout, sha256 {report.sha256[:12]})"
    assert read_config(path) == model.config
    assert read_metadata(path)["labels"] == ["a", "b"]
    assert same(read_state(path), copies(model))


WRAPPINGS: list[Callable[[dict[str, Tensor]], Any]] = [
    lambda state: state,
    lambda state: {"model": state, "epoch": 3, "lr": 0.1},
    lambda state: {"state_dict": state},
    lambda state: {f"module.{key}": value for key, value in state.items()},
    lambda state: {"model": {"state_dict": {f"module._orig_mod.{key}": value for key, value in state.items()}}},
]


@pytest.mark.parametrize("wrap", WRAPPINGS)
@pytest.mark.parametrize("layout", ["own", "microsoft", "timm", "torchvision"])
def test_layouts_are_told_apart_after_unwrapping(
    layout: str, wrap: Callable[[dict[str, Tensor]], Any], tmp_path: Path
) -> None:
    source: nn.Module = small(seed=2)
    state = copies(source)
    if layout == "microsoft":
        state = microsoft_state(small(seed=2))
        assert len(state) > len(copies(source))
    elif layout == "timm":
        source = timm_swin()
        state = copies(source)
    elif layout == "torchvision":
        source = torchvision_swin()
        state = copies(source)
    path = tmp_path / "weights.pth"
    torch.save(wrap(state), path)
    model = small()
    report = load_weights(model, path)
    assert report.layout == layout
    assert (report.adapted, report.skipped, report.random) == ((), (), ())
    assert read_config(path) == replace(SMALL, image_size=56)
    x = torch.randn(2, 3, 56, 56)
    with torch.inference_mode():
        assert relative_error(model(x), source(x)) < 1e-5


def test_layouts_load_from_safetensors_too(tmp_path: Path) -> None:
    for source, layout in ((timm_swin(), "timm"), (torchvision_swin(), "torchvision")):
        safetensors.torch.save_file(copies(source), tmp_path / "weights")  # told by its content, not its name
        assert load_weights(small(), tmp_path / "weights").layout == layout


def test_a_pth_named_safetensors_loads(tmp_path: Path) -> None:
    torch.save(copies(small(seed=3)), tmp_path / "weights.safetensors")
    model = small()
    load_weights(model, tmp_path / "weights.safetensors")
    assert same(copies(model), copies(small(seed=3)))


def test_old_pickle_format_loads(tmp_path: Path) -> None:
    torch.save(copies(small(seed=3)), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    model = small()
    load_weights(model, tmp_path / "old.pth")
    assert same(copies(model), copies(small(seed=3)))


@pytest.mark.parametrize("layout", ["own", "timm"])
def test_weights_without_a_head_leave_it_at_random(layout: str, tmp_path: Path) -> None:
    state = copies(small(num_classes=0) if layout == "own" else timm_swin(num_classes=0))
    torch.save(state, tmp_path / "features.pth")
    model = small(seed=4)
    report = load_weights(model, tmp_path / "features.pth")
    assert report.layout == layout
    assert report.random == ("head of 10 classes",)
    assert torch.equal(model.head.weight, small(seed=4).head.weight)
    assert read_config(tmp_path / "features.pth").num_classes == 0


def test_half_precision_files_load_and_say_so(tmp_path: Path) -> None:
    state = {key: value.half() for key, value in copies(small(seed=1)).items()}
    safetensors.torch.save_file(state, tmp_path / "half.safetensors")
    model = small()
    report = load_weights(model, tmp_path / "half.safetensors")
    assert report.adapted == ("converted from float16 to float32",)
    assert same(copies(model), {key: value.float() for key, value in state.items()})


def test_config_of_a_model_without_bias_tables_is_in_its_metadata_only(tmp_path: Path) -> None:
    model = small(relative_position_bias=False)
    with pytest.raises(WeightsError, match="no bias tables"):
        config_of(model.state_dict())
    save_weights(model, tmp_path / "plain.safetensors")
    assert read_config(tmp_path / "plain.safetensors") == model.config
    load_weights(small(seed=1, relative_position_bias=False), tmp_path / "plain.safetensors")
    with pytest.raises(WeightsError, match=r"\[2, 3\] heads where the model has \[3, 2\]"):
        load_weights(small(relative_position_bias=False, num_heads=(3, 2)), tmp_path / "plain.safetensors")


@pytest.mark.parametrize(
    "lie",
    [
        {"depths": (2, 90)},
        {"embed_dim": 120_000},
        {"mlp_ratio": 4e9},
        {"mlp_ratio": float("inf")},
        {"mlp_ratio": float("nan")},
        {"window_size": 70},
        {"num_classes": 10**9},
        {"patch_size": 40},
        {"embed_dim": "wide"},
        {"embed_dim": 12.0},
        {"depths": [2.0, 2.0]},
        {"image_size": 56.5},
        {"shift": "yes"},
        {"depths": 5},
        {"cleverness": 1},
    ],
)
def test_metadata_that_the_tensors_do_not_bear_out_is_refused(lie: dict[str, Any], tmp_path: Path) -> None:
    model = small()
    header = {"swinlens": json.dumps({"config": model.config.to_dict() | lie})}
    safetensors.torch.save_file(copies(model), tmp_path / "lie.safetensors", header)
    refused(lambda: read_config(tmp_path / "lie.safetensors"), "'lie.safetensors' cannot be used")


# Saving


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    metadata = {"labels": ["x", "y"], "mean": [0.5], "std": [0.2], "top1": 0.1}
    for name in ("a", "b"):
        save_weights(small(), tmp_path / name, metadata)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a", "b"]


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(small(), path)
    before = path.read_bytes()

    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(swin_core.system.atomic.os, "fsync", no_space)
    refused(lambda: save_weights(small(seed=1), path), "could not be saved: No space left on device")
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_file_is_replaced_only_when_its_bytes_are_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights.safetensors"
    steps = []
    sync, rename = os.fsync, os.replace

    def syncing(descriptor: int) -> None:
        steps.append("sync folder" if os.path.isdir(f"/dev/fd/{descriptor}") else "sync file")
        sync(descriptor)

    def replacing(source: Path, target: Path) -> None:
        steps.append("replace")
        assert source.parent == target.parent  # one file system, so that the rename is atomic
        rename(source, target)

    monkeypatch.setattr(swin_core.system.atomic.os, "fsync", syncing)
    monkeypatch.setattr(swin_core.system.atomic.os, "replace", replacing)
    save_weights(small(), path)
    assert steps == ["sync file", "replace", "sync folder"]
    assert same(read_state(path), copies(small()))


def test_saved_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    refused(lambda: save_weights(small(), tmp_path / "file" / "weights"), "could not be saved")
