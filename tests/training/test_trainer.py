"""The trainer: parameter groups, schedule, moving average, loss, and resumed runs that equal uninterrupted ones."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import swin_core
from swin_core import runs
from swin_core.data.registry import splits
from swin_core.errors import ConfigError, SwinError, WeightsError
from swin_core.models.config import VARIANTS
from swin_core.training import RECIPES, TrainConfig, recipe
from swin_core.training import train as train_in
from swin_core.training.checkpoint import read_checkpoint, write_checkpoint
from swin_core.training.data import MEAN, STD
from swin_core.training.muon import Muon
from swin_core.training.optim import build_optimizers, learning_rate, moving_average, parameter_groups
from swin_core.weights.files import read_metadata, read_state, save_weights
from swin_core.zoo.build import build
from tests.fixtures.shell import CLASSES, write_pictures

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three classes with twelve images each, 16 pixels, each class of its own colour."""
    return write_pictures(tmp_path_factory.mktemp("made") / "pictures", (12, 12, 12), colour=95)


ADAMW = {"optimizer": "adamw", "lr": 1e-3}
MUON = {"optimizer": "muon", "lr": TrainConfig().lr}
"""A step takes it many times as long, on a processor that cannot multiply in bfloat16."""


def small(pictures: Path, **changes: Any) -> TrainConfig:
    """A run of a moment: 27 images to train on and 9 to validate on, three steps an epoch."""
    settings: dict[str, Any] = {"variant": "swin_nano", "image_size": 16, "crop_padding": 2, "cutout": 3}
    settings |= {"data": str(pictures), "epochs": 3, "batch_size": 10, "holdout": 0.25, "ema": 0.9}
    return TrainConfig(**(settings | ADAMW | changes))


def train(config: TrainConfig, runs_root: Path, **options: Any) -> Path:
    """Train in a new run's folder."""
    folder = runs.create(config.to_dict(), runs_root)
    train_in(config, folder, **options)
    return folder


def resume(folder: Path, **options: Any) -> str:
    """Go on with a run."""
    return train_in(TrainConfig.of_run(folder), folder, **options)


PLAIN = {"crop_padding": 0, "flip": False, "cutout": 0, "precision": "float32"}


def metrics(run: Path, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    """A run's figures, without those that tell the time."""
    lines = [json.loads(line) for line in (run / name).read_text().splitlines()]
    timed = ("seconds", "images_per_second", "elapsed")
    return [{key: line[key] for key in line if key not in timed} for line in lines]


def same(one: Any, other: Any) -> bool:
    """Whether two checkpoints hold the same, tensors bit by bit."""
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


# Optimizers, schedule and average


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"mixer": "mlp"},
        {"version": 2},
        {"absolute_embedding": True},
        {"relative_position_bias": False, "qkv_bias": False},
        {"num_classes": 0},
    ],
)
def test_every_parameter_is_trained_once_as_its_kind_asks(changes: dict[str, Any]) -> None:
    model = build("swin_micro", **changes)
    groups = parameter_groups(model)
    assert sorted(name for names in groups.values() for name in names) == sorted(
        name for name, _ in model.named_parameters()
    )
    undecayed, hidden = set(), set()
    for place, module in model.named_modules():
        for name, _ in module.named_parameters(place, recurse=False):
            kind = name.rpartition(".")[2]
            # Swin V2's authors decay no parameter of the network that computes the position bias.
            if isinstance(module, nn.LayerNorm) or kind != "weight" or ".cpb_mlp." in name:
                undecayed.add(name)
            elif isinstance(module, nn.Linear) and place.startswith("layers."):
                hidden.add(name)
    assert set(groups["undecayed"]) == undecayed
    assert set(groups["hidden"]) == hidden
    tables = [name for name in undecayed if name.endswith("relative_position_bias_table")]
    assert len(tables) == (0 if changes.keys() & {"mixer", "version", "relative_position_bias"} else 8)

    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for kind in ("muon", "adamw"):
        trained: list[str] = []
        for optimizer in build_optimizers(model, TrainConfig(optimizer=kind, weight_decay=0.3)):
            for group in optimizer.param_groups:
                members = [names[id(parameter)] for parameter in group["params"]]
                trained += members
                assert group["weight_decay"] == (0 if undecayed & set(members) else 0.3)
                if isinstance(optimizer, Muon):
                    assert set(members) == hidden
                    assert all(parameter.ndim == 2 for parameter in group["params"])
        assert sorted(trained) == sorted(names.values())


