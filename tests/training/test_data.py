"""The data of a run, the files that it writes, and the recipes."""

from __future__ import annotations

import builtins
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

import swin_core
from swin_core import runs
from swin_core.data.registry import open_split, splits
from swin_core.errors import ConfigError, DataError, RunError, SwinError, WeightsError
from swin_core.evaluation.accuracy import evaluate_named
from swin_core.training import RECIPES, TrainConfig, train
from swin_core.training.data import MEAN, STD, LabelledImages, TrainingData
from swin_core.training.preflight import preflight
from swin_core.training.trainer import Trainer, new_model
from swin_core.weights.files import read_metadata, read_state, save_weights
from swin_core.zoo.build import build

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")


def write(root: Path, classes: tuple[str, ...], count: int, channels: int = 3) -> Path:
    """Class folders of noise, 16 pixels: PNG of three channels, else arrays of any range."""
    draw = np.random.default_rng(0)
    for name in classes:
        (root / name).mkdir(parents=True)
        for index in range(count):
            if channels == 3:
                pixels = draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / name / f"{index:02}.png")
            else:
                values = draw.normal(0, 1, (16, 16, channels)) * (np.arange(channels) + 1) + 100
                np.save(root / name / f"{index:02}.npy", values.astype(np.float32))
    return root


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("data") / "pictures", ("ant", "bee", "cow"), 8)


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("data") / "arrays", ("ant", "bee", "cow"), 8, channels=5)


def small(data: Path, **changes: Any) -> TrainConfig:
    """18 images to train on in two steps, 6 that validate."""
    settings: dict[str, Any] = {"variant": "swin_nano", "image_size": 16, "crop_padding": 2, "cutout": 3, "ema": 0.9}
    settings |= {"data": str(data), "epochs": 2, "batch_size": 9, "holdout": 0.25, "precision": "float32"}
    settings |= {"optimizer": "adamw", "lr": 1e-3}
    return TrainConfig(**(settings | changes))


def run_of(config: TrainConfig, root: Path, **options: Any) -> Path:
    folder = runs.create(config.to_dict(), root)
    assert train(config, folder, **options) == "finished"
    return folder


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def refused(kind: type[SwinError], words: str, config: TrainConfig, root: Path) -> None:
    """Training says so in one line, in its status too; and so does the check before it."""
    folder = runs.create(config.to_dict(), root)
    with pytest.raises(kind, match=words) as caught:
        train(config, folder)
    assert len(str(caught.value).splitlines()) == 1
    status = runs.read_status(folder)
    assert (status["state"], status["reason"]) == ("failed", str(caught.value))
    with pytest.raises(kind, match=words):
        preflight(config, "cpu", 1)


# Arrays


def test_arrays_of_five_channels_from_the_files_to_the_figures(arrays: Path, tmp_path: Path) -> None:
    run = run_of(small(arrays, mixup=0.5, erasing=0.2), tmp_path)
    classifier = swin_core.load(run, runs_root=tmp_path)
    assert classifier.model.config.in_chans == len(classifier.mean) == len(classifier.std) == 5
    found = evaluate_named(str(run), str(arrays), "val", runs_root=tmp_path)
    last = lines(run / "metrics.jsonl")[-1]
    assert (found.metrics.loss, found.metrics.top1) == pytest.approx((last["loss"], last["top1"]), abs=1e-6)
    assert (found.metrics.count, found.labels) == (6, ("ant", "bee", "cow"))
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    with pytest.raises(SwinError, match=r"takes 5 channels; the image has 3\.$") as caught:
        swin_core.explain(classifier, picture)
    assert len(str(caught.value).splitlines()) == 1


def test_statistics_of_arrays_are_those_of_the_training_part(arrays: Path) -> None:
    config = small(arrays)
    data = TrainingData.load(config, None, CPU)
    values = splits(config.data, config.holdout, config.seed)[0].array(16).astype(np.float64).reshape(-1, 5)
    np.testing.assert_allclose(data.mean, values.mean(0), rtol=1e-6)
    np.testing.assert_allclose(data.std, values.std(0, ddof=1), rtol=1e-6)
    assert float(data.normalise(data.train.first().permute(0, 3, 1, 2)).abs().max()) < 6


@pytest.mark.parametrize("setting", ["randaugment", "colour_jitter"])
def test_changes_of_colour_do_not_fit_arrays(setting: str, arrays: Path, tmp_path: Path) -> None:
    refused(ConfigError, "arrays of 5 channels, which randaugment", small(arrays, **{setting: 1}), tmp_path)


