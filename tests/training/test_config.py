"""The settings of a training run, and `swinlens train`, which takes each as an option."""

from __future__ import annotations

import json
import pkgutil
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from swin_core.commands import train as command
from swin_core.errors import ConfigError
from swin_core.models.config import VARIANTS
from swin_core.training import RECIPES, TrainConfig, recipe, setting_help, setting_limits

pytestmark = pytest.mark.usefixtures("one_thread")


def test_every_setting_and_recipe_is_explained() -> None:
    names = [field.name for field in fields(TrainConfig)]
    assert list(setting_help()) == names
    assert all(text.strip().endswith(".") for text in setting_help().values())
    shown = " ".join(command.parser().format_help().split())
    for name in names:
        assert f"--{name.replace('_', '-')} " in shown
        assert setting_help()[name].replace("\n", " ") in shown
    for name, entry in RECIPES.items():
        assert f"{name}: {entry.purpose}" in shown
        assert entry.source
        assert entry.config.name == name


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("epochs", 0),
        ("epochs", 2.0),
        ("epochs", "3"),
        ("epochs", True),
        ("lr", -1e-9),
        ("lr", float("nan")),
        ("lr", float("inf")),
        ("lr", "1e-3"),
        ("lr", None),
        ("flip", 1),
        ("flip", "yes"),
        ("optimizer", "sgd"),
        ("optimizer", ["muon"]),
        ("schedule", ""),
        ("precision", "float16"),
        ("variant", "swin_huge"),
        ("variant", 3),
        ("image_size", 0),
        ("image_size", 10**9),
        ("ema", 1.0),
        ("label_smoothing", 1.0),
        ("cutout", 33),
        ("crop_padding", 32),
        ("crop_scale", 0.0),
        ("holdout", 0.0),
        ("seed", -1),
        ("seed", 2**31),
        ("data", 5),
        ("name", ""),
        ("name", "--x; touch p"),
        ("name", "-x"),
        ("name", "."),
        ("name", "../x"),
        ("name", "a/b"),
        ("name", "a\0b"),
        ("name", "a b"),
        ("name", "a\n"),
        ("name", "é"),
        ("name", "<img onerror=alert(1)>"),
        ("name", "x" * 65),
    ],
)
def test_a_wrong_setting_is_refused_in_one_line(setting: str, value: Any) -> None:
    given = {setting: value}
    ways = (
        lambda: TrainConfig(**given),
        lambda: TrainConfig.from_dict(given),
        lambda: recipe("fast-cifar100", **given),
    )
    for way in ways:
        with pytest.raises(ConfigError, match=re.escape(setting)) as caught:
            way()
        assert "\n" not in str(caught.value)


def test_every_number_has_limits_that_the_message_and_the_command_line_name() -> None:
    limits = setting_limits()
    numbers = [name for name, value in TrainConfig().to_dict().items() if type(value) in (int, float)]
    assert sorted(limits) == sorted(numbers)
    shown = " ".join(command.parser().format_help().split())
    for name, (low, high) in limits.items():
        kind = type(TrainConfig().to_dict()[name])
        size: dict[str, Any] = {"image_size": 4096} if name in ("crop_padding", "cutout") else {}
        size |= {"crop_padding": 0, "cutout": 0} if name == "image_size" else {}
        for value in (kind(low), kind(high)):
            assert getattr(TrainConfig(**(size | {name: value})), name) == value
        for value in (kind(low - 1), kind(high + 1)):
            with pytest.raises(ConfigError) as caught:
                TrainConfig(**(size | {name: value}))
            assert str(caught.value) == f"{name} must lie between {low:.12g} and {high:.12g}, not {value!r}."
        assert f"From {low:.12g} to {high:.12g}." in shown


def test_a_config_of_an_older_run_loads() -> None:
    """Files may hold whole numbers where a setting is a float, and lack settings that came later."""
    old = {"name": "old", "epochs": 3, "lr": 1, "ema": 0, "clip": 1, "optimizer": "adamw"}
    config = TrainConfig.from_dict(json.loads(json.dumps(old)))
    assert config == TrainConfig(name="old", epochs=3, lr=1.0, ema=0.0, clip=1.0, optimizer="adamw")


def test_unknown_settings_and_recipes_are_refused() -> None:
    for way in (lambda: recipe("flowers", colour=1), lambda: TrainConfig.from_dict({"colour": 1})):
        with pytest.raises(ConfigError, match="unknown setting 'colour'; known are name, data"):
            way()
    with pytest.raises(
        ConfigError, match="unknown recipe 'slow'; known are fast-cifar100, main-cifar100, paper-cifar100, best"
    ):
        recipe("slow")