def test_learning_rate_rises_then_falls_to_zero() -> None:
    steps, config = 1000, TrainConfig(lr=0.3, warmup=0.05)
    expected = {
        "linear": lambda step: 0.3 * (1000 - step) / 950,
        "cosine": lambda step: 0.15 * (1 + np.cos(np.pi * (step - 50) / 950)),
    }
    for schedule, falling in expected.items():
        config = replace(config, schedule=schedule)
        shuffled = np.random.default_rng(0).permutation(steps + 1).tolist()
        rates = {step: learning_rate(step, steps, config) for step in shuffled}
        for step, rate in rates.items():  # in any order: the step alone decides
            assert rate == pytest.approx(0.3 * (step + 1) / 50 if step < 50 else falling(step), abs=1e-12)
        assert max(rates.values()) == rates[49] == rates[50] == pytest.approx(0.3)
        assert rates[steps] == 0 < rates[steps - 1] < 1e-3


@pytest.mark.parametrize("warmup", [0.0, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 10])
def test_learning_rate_at_the_ends_of_its_settings(warmup: float, steps: int) -> None:
    config = TrainConfig(lr=0.5, warmup=warmup)
    rates = [learning_rate(step, steps, config) for step in range(steps)]
    assert all(0 < rate <= 0.5 for rate in rates)
    assert rates[-1 if warmup else 0] == pytest.approx(0.5)