# Folders


@pytest.mark.parametrize("held", ["val", "valid", "validation"])
def test_a_folder_may_bring_its_own_split(held: str, tmp_path: Path) -> None:
    write(tmp_path / "own" / "train", ("ant", "bee"), 5)
    write(tmp_path / "own" / held, ("ant", "bee"), 3)
    train_set, held_set = splits(str(tmp_path / "own"))
    assert (len(train_set), len(held_set), train_set.classes) == (10, 6, ("ant", "bee"))
    assert (train_set.name, train_set.split, held_set.split) == ("own", "train", "val")
    assert all(path.parts[-3] == "train" for path in train_set.sources)
    assert all(path.parts[-3] == held for path in held_set.sources)
    run = run_of(small(tmp_path / "own", epochs=1), tmp_path / "runs")
    assert json.loads((run / "validation.json").read_text())["count"] == 6
    found = evaluate_named(str(run), str(tmp_path / "own"), runs_root=tmp_path / "runs")
    assert (found.split, found.metrics.count) == ("val", 6)


def test_the_best_epoch_is_not_chosen_on_test_images(tmp_path: Path) -> None:
    write(tmp_path / "own" / "train", ("ant", "bee"), 10)
    write(tmp_path / "own" / "test", ("ant", "bee"), 3)
    train_set, held_set = splits(str(tmp_path / "own"), 0.2)
    assert [len(train_set), len(held_set)] == [16, 4]
    assert {path.parts[-3] for part in (train_set, held_set) for path in part.sources} == {"train"}
    assert not set(train_set.names) & set(held_set.names)
    run = run_of(small(tmp_path / "own", epochs=1, holdout=0.2), tmp_path / "runs")
    assert json.loads((run / "validation.json").read_text())["count"] == 4
    for split, count in ((None, 6), ("test", 6), ("val", 4), ("train", 16)):
        found = open_split(str(tmp_path / "own"), split, 0.2)
        assert (len(found), found.name) == (count, "own"), split
    found_by_name = evaluate_named(str(run), str(tmp_path / "own"), runs_root=tmp_path / "runs")
    assert (found_by_name.split, found_by_name.metrics.count) == ("test", 6)


def test_train_and_val_of_different_classes_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "own" / "train", ("ant", "bee"), 2)
    write(tmp_path / "own" / "val", ("ant", "cow"), 2)
    refused(DataError, r"train and val of .* have different classes: bee, cow\.$", small(tmp_path / "own"), tmp_path)


def test_folders_without_enough_to_train_on_are_refused(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(DataError, "has no class folders with images or arrays", small(tmp_path / "empty"), tmp_path)
    refused(DataError, "there is no folder", small(tmp_path / "none"), tmp_path)
    refused(ConfigError, "there is no data set to train on", TrainConfig(data=""), tmp_path)
    write(tmp_path / "few", ("ant", "bee"), 1)
    refused(DataError, "too few images", small(tmp_path / "few", holdout=0.1), tmp_path)
    refused(
        ConfigError, "a batch of 9 images is too small for 1 processes with 5", small(pictures, accumulate=5), tmp_path
    )
    refused(ConfigError, "a batch of 1 images is too small", small(pictures, batch_size=1), tmp_path)
    refused(ConfigError, "freeze is at most 4", small(pictures, freeze=5), tmp_path)


# Memory


@pytest.mark.parametrize("changes", [{}, {"accumulate": 2, "mixup": 0.8, "crop_scale": 0.5}])
def test_pictures_too_large_for_memory_give_the_same_run(
    changes: dict[str, Any], pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = run_of(small(pictures, **changes), tmp_path / "kept")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=4000))
    assert TrainingData.load(small(pictures), None, CPU).train._kept is None
    read = run_of(small(pictures, **changes), tmp_path / "read")
    for name in ("model.safetensors", "validation.json"):
        assert (kept / name).read_bytes() == (read / name).read_bytes()
    losses = [[line["loss"] for line in lines(run / "steps.jsonl")] for run in (kept, read)]
    assert losses[0] == losses[1]


def test_what_is_kept_in_memory_is_there_once(pictures: Path) -> None:
    config = small(pictures)
    images = LabelledImages(splits(config.data, config.holdout)[0], 16, CPU, fills=True)
    assert images._kept is not None
    assert not len(images._decoder.dataset)  # the encoded images are gone
    assert len(images) == 18


