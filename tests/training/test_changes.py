"""Settings of a run that are changed when it is resumed, and what is said beside the metrics of a changed run."""

from __future__ import annotations

import json
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from swin_core import runs
from swin_core.commands.train import main
from swin_core.errors import ConfigError, RunError
from swin_core.runs.locks import run_lock
from swin_core.training import RECIPES, TrainConfig, train
from swin_core.training.changes import FIXED, change_settings
from swin_core.training.optim import learning_rate
from swin_core.training.recipes import marks
from swin_core.weights.files import read_metadata
from tests.fixtures.runs import make_run

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    draw = np.random.default_rng(0)
    for name in ("ant", "bee"):
        (root / name).mkdir()
        for index in range(8):
            Image.fromarray(draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(root / name / f"{index}.png")
    return root


def small(images: Path, **changes: Any) -> TrainConfig:
    settings: dict[str, Any] = {"variant": "swin_nano", "image_size": 16, "crop_padding": 2, "cutout": 3, "ema": 0.9}
    settings |= {"data": str(images), "epochs": 2, "batch_size": 6, "holdout": 0.25, "precision": "float32"}
    return TrainConfig(**(settings | {"optimizer": "adamw", "lr": 1e-3} | changes))


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def trained(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = runs.create(small(images).to_dict(), tmp_path_factory.mktemp("trained"))
    assert train(small(images), folder) == "finished"
    return folder


@pytest.fixture
def finished(trained: Path, tmp_path: Path) -> Path:
    """Return a copy of the trained run, which a test may change."""
    return Path(shutil.copytree(trained, tmp_path / trained.name))


def test_a_finished_run_goes_on_with_the_rates_of_the_longer_run(finished: Path, images: Path) -> None:
    before = lines(finished / "steps.jsonl")
    longer = change_settings(finished, {"epochs": 4})
    assert runs.find(finished.name, finished.parent).state == "stopped"
    assert train(longer, finished) == "finished"
    told = lines(finished / "steps.jsonl")
    assert told[: len(before)] == before
    assert len(lines(finished / "metrics.jsonl")) == 4
    for line in told[len(before) :]:
        assert line["lr"] == pytest.approx(learning_rate(line["step"] - 1, 8, small(images, epochs=4)))
    assert [line["step"] for line in told] == list(range(1, 9))
    assert runs.read_changes(finished) == [{"epoch": 2, "settings": {"epochs": [2, 4]}}]
    assert TrainConfig.of_run(finished) == small(images, epochs=4)
    description = read_metadata(finished / "model.safetensors")["description"]
    assert "changed after epoch 2: epochs 2 to 4" in description


def test_a_change_before_the_first_step_leaves_no_mark(images: Path, tmp_path: Path) -> None:
    folder = runs.create(small(images).to_dict(), tmp_path)
    change_settings(folder, {"epochs": 3})
    assert runs.read_changes(folder) == []
    straight = runs.create(small(images, epochs=3).to_dict(), tmp_path)
    for run in (folder, straight):
        assert train(TrainConfig.of_run(run), run) == "finished"
    assert (folder / "model.safetensors").read_bytes() == (straight / "model.safetensors").read_bytes()


@pytest.mark.parametrize("name", FIXED)
def test_what_would_not_fit_is_refused_with_the_reason(name: str, finished: Path) -> None:
    value = runs.read_config(finished)[name]
    other: Any = not value if isinstance(value, bool) else value + 1 if isinstance(value, int | float) else f"{value}x"
    before = (finished / "config.json").read_text()
    with pytest.raises(ConfigError, match=rf"^{name} of a run cannot be changed: .*; start a new run, with --init"):
        change_settings(finished, {name: other})
    assert (finished / "config.json").read_text() == before
    assert runs.find(finished.name, finished.parent).state == "finished"


def test_fixed_settings_are_settings() -> None:
    assert set(FIXED) <= {field.name for field in fields(TrainConfig)}


def test_other_refusals(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the run has done 2 epochs; epochs must be at least that, not 1\.$"):
        change_settings(finished, {"epochs": 1})
    with pytest.raises(ConfigError, match="lr must lie between"):
        change_settings(finished, {"lr": -1.0})
    assert change_settings(finished, {"epochs": 2, "data": runs.read_config(finished)["data"]}).epochs == 2
    running = make_run(tmp_path / "other", "20260101-120000-one", "running")
    with pytest.raises(RunError, match=r"one is running; stop it first, then change its settings\.$"):
        change_settings(running, {"epochs": 99})


def test_a_run_that_somebody_else_starts_is_not_changed(finished: Path) -> None:
    before = runs.read_config(finished)
    with run_lock(finished), pytest.raises(RunError, match="is being started, changed or ended; try again in a moment"):
        change_settings(finished, {"epochs": 3})
    assert runs.read_config(finished) == before


def test_the_command_lets_a_run_go_on(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--run", str(finished), "--epochs", "3", "--patience", "5"]) == 0
    assert len(lines(finished / "metrics.jsonl")) == 3
    assert main(["--run", str(finished), "--seed", "4"]) == 1
    assert "seed of a run cannot be changed: images that it was trained on" in capsys.readouterr().err


def test_marks_say_what_differs_from_the_recipe() -> None:
    plain = RECIPES["fast-cifar100"].config.to_dict()
    assert marks(plain) == ()
    assert marks({**plain, "name": "mine", "seed": 3}) == ()
    assert marks({**plain, "limit": 1500}) == ("limited to 1,500 images",)
    change = {"epoch": 3, "settings": {"epochs": [16, 40], "lr": [0.002, 0.001]}}
    assert marks({**plain, "limit": 10, "epochs": 40}, [change]) == (
        "fast-cifar100 with epochs 40",
        "limited to 10 images",
        "changed after epoch 3: epochs 16 to 40, lr 0.002 to 0.001",
    )
    assert marks({**RECIPES["custom"].config.to_dict(), "data": "photos"}) == ()