def test_moving_average_against_a_loop() -> None:
    model = nn.Linear(3, 4)
    step = 0
    average = moving_average(model, 0.8, lambda: step)
    weights = [weight.data for weight in model.parameters()]
    expected = [weight.double().numpy() for weight in weights]
    for step in range(60):
        for weight in weights:
            weight.add_(torch.randn_like(weight))
        average.update_parameters(model)
        decay = min(0.8, (1 + step) / (10 + step))
        expected = [decay * mean + (1 - decay) * w.double().numpy() for mean, w in zip(expected, weights, strict=True)]
    for value, mean in zip(average.module.parameters(), expected, strict=True):
        np.testing.assert_allclose(value.detach().numpy(), mean, atol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_training_loss_is_the_smoothed_cross_entropy(smoothing: float, pictures: Path, tmp_path: Path) -> None:
    """At a learning rate of zero, so that all steps of an epoch see the first weights."""
    config = small(pictures, epochs=1, lr=0.0, label_smoothing=smoothing, **PLAIN)
    run = train(config, runs_root=tmp_path)
    torch.manual_seed(config.seed)
    model = build("swin_nano", num_classes=3, image_size=16).eval()
    losses = []
    for dataset, share in zip(splits(config.data, config.holdout, config.seed), (smoothing, 0.0), strict=True):
        total = 0.0
        for picture, label in zip(dataset.array(16), dataset.labels, strict=True):
            pixels = (torch.tensor(picture).permute(2, 0, 1) / 255).double()
            pixels = (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
            logits = model(pixels.float()[None])[0].double().detach().numpy()
            shares = np.exp(logits) / np.exp(logits).sum()
            target = np.full(3, share / 3)
            target[label] += 1 - share
            total -= float((target * np.log(shares)).sum())
        losses.append(total / len(dataset))
    [line] = metrics(run)
    assert [line["train_loss"], line["loss"]] == pytest.approx(losses, abs=1e-5)


@pytest.mark.parametrize("variant", ["swin_nano", "swinv2_nano"])
def test_training_learns(variant: str, pictures: Path, tmp_path: Path) -> None:
    run = train(small(pictures, variant=variant, epochs=3, ema=0.0, **MUON), runs_root=tmp_path)
    lines = metrics(run)
    assert lines[-1]["top1"] == 1
    assert lines[-1]["train_loss"] < lines[0]["train_loss"] - 0.3
    assert lines[-1]["top5"] is None  # of three classes
    assert swin_core.load(run).model.config.version == VARIANTS[variant].version


# Runs, resumed and repeated


SETTINGS: dict[str, dict[str, Any]] = {
    "muon": {"drop_path": 0.3, **MUON},
    "adamw": {"ema": 0.0, "schedule": "cosine", "crop_scale": 0.5, "colour_jitter": 0.2, "clip": 0.0},
    "mixed": {"accumulate": 2, "mixup": 0.8, "cutmix": 1.0, "randaugment": 5},
}


@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_a_resumed_run_equals_one_that_never_stopped(name: str, pictures: Path, tmp_path: Path) -> None:
    config = small(pictures, **SETTINGS[name])
    losses: dict[str, dict[int, float]] = {"whole": {}, "stopped": {}}

    def note(name: str, last: int) -> Callable[[dict[str, Any]], None]:
        def progress(figures: dict[str, Any]) -> None:
            if "step" in figures:
                losses[name][figures["step"]] = float(figures["loss"])
                if figures["step"] == last:
                    raise KeyboardInterrupt

        return progress

    whole = train(config, runs_root=tmp_path / "whole", on_metrics=note("whole", 99))
    torch.manual_seed(99)  # what else has drawn random numbers must not matter
    with pytest.raises(KeyboardInterrupt):
        train(config, runs_root=tmp_path / "stopped", on_metrics=note("stopped", 5))
    [stopped] = (tmp_path / "stopped").iterdir()
    assert len(metrics(stopped)) == 1
    with (stopped / "metrics.jsonl").open("a") as file:  # as after a crash between the figures and the checkpoint
        file.write('{"epoch": 2, "train_loss": 9.0}\n{"epoch": 3, "tra')
    torch.manual_seed(77)
    resume(stopped, on_metrics=note("stopped", 99))
    assert losses["stopped"] == losses["whole"]
    assert list(losses["whole"]) == list(range(1, 10))
    assert metrics(stopped) == metrics(whole)
    checkpoints = [read_state(run / "checkpoints" / "last.pt") for run in (whole, stopped)]
    for state in checkpoints:
        assert state["place"].pop("elapsed") > 0
    assert same(*checkpoints)
    assert (whole / "model.safetensors").read_bytes() == (stopped / "model.safetensors").read_bytes()
    resume(stopped)  # finished: nothing is left to do
    assert metrics(stopped) == metrics(whole)


@pytest.fixture(scope="module")
def whole(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A run that was never stopped, by the name of its settings; each is made once."""
    return cache(lambda name: train(small(pictures, **SETTINGS[name]), runs_root=tmp_path_factory.mktemp("whole")))


@pytest.mark.parametrize(("name", "last"), [("muon", 5), ("adamw", 1), ("adamw", 5), ("mixed", 1), ("mixed", 5)])
def test_a_run_that_is_stopped_saves_in_the_middle_of_an_epoch(
    name: str, last: int, whole: Callable[[str], Path], tmp_path: Path
) -> None:
    unbroken = whole(name)
    config = TrainConfig.of_run(unbroken)
    steps = iter(range(1, 100))
    stopped = train(config, runs_root=tmp_path / "stopped", stopping=lambda: next(steps) >= last)
    assert runs.read_status(stopped)["state"] == "stopped"
    assert runs.read_status(stopped)["step"] == last
    assert resume(stopped) == "finished"
    assert metrics(stopped) == metrics(unbroken)
    assert metrics(stopped, "steps.jsonl") == metrics(unbroken, "steps.jsonl")
    checkpoints = [read_state(run / "checkpoints" / "last.pt") for run in (unbroken, stopped)]
    assert same(checkpoints[0]["model"], checkpoints[1]["model"])
    assert same(checkpoints[0]["optimizers"], checkpoints[1]["optimizers"])


def test_the_seed_decides(pictures: Path, tmp_path: Path) -> None:
    """Two runs of one name within a second, too, each in a folder of its own."""
    runs = [train(small(pictures, epochs=1, seed=seed, holdout=0.1), runs_root=tmp_path) for seed in (0, 0, 1)]
    assert len(set(runs)) == 3
    weights = [(run / "model.safetensors").read_bytes() for run in runs]
    assert weights[0] == weights[1] != weights[2]


def test_a_run_is_complete_in_itself(pictures: Path, tmp_path: Path) -> None:
    config = small(pictures, epochs=1)
    run = train(config, runs_root=tmp_path)
    found = sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file())
    expected = ["checkpoints/best.safetensors", "checkpoints/last.pt", "config.json", "data.json", "log.txt"]
    assert found == [*expected, "metrics.jsonl", "model.safetensors", "status.json", "steps.jsonl", "validation.json"]
    assert TrainConfig.from_dict(json.loads((run / "config.json").read_text())) == config
    metadata = read_metadata(run / "model.safetensors")
    assert metadata["labels"] == list(CLASSES)
    assert (metadata["image_size"], metadata["training"]["data"]) == (16, str(pictures))


class Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


@pytest.fixture(scope="module")
def finished(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch."""
    return train(small(pictures, epochs=1, **MUON), runs_root=tmp_path_factory.mktemp("runs"))


def broken(finished: Path, tmp_path: Path, damage: Callable[[Path], object]) -> Path:
    """A copy of a run whose checkpoint `damage` has changed."""
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    for name in ("config.json", "checkpoints/last.pt"):
        (run / name).write_bytes((finished / name).read_bytes())
    damage(run / "checkpoints" / "last.pt")
    return run


def refused(run: Path, words: str) -> None:
    """Resuming fails with one line that says so, and changes nothing."""

    def kept() -> dict[Path, bytes]:
        told = ("status.json", "log.txt")  # where it says so, too
        return {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name not in told}

    before = kept()
    with pytest.raises(SwinError, match=words) as caught:
        resume(run)
    assert "\n" not in str(caught.value)
    assert kept() == before
    assert runs.read_status(run).get("state") in ("failed", None)  # None where not even the config could be read


def test_a_checkpoint_that_runs_code_is_refused_and_nothing_ran(finished: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    state = read_state(finished / "checkpoints" / "last.pt")

    def inside(path: Path) -> None:
        torch.save({**state, "extra": Payload(mark)}, path)

    refused(broken(finished, tmp_path / "a", inside), "refused, nothing in it ran")
    refused(broken(finished, tmp_path / "b", lambda path: path.write_bytes(pickle.dumps(Payload(mark), 2))), "last.pt")
    assert not mark.exists()
    call, values = Payload(mark).__reduce__()
    call(*values)  # the payload is live
    assert mark.exists()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1000]), "cut short or damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:100]), "cut short or damaged"),
        (lambda path: path.write_bytes(b""), "empty"),
        (lambda path: path.write_text("hello"), "neither safetensors nor a PyTorch file"),
        (lambda path: torch.save({"weights": torch.zeros(2)}, path), "not a checkpoint of this project"),
        (lambda path: torch.save([torch.zeros(2)], path), "holds list"),
        (lambda path: changed(path, place={"epoch": "one"}), "other settings, or damaged"),
        (lambda path: changed(path, model={}), "other settings, or damaged"),
        (lambda path: changed(path, model=build("swin_micro").state_dict()), "other settings, or damaged"),
        (lambda path: changed(path, average=[torch.zeros(2)]), "other settings, or damaged"),
        (lambda path: changed(path, optimizers=[]), "other settings, or damaged"),
        (lambda path: changed(path, optimizers=[3, 4]), "other settings, or damaged"),
    ],
)
def test_a_damaged_checkpoint_is_refused(
    damage: Callable[[Path], object], words: str, finished: Path, tmp_path: Path
) -> None:
    refused(broken(finished, tmp_path, damage), words)