def test_settings_survive_json() -> None:
    for entry in RECIPES.values():
        assert TrainConfig.from_dict(json.loads(json.dumps(entry.config.to_dict()))) == entry.config


@pytest.fixture
def run_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """`swinlens train` with arguments, in an empty folder: exit status, output and errors."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))  # device locks of its own

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
        status = command.main()
        return status, *capsys.readouterr()

    return run


def test_the_command_trains_and_resumes(run_command: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for place in ("a/1", "a/2", "b/1", "b/2"):
        file = tmp_path / "pictures" / f"{place}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(file)
    options = ["--data=pictures", "--variant=swin_nano", "--image-size=16", "--holdout=0.5", "--epochs=1", "--no-flip"]
    status, output, errors = run_command("fast-cifar100", *options)
    assert status == 0, errors
    run = Path(output.splitlines()[-1])
    assert run.parent == tmp_path / "runs"
    saved = json.loads((run / "config.json").read_text())
    assert (
        saved
        == recipe(
            "fast-cifar100",
            data=str(tmp_path / "pictures"),
            variant="swin_nano",
            image_size=16,
            holdout=0.5,
            epochs=1,
            flip=False,
        ).to_dict()
    )
    assert "top-1" in output
    status, output, _ = run_command("--run", str(run))
    assert (status, output.splitlines()[-1]) == (0, str(run))


def test_the_recipe_for_gpus_takes_two_steps(
    run_command: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that `best-cifar100` adds has its part in each step, and nothing is promised that nobody has measured."""
    assert RECIPES["best-cifar100"].time.startswith("not yet measured here")
    assert RECIPES["best-cifar100"].result.startswith("not yet measured here")
    draw = np.random.default_rng(0)
    for number in range(18):
        file = tmp_path / "pictures" / f"class {number % 6}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(file)
    counts: dict[str, int] = {}
    places = {"augment": ("rand_augment", "random_erasing"), "objective": ("mix",)}
    for module, names in places.items():
        for name in names:
            _count_calls(monkeypatch, f"swin_core.training.{module}.{name}", counts)
    _count_calls(monkeypatch, "torch.optim.swa_utils.AveragedModel.update_parameters", counts)
    _count_calls(monkeypatch, "swin_core.training.random_draws.Draws.chance", counts)
    small = ["--data=pictures", "--holdout=0.34", "--limit=8", "--batch-size=4", "--epochs=1"]
    status, output, errors = run_command("best-cifar100", *small)
    assert status == 0, errors
    run = Path(output.splitlines()[-1])
    assert json.loads((run / "status.json").read_text())["step"] == 2
    [line] = [json.loads(text) for text in (run / "metrics.jsonl").read_text().splitlines()]
    assert np.isfinite([line["train_loss"], line["loss"], line["top5"]]).all()
    blocks = sum(VARIANTS["swin_mini"].depths)
    # Drop path draws for every block but the first, whose rate is 0, and flip, erasing and the two mixtures draw too.
    assert counts.pop("chance") >= 2 * (blocks - 1)
    assert counts == {"rand_augment": 2, "random_erasing": 2, "mix": 2, "update_parameters": 2}


def _count_calls(monkeypatch: pytest.MonkeyPatch, path: str, counts: dict[str, int]) -> None:
    """Count the calls of a function, under its last name."""
    name = path.rpartition(".")[2]
    function = pkgutil.resolve_name(path)

    def counted(*args: Any, **options: Any) -> Any:
        counts[name] = counts.get(name, 0) + 1
        return function(*args, **options)

    monkeypatch.setattr(path, counted)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name either a recipe or --run RUN"),
        (["flowers", "--run", "runs/x"], "name either a recipe or --run RUN"),
        (["--run", "runs/x", "--check"], "leave --check out"),
        (["--run", "runs/x"], "no run"),
        (["flowers", "--name=--x; touch p"], "name '--x; touch p' must be"),
        (["flowers", "--init", "nothing"], "there is no model 'nothing'"),
        (["flowers", "--init", "", "--data", "none"], "there is no folder 'none'"),
    ],
)
def test_the_command_answers_mistakes_in_one_line(
    arguments: list[str], words: str, run_command: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    status, output, errors = run_command(*arguments)
    assert (status, output) == (1, "")
    assert words in errors
    assert errors.count("\n") == 1
    assert not [*tmp_path.glob("runs/*"), *tmp_path.glob("p*")]  # no run, no p


def test_the_command_starts_from_any_folder(tmp_path: Path) -> None:
    script = Path(__file__).resolve().parents[2] / "scripts" / "train.py"
    done = subprocess.run(
        [sys.executable, str(script), "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "--label-smoothing" in done.stdout
