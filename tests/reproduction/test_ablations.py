"""Ablations: all trained alike, fine-tuned without losing a weight, and compared by their seeds' spread."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scripts import ablate
from swin_core import runs
from swin_core.errors import ConfigError, ModelError
from swin_core.models.swin import Swin
from swin_core.reproduction import ablations
from swin_core.reproduction.ablations import (
    ABLATIONS,
    AblationResult,
    ablation_config,
    finetuning_config,
    markdown_table,
    read_results,
)
from swin_core.training import TrainConfig
from swin_core.training.trainer import new_model
from swin_core.weights.files import load_weights, save_weights
from swin_core.zoo.build import build

pytestmark = pytest.mark.usefixtures("one_thread")
CLASSES = 6


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    for number in range(50 * CLASSES):  # of 50 images the recipe holds out one
        file = tmp_path / "pictures" / f"class {number % CLASSES}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(file)
    return tmp_path / "pictures"


class _Data:
    classes = tuple("abcdef")
    channels = 3


def model_of(config: TrainConfig, classes: int = CLASSES) -> Swin:
    data = _Data()
    data.classes = tuple("abcdefgh"[:classes])
    return new_model(config, data)  # type: ignore[arg-type]


@pytest.mark.parametrize("setting", list(ABLATIONS))
def test_an_ablation_differs_from_the_full_model_in_one_thing(setting: str) -> None:
    full, own = ablation_config("full", 3, epochs=2).to_dict(), ablation_config(setting, 3, epochs=2).to_dict()
    differing = {name for name in full if full[name] != own[name]}
    assert differing == {*ABLATIONS[setting].changes, *(["name"] if setting != "full" else [])}
    assert (own["seed"], own["epochs"]) == (3, 2)
    sizes = [sum(p.numel() for p in model_of(ablation_config(name, 0)).parameters()) for name in ("full", setting)]
    # Mixing matrices of 4 x 4 tokens take less than queries and keys.
    assert 0.65 * sizes[0] < sizes[1] < sizes[0] if setting == "mlp" else sizes[1] == pytest.approx(sizes[0], rel=0.05)


@pytest.mark.parametrize("setting", list(ABLATIONS))
def test_fine_tuning_keeps_every_weight_but_the_head(setting: str, tmp_path: Path) -> None:
    start = ablation_config(setting, 1, epochs=2)
    save_weights(model_of(start), tmp_path / "start.safetensors")
    config = finetuning_config(setting, start, "start", "folder", epochs=1, image_size=128)
    assert (config.seed, config.image_size, config.layer_decay) == (1, 128, 0.8)  # of the recipe `custom`
    report = load_weights(model_of(config, 4), tmp_path / "start.safetensors")
    assert report.random == ("head of 4 classes",)
    assert not [line for line in report.adapted if "bias tables" in line]


def test_a_vit_keeps_one_window_and_swin_its_own() -> None:
    vit_start = ablation_config("vit", 0)
    swin = finetuning_config("mlp", ablation_config("mlp", 0), "", "folder", image_size=64)
    vit = finetuning_config("vit", vit_start, "", "folder", image_size=64)
    assert (swin.patch_size, swin.window_size) == (4, 4)
    assert (vit.patch_size, vit.window_size) == (8, 8)  # 8 x 8 tokens, all in one window
    assert finetuning_config("vit", vit_start, "", "folder", image_size=100).window_size == 13  # the last is padded


def test_unknown_names_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no ablation 'none'; choose from full"):
        ablation_config("none", 0)
    save_weights(build("swin_nano"), tmp_path / "plain.safetensors")
    with pytest.raises(ModelError, match="does not say how it was trained"):
        ablations.bundled_training(str(tmp_path / "plain.safetensors"), tmp_path)


# -- the verdict


def result(setting: str, seed: int, top1: float, **changes: Any) -> AblationResult:
    plain = AblationResult(setting, seed, f"{setting}{seed}", "00", "cifar100", "test", top1, None, 2.0, 3.0, 1_000_000)
    return replace(plain, **changes)


def verdicts(**top1: tuple[float, ...]) -> dict[str, tuple[str, str]]:
    """Of each ablation by its title, the words beside the full model and whether that is as in the paper."""
    given = [result(name.replace("_", "-"), seed, one) for name, ones in top1.items() for seed, one in enumerate(ones)]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in markdown_table(given, True).splitlines()]
    assert len({len(row) for row in rows}) == 1
    return {row[0]: (row[-3], row[-1]) for row in rows[2:]}


def test_the_seeds_decide_whether_the_order_is_that_of_the_paper() -> None:
    found = verdicts(full=(0.50, 0.52), no_shift=(0.48, 0.49), no_bias=(0.53, 0.55), vit=(0.49, 0.51), mlp=(0.4,))
    assert found["without shift"] == ("-2.50", "yes")
    assert found["without position bias"] == ("+3.00", "no")
    assert found["ViT of the same size"] == ("-1.00, within the seeds' spread", "not decided")
    assert found["Swin-MLP"] == ("-11.00, one seed", "not decided")
    # The paper has no difference here.
    assert verdicts(full=(0.5, 0.52), absolute=(0.51, 0.53))["with absolute embedding"][1] == "yes"
    assert verdicts(full=(0.5, 0.52), absolute=(0.53, 0.54))["with absolute embedding"][1] == "no"


def test_the_table_has_mean_and_half_of_the_range() -> None:
    drawn = markdown_table([result("full", seed, one, top5=0.9) for seed, one in enumerate((0.5, 0.53))], False)
    assert "| Swin | 2 | 51.50 ± 1.50 % | 90.00 ± 0.00 % | 2.000 ± 0.000 | 1,000,000 | 3.0 |" in drawn.splitlines()


# -- what is known from before


def test_the_run_that_is_finished_goes_before_a_newer_one_that_is_not(tmp_path: Path) -> None:
    config = ablation_config("full", 0)
    first, second = (runs.create(config.to_dict(), tmp_path) for _ in range(2))  # of one second: one name ends in -2
    runs.create(ablation_config("full", 0, epochs=2).to_dict(), tmp_path)
    runs.write_status(first, state="finished")
    runs.write_status(second, state="stopped")
    chosen = ablations.find_run(config, tmp_path)
    assert chosen is not None
    assert chosen.folder == first
    assert ablations.find_run(ablation_config("full", 1), tmp_path) is None


def test_metrics_of_other_runs_are_kept() -> None:
    old, trial = result("full", 0, 0.5), result("full", 0, 0.1, run="one epoch")
    assert ablations.merge_results([replace(old, top1=0.6)], [old, trial]) == [replace(old, top1=0.6), trial]
    row = asdict(old)
    assert read_results([row, {"setting": 1}, None, {**row, "run": []}]) == [old]


# -- the command


@pytest.fixture
def small(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Arguments for runs of two steps, whose device is locked for this test alone."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    few = ["--seeds", "0", "--limit", "8", "--batch-size", "4", "--epochs", "1"]
    return [*few, "--data", str(pictures), "--runs-root", str(tmp_path / "runs")]


def test_the_command_stops_and_goes_on(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root, command = tmp_path / "runs", ["--settings", "full", "mlp", *small]
    launched: list[str] = []
    bar = ablate.TrainingBar

    def noted(begin: Callable[[Path, Any], str]) -> Callable[[Path, Any], str]:
        def launch(folder: Path, progress: Any) -> str:
            launched.append(folder.name)
            return begin(folder, progress)

        return launch

    class Interrupting:
        """As if somebody pressed Ctrl-C in the first step of the second run."""

        def __init__(self) -> None:
            self.show: Callable[[dict[str, Any]], None] = bar()

        def __call__(self, figures: dict[str, Any]) -> None:
            self.show(figures)
            if len(launched) == 2 and figures.get("step") == 1:
                os.kill(os.getpid(), signal.SIGINT)

    for name in ("launch", "launch_new"):
        monkeypatch.setattr(ablations, name, noted(getattr(ablations, name)))
    monkeypatch.setattr(ablate, "TrainingBar", Interrupting)
    assert ablate.main(command) == 1
    first, second = launched
    stopped = runs.find(second, root)
    assert (stopped.state, stopped.status["step"]) == ("stopped", 1)
    assert f"stopped in {second}; the same command resumes it." in capsys.readouterr().err
    assert ablate.main(command) == 0
    assert launched == [first, second, second]
    assert runs.find(second, root).status["step"] == 2
    written = (root / "ablations.json").read_text()
    rows = read_results(json.loads(written))
    assert [(row.setting, row.run, row.split) for row in rows] == [("full", first, "val"), ("mlp", second, "val")]
    drawn = capsys.readouterr().out.partition("| model")[2]
    assert "| Swin-MLP | 1 | " in drawn

    def never(*_arguments: Any, **_options: Any) -> None:
        raise AssertionError("what is known was measured again")

    monkeypatch.setattr(ablate, "evaluate_named", never)
    assert ablate.main(command) == 0
    assert len(launched) == 3
    assert (root / "ablations.json").read_text() == written
    assert capsys.readouterr().out == f"| model{drawn}"


def test_mistakes_are_one_line_before_anything_is_trained(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = tmp_path / "foreign.json"
    foreign.write_text('[{"name": "mine"}]')
    half = tmp_path / "half.json"
    half.write_text('[{"setting": "full", "se')
    (tmp_path / "file").touch()
    for changed, words in (
        (["--epochs", "0"], "epochs must lie between 1"),
        (["--batch-size", "0"], "batch_size must lie between 1"),
        (["--data", str(tmp_path / "nowhere")], "nowhere"),
        (["--json", str(foreign)], "holds other content than results of ablations; move it"),
        (["--json", str(half)], "holds other content than results of ablations; move it"),
        (["--json", str(tmp_path / "file" / "x.json")], "cannot be written"),
    ):
        assert ablate.main(["--settings", "full", *small, *changed]) == 1
        told = capsys.readouterr().err.splitlines()
        assert words in told[-1]
        assert len(told) == 1 + (changed[0] == "--data")  # the run that was begun
        assert runs.list_runs(tmp_path / "runs") == []
    assert foreign.read_text() == '[{"name": "mine"}]'


def test_what_is_named_twice_counts_once_and_paths_hold_in_other_folders(
    small: list[str], pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    twice = ["--settings", "full", "full", *small, "--seeds", "1", "0", "1", "--data", "pictures"]
    planned = list(ablate.plan(ablate.parser().parse_args(twice), tmp_path / "runs"))
    assert [(name, config.seed) for name, config in planned] == [("full", 1), ("full", 0)]
    assert {config.data for _, config in planned} == {str(pictures)}


def test_the_command_fine_tunes_all_alike(
    small: list[str], pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, before = tmp_path / "runs", tmp_path / "before"
    start = ablation_config("mlp", 0, limit=8, batch_size=4, data=str(pictures), epochs=5)
    trained = runs.create(start.to_dict(), before)
    scale = {"mean": [0.5] * 3, "std": [0.5] * 3}
    save_weights(model_of(start), trained / "model.safetensors", scale)
    command = ["--settings", "mlp", *small, "--finetune", str(pictures), "--init-epochs", "5", "--image-size", "32"]
    command += ["--init-from", str(before)]
    assert ablate.main(command) == 1
    assert "ablation-mlp-seed0 of 5 epochs, batch 4, on" in capsys.readouterr().err
    runs.write_status(trained, state="finished")
    assert ablate.main(command) == 0, capsys.readouterr().err
    rows = read_results(json.loads((root / "ablations-finetuned.json").read_text()))
    assert [(row.setting, row.split) for row in rows] == [("main", "val"), ("mlp", "val"), ("random", "val")]
    configs = [TrainConfig.of_run(root / row.run) for row in rows]
    assert [config.init for config in configs] == ["swin_milli_cifar100", str(trained), ""]
    assert {(config.patch_size, config.window_size, config.epochs) for config in configs} == {(4, 4, 1)}