def changed(path: Path, **parts: Any) -> None:
    torch.save({**read_state(path), **parts}, path)


@pytest.mark.parametrize("text", ["", "[1]", "3", '{"name": "x", "colour": 1}', '{"name": "--x"}', '{"lr": "high"}'])
def test_a_damaged_config_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    refused(tmp_path, "not a run that can be resumed")


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, "not a run that can be resumed")
    refused(tmp_path / "none", "not a run that can be resumed")
    with pytest.raises(ConfigError, match="not a run that can be resumed"):
        resume(Path("a\0b"))


def test_a_full_disk_leaves_the_older_checkpoint(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    path = broken(finished, tmp_path, lambda path: None) / "checkpoints" / "last.pt"
    before = read_checkpoint(path)
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(WeightsError, match="could not be saved: No space left on device"):
        write_checkpoint(path.parent, {"model": {}})
    assert same(read_checkpoint(path), before)


# Fine-tuning and recipes


def test_fine_tuning_takes_over_what_fits(pictures: Path, tmp_path: Path) -> None:
    """At a learning rate of zero the run ends with the weights that it began with."""
    torch.manual_seed(3)
    source = build("swin_nano", image_size=32, num_classes=100)
    for name, parameter in source.named_parameters():
        if "bias_table" in name:
            nn.init.normal_(parameter)
    save_weights(source, tmp_path / "source.safetensors")
    config = small(pictures, image_size=32, patch_size=4, window_size=8, epochs=1, lr=0.0, init="source")
    run = train(config, init=tmp_path / "source.safetensors", runs_root=tmp_path / "runs")
    before, after = source.state_dict(), read_state(run / "model.safetensors")
    assert after["head.weight"].shape == (3, before["head.weight"].shape[1])
    assert after["patch_embed.proj.weight"].shape[-2:] == (4, 4)
    for key, value in after.items():
        if "bias_table" in key:
            old = before[key].T.reshape(1, -1, 7, 7)
            resized = F.interpolate(old, size=(15, 15), mode="bicubic", align_corners=False)
            torch.testing.assert_close(value, resized.reshape(-1, 225).T, atol=1e-5, rtol=0)
        elif not key.startswith(("head", "patch_embed.proj.weight")):
            assert torch.equal(value, before[key]), key


@pytest.mark.parametrize("name", list(RECIPES))
def test_a_recipe_runs_on_real_data(name: str, data_root: Path, tmp_path: Path) -> None:
    init = None
    if RECIPES[name].config.init:
        init = tmp_path / "init.safetensors"
        save_weights(build(RECIPES[name].config.variant), init)
    own = {"data": str(data_root / "flower_photos")} if name == "custom" else {}
    config = recipe(name, limit=4, batch_size=2, epochs=1, **own)
    run = train(config, init=init, root=data_root, runs_root=tmp_path)
    [line] = metrics(run)
    assert np.isfinite([line["train_loss"], line["loss"]]).all()
    labels = read_metadata(run / "model.safetensors")["labels"]
    assert len(labels) == (100 if config.data == "cifar100" else 5)
    assert runs.read_status(run)["step"] == 2