def test_every_epoch_sees_every_picture_once_in_batches_alike_in_size(pictures: Path) -> None:
    config = small(pictures, batch_size=7)
    data = TrainingData.load(config, None, CPU)
    trainer = Trainer(config, data, new_model(config, data))
    orders = []
    for epoch in (0, 1, 0):
        trainer.position.epoch = epoch
        batches = trainer._batches()
        sizes = [len(batch) for batch in batches]
        assert len(sizes) == -(-18 // 7)
        assert max(sizes) <= 7
        assert max(sizes) - min(sizes) <= 1
        orders.append(torch.cat(batches).tolist())
        assert sorted(orders[-1]) == list(range(18))
    assert orders[0] == orders[2] != orders[1]


# First weights


@pytest.mark.parametrize("own", [True, False])
def test_pictures_are_normalised_as_the_first_weights_expect(own: bool, pictures: Path, tmp_path: Path) -> None:
    model = build("swin_nano", image_size=16, patch_size=2, window_size=4, num_classes=3)
    file = tmp_path / ("own.safetensors" if own else "foreign.pth")
    scale = {"mean": [0.1, 0.2, 0.3], "std": [0.6, 0.5, 0.4]}
    if own:
        save_weights(model, file, {"labels": ["ant", "bee", "cow"], "image_size": 16, **scale})
    else:
        torch.save({"model": model.state_dict()}, file)
        scale = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    run = run_of(small(pictures, epochs=1, init=str(file)), tmp_path / "runs", init=file)
    metadata = read_metadata(run / "model.safetensors")
    assert {key: metadata[key] for key in scale} == scale
    fresh = read_metadata(run_of(small(pictures, epochs=1), tmp_path / "runs") / "model.safetensors")
    assert (tuple(fresh["mean"]), tuple(fresh["std"])) == (MEAN, STD)


def test_weights_of_another_variant_are_refused_with_what_to_do(pictures: Path, tmp_path: Path) -> None:
    save_weights(build("swin_micro", image_size=32, num_classes=3), tmp_path / "micro.safetensors")
    config = small(pictures, image_size=32, init="micro")
    with pytest.raises(WeightsError, match=r"'micro.safetensors' does not fit: .*; choose other weights to start from"):
        run_of(config, tmp_path / "runs", init=tmp_path / "micro.safetensors")


# What a run leaves behind


def test_kept_epochs_load_and_carry_their_figures(pictures: Path, tmp_path: Path) -> None:
    run = run_of(small(pictures, epochs=5, keep_every=2, lr=5e-3), tmp_path)
    told = lines(run / "metrics.jsonl")
    assert [line["saved"] for line in told] == [
        "",
        "epoch-0002.safetensors",
        "",
        "epoch-0004.safetensors",
        "epoch-0005.safetensors",
    ]
    for line in told:
        if not line["saved"]:
            continue
        file = run / "checkpoints" / line["saved"]
        metadata = read_metadata(file)
        assert metadata["training"]["epochs_done"] == line["epoch"]
        assert metadata["metrics"] == {key: line[key] for key in ("train_loss", "loss", "top1", "top5")}
        found = evaluate_named(str(file), str(pictures), "val", runs_root=tmp_path).metrics
        assert (found.loss, found.top1) == pytest.approx((line["loss"], line["top1"]), abs=1e-6)
    best = max(told, key=lambda line: (line["top1"], -line["loss"]))
    metadata = read_metadata(run / "checkpoints" / "best.safetensors")
    assert (metadata["training"]["epochs_done"], metadata["metrics"]["loss"]) == (best["epoch"], best["loss"])
    assert runs.read_status(run)["best_top1"] == best["top1"]
    last = run / "checkpoints" / told[-1]["saved"]
    state, kept = read_state(run / "model.safetensors"), read_state(last)
    assert all(torch.equal(state[key], kept[key]) for key in state)
    validation = json.loads((run / "validation.json").read_text())
    confusion = np.array(validation["confusion"])
    assert validation["per_class"] == pytest.approx((np.diag(confusion) / confusion.sum(1)).tolist())
    assert confusion.sum() == validation["count"] == 6
    assert np.trace(confusion) / 6 == pytest.approx(told[-1]["top1"])


def test_best_is_not_overwritten_by_an_epoch_that_is_no_better(pictures: Path, tmp_path: Path) -> None:
    config = small(pictures, epochs=3, lr=0.0, ema=0.0)
    run = run_of(config, tmp_path)  # no weight changes
    assert read_metadata(run / "checkpoints" / "best.safetensors")["training"]["epochs_done"] == 1
    assert read_metadata(run / "model.safetensors")["training"]["epochs_done"] == 3


def test_steps_leave_twenty_lines_an_epoch_at_most(tmp_path: Path) -> None:
    data = write(tmp_path / "data", ("ant", "bee"), 28)
    config = small(data, batch_size=2, image_size=8, crop_padding=1, holdout=0.1)
    steps = []
    run = run_of(config, tmp_path / "runs", on_metrics=lambda facts: steps.append(facts) if "steps" in facts else None)
    told = lines(run / "steps.jsonl")
    assert len(steps) == 2 * 26
    for epoch in (0, 1):
        within = [line["step"] for line in told if epoch < line["epoch"] <= epoch + 1]
        assert within == [*range(2 + 26 * epoch, 27 + 26 * epoch, 2)]  # every second one, and the last
        mean = np.mean([float(fact["loss"]) for fact in steps[26 * epoch : 26 * epoch + 2]])
        assert told[13 * epoch]["loss"] == pytest.approx(mean, rel=1e-5)
    assert len(told) <= 40


def test_tensorboard_gets_the_figures_when_asked(pictures: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = run_of(small(pictures, tensorboard=True), tmp_path)
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    told = lines(run / "metrics.jsonl")
    for key in ("train_loss", "loss", "top1", "lr"):
        found = [(event.step, event.value) for event in events.Scalars(f"epochs/{key}")]
        assert [step for step, _ in found] == [1, 2]
        assert [value for _, value in found] == pytest.approx([line[key] for line in told], rel=1e-5)
    assert len(events.Scalars("steps/loss")) == len(lines(run / "steps.jsonl"))
    assert not (run_of(small(pictures, epochs=1), tmp_path) / "tensorboard").exists()


def test_without_tensorboard_the_wish_for_it_is_one_line(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if "tensorboard" in name:
            raise ImportError(name)
        return original(name, *rest)

    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    monkeypatch.setattr(builtins, "__import__", refuse)
    folder = runs.create(small(pictures, tensorboard=True).to_dict(), tmp_path)
    with pytest.raises(
        RunError, match=r"^tensorboard is not installed; pip install .* leave --tensorboard out\.$"
    ) as said:
        train(small(pictures, tensorboard=True), folder)
    status = runs.read_status(folder)
    assert (status["state"], status["reason"]) == ("failed", str(said.value))
    assert "step" not in status  # none was made


# Recipes


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_say_what_they_are_for(name: str) -> None:
    entry = RECIPES[name]
    for text in (entry.purpose, entry.source, entry.time, entry.result):
        assert text.strip()
        assert "\n" not in text
    assert f"`{name}`" in (Path(__file__).parents[2] / "docs" / "training.md").read_text()


@pytest.mark.parametrize(
    ("name", "width", "depths", "heads", "epochs"),
    [("paper-cifar100", 96, (2, 2, 6, 2), (3, 6, 12, 24), 150), ("best-cifar100", 96, (2, 6, 4), (3, 6, 12), 300)],
)
def test_shapes_of_the_published_recipes(
    name: str,
    width: int,
    depths: tuple[int, ...],
    heads: tuple[int, ...],
    epochs: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = RECIPES[name].config
    data = SimpleNamespace(classes=range(100), channels=3)
    monkeypatch.setattr("swin_core.training.trainer.Swin", lambda config: config)
    shape: Any = new_model(config, data)
    assert (shape.embed_dim, shape.depths, shape.num_heads) == (width, depths, heads)
    assert (shape.image_size, shape.patch_size, shape.window_size, shape.num_classes) == (32, 2, 4, 100)
    assert (config.epochs, config.init, config.data) == (epochs, "", "cifar100")
    assert config.lr == (1e-4 if name == "paper-cifar100" else 1e-3)


@pytest.mark.parametrize(
    ("settings", "shift", "bias", "embedding"),
    [
        ({}, True, True, False),
        ({"shift": False}, False, True, False),
        ({"relative_position_bias": False}, True, False, False),
        ({"absolute_embedding": True}, True, True, True),
        ({"variant": "vit_nano"}, False, False, True),
    ],
)
def test_ablations_take_from_a_variant_and_add_to_it(
    settings: dict[str, Any], shift: bool, bias: bool, embedding: bool
) -> None:
    data: Any = SimpleNamespace(classes=range(5), channels=3)
    shape = new_model(TrainConfig(**settings), data).config
    assert (shape.shift, shape.relative_position_bias, shape.absolute_embedding) == (shift, bias, embedding)
