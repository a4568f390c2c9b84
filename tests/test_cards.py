"""Bundling a run: the weights stay what they were, and the card's command gives the run's settings back."""

from __future__ import annotations

import importlib.util
import json
import shlex
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import swin_core
from swin_core.accuracy import Evaluation
from swin_core.cards import bundle, training_data
from swin_core.errors import ConfigError, ModelError
from swin_core.training import RECIPES, TrainConfig, recipe
from swin_core.training.evaluation import Figures
from swin_core.weights import read_metadata, save_weights

LABELS = ("daisy", "<img src=x>")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a finished run, as the trainer leaves it."""
    folder = tmp_path / "run"
    folder.mkdir()
    config = recipe("flowers", epochs=2, flip=False, name="mine")
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    line = {"epoch": 1, "train_loss": 2.0, "loss": 1.0, "top1": 0.5, "top5": None, "seconds": 90.0}
    (folder / "metrics.jsonl").write_text(json.dumps(line) + "\n" + json.dumps({**line, "epoch": 2}) + "\n")
    model = swin_core.build("swin_nano", num_classes=2)
    save_weights(model, folder / "model.safetensors", {"labels": LABELS, "mean": [0.5] * 3, "std": [0.5] * 3})
    return folder


@pytest.fixture
def found() -> Evaluation:
    figures = Figures(10, 0.25, 0.8, None, np.array([[4, 1], [1, 4]]))
    return Evaluation("run", "flower_photos", "val", LABELS, (), figures)


def train_script() -> ModuleType:
    path = Path(__file__).resolve().parent.parent / "scripts" / "train.py"
    spec = importlib.util.spec_from_file_location("train_script", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_bundle_keeps_the_weights_and_says_what_they_are(run: Path, found: Evaluation, tmp_path: Path) -> None:
    assets = tmp_path / "assets"
    assets.mkdir()
    card = bundle(run, "mine_flowers", "A test.", found, assets, "Made by a test.").read_text()
    before, after = (swin_core.load(str(path)) for path in (run, assets / "mine_flowers.safetensors"))
    for key, value in before.model.state_dict().items():
        torch.testing.assert_close(after.model.state_dict()[key], value, rtol=0, atol=0)
    assert after.labels == LABELS
    assert after.description == "A test."
    assert read_metadata(assets / "mine_flowers.safetensors")["mean"] == [0.5] * 3
    for line in ("80.00%", "0.2500", "3.0 minutes", "Made by a test.", "| daisy | 4 | 1 |", "10 pictures"):
        assert line in card
    facts = json.loads((assets / "mine_flowers.json").read_text())
    assert facts["evaluation"]["confusion"] == [[4, 1], [1, 4]]


@pytest.mark.parametrize("name", list(RECIPES))
@pytest.mark.parametrize("changes", [{}, {"epochs": 3, "flip": False}, {"lr": 0.5, "name": "other", "data": "a b"}])
def test_the_cards_command_gives_the_settings_back(
    name: str, changes: dict, run: Path, found: Evaluation, tmp_path: Path
) -> None:
    config = replace(RECIPES[name].config, **changes)
    (run / "config.json").write_text(json.dumps(config.to_dict()))
    assert training_data(run) == config.data
    bundle(run, "again", "", found, tmp_path)
    command = json.loads((tmp_path / "again.json").read_text())["command"]
    words = shlex.split(command)
    assert words[:2] == ["python", "scripts/train.py"]
    parsed = vars(train_script().parser().parse_args(words[2:]))
    known = {field.name for field in fields(TrainConfig)}
    settings = {key: value for key, value in parsed.items() if key in known and value is not None}
    assert recipe(parsed["recipe"], **settings) == config


def test_what_is_no_run_is_refused(tmp_path: Path, run: Path, found: Evaluation) -> None:
    with pytest.raises(ModelError, match="is no run"):
        training_data(tmp_path)
    (run / "metrics.jsonl").unlink()
    with pytest.raises(ModelError, match="no finished run"):
        bundle(run, "mine", "", found, tmp_path)
    with pytest.raises(ConfigError, match="no name of a model"):
        bundle(run, "../mine", "", found, tmp_path)
