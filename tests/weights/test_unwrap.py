"""State dicts are found in checkpoints of every kind, under every nesting of wrappers."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from swin_core.errors import WeightsError
from swin_core.weights.files import load_weights, split_entry
from swin_core.weights.unwrap import find_state, namings
from tests.fixtures.weights import copies, same, small

PREFIXES = ("module.", "model.", "net.", "backbone.", "encoder.", "_orig_mod.")
ENTRIES = ("model", "state_dict", "state_dict_ema", "model_ema", "model_state_dict", "net", "weights", "module")


def prefixed(prefix: str, seed: int = 1) -> dict[str, Any]:
    return {prefix + key: value for key, value in copies(small(seed=seed)).items()}


@pytest.mark.parametrize("entry", ENTRIES)
def test_each_entry_is_found_alone_and_nested(entry: str, tmp_path: Path) -> None:
    for content in ({entry: prefixed("module.")}, {"epoch": 3, entry: {"state_dict": prefixed("")}}):
        torch.save(content, tmp_path / "w.pth")
        model = small()
        load_weights(model, tmp_path / "w.pth")
        assert same(copies(model), copies(small(seed=1)))


@pytest.mark.parametrize("prefix", ["".join(pair) for pair in itertools.permutations(PREFIXES, 2)])
def test_prefixes_of_wrappers_in_any_order(prefix: str) -> None:
    expected = copies(small(seed=1))
    assert any(same(naming, expected) for naming in namings(prefixed(prefix)))


def test_a_backbone_beside_its_head(tmp_path: Path) -> None:
    state = copies(small(seed=1))
    for head in ("head.", "classifier.", "fc.1.", "model.head.1."):
        content = {
            (head + key.removeprefix("head.") if key.startswith("head.") else f"model.backbone.{key}"): value
            for key, value in state.items()
        }
        torch.save({"state_dict": content}, tmp_path / "w.ckpt")
        model = small()
        load_weights(model, tmp_path / "w.ckpt")
        assert same(copies(model), state), head


def test_losses_and_metrics_beside_the_model_are_left_out(tmp_path: Path) -> None:
    content = prefixed("model.") | {"criterion.weight": torch.ones(10), "val_acc.correct": torch.tensor(3)}
    torch.save({"state_dict": content}, tmp_path / "w.ckpt")
    model = small()
    load_weights(model, tmp_path / "w.ckpt")
    assert same(copies(model), copies(small(seed=1)))
    # A module that may stand before or after the model is not.
    torch.save({"state_dict": prefixed("model.") | {"neck.weight": torch.ones(10)}}, tmp_path / "w.ckpt")
    with pytest.raises(WeightsError, match=r"which the model does not have"):
        load_weights(small(), tmp_path / "w.ckpt")


def test_averaged_model(tmp_path: Path) -> None:
    torch.save(AveragedModel(small(seed=1)).state_dict(), tmp_path / "w.pth")
    model = small()
    load_weights(model, tmp_path / "w.pth")
    assert same(copies(model), copies(small(seed=1)))


def test_a_moving_average_comes_first_and_the_plain_weights_can_be_named(tmp_path: Path) -> None:
    path = tmp_path / "swin.pth.tar"
    torch.save({"state_dict": prefixed("", 1), "state_dict_ema": prefixed("module.", 2), "arch": "swin"}, path)
    for name, seed in ((path, 2), (f"{path}#state_dict", 1), (f"{path}#state_dict_ema", 2)):
        model = small()
        report = load_weights(model, name)
        assert same(copies(model), copies(small(seed=seed)))
        assert report.path == path
    assert "weights of 'state_dict_ema'; 'state_dict' can be named after a '#'" in load_weights(small(), path).summary()
    assert report.choice == ""
    with pytest.raises(WeightsError, match="it has no entry 'nothing'"):
        load_weights(small(), f"{path}#nothing")


@pytest.mark.parametrize("entry", ["ema", "ema_model"])
def test_a_moving_average_under_another_name_comes_first_too(entry: str) -> None:
    found = find_state({"model": prefixed("", 1), entry: AveragedModel(small(seed=2)).state_dict()})
    assert found.entry == entry
    assert any(same(naming, copies(small(seed=2))) for naming in namings(found.tensors))
    assert "'model' can be named after a '#'" in found.choice()


def test_an_entry_may_be_the_start_of_keys(tmp_path: Path) -> None:
    content = {"state_dict": prefixed("student.", 1) | prefixed("teacher.", 2)}
    assert same(find_state(content, "student").tensors, copies(small(seed=1)))
    assert same(find_state(content, "state_dict.teacher").tensors, copies(small(seed=2)))


def test_a_file_with_a_sign_in_its_name_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "w#1.pth"
    path.write_bytes(b"x")
    assert split_entry(path) == (path, "")
    assert split_entry(tmp_path / "v.pth#model") == (tmp_path / "v.pth", "model")
