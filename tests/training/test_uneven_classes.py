"""Classes of different sizes: balanced accuracy, class weights, early stopping."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from swin_core import runs
from swin_core.errors import ConfigError
from swin_core.evaluation.metrics import Metrics
from swin_core.training import TrainConfig, train
from swin_core.training.data import TrainingData
from swin_core.training.objective import balanced_weights
from swin_core.training.random_draws import Draws
from swin_core.training.trainer import Trainer, new_model

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("uneven")
    draw = np.random.default_rng(0)
    for name, count in (("ant", 20), ("bee", 4), ("cow", 8)):
        (root / name).mkdir()
        for index in range(count):
            Image.fromarray(draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(root / name / f"{index:02}.png")
    return root


def small(data: Path, **changes: Any) -> TrainConfig:
    settings: dict[str, Any] = {"variant": "swin_nano", "image_size": 16, "crop_padding": 2, "cutout": 0, "ema": 0.0}
    settings |= {"data": str(data), "epochs": 2, "batch_size": 8, "holdout": 0.25, "precision": "float32"}
    return TrainConfig(**(settings | {"optimizer": "adamw", "lr": 1e-3} | changes))


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_balanced_accuracy_is_the_mean_recall_of_a_slow_loop() -> None:
    draw = np.random.default_rng(0)
    truth, predicted = draw.choice(4, 200, p=[0.7, 0.1, 0.2, 0]), draw.integers(0, 4, 200)
    metrics = Metrics.of(truth, predicted, predicted[:, None], np.zeros(200), 4)
    recalls = [np.mean([p == t for t, p in zip(truth, predicted, strict=True) if t == label]) for label in range(3)]
    assert metrics.balanced == pytest.approx(np.mean(recalls))
    assert metrics.to_dict()["balanced"] == metrics.balanced
    assert metrics.is_uneven
    even = np.repeat(np.arange(4), 5)
    assert not Metrics.of(even, even, even[:, None], np.zeros(20), 4).is_uneven
    always = Metrics.of(truth, np.zeros(200, int), np.zeros((200, 1), int), np.zeros(200), 4)
    assert (always.top1 > 0.6, always.balanced) == (True, pytest.approx(1 / 3))


def test_balanced_weights_by_their_formula() -> None:
    labels = torch.tensor([0] * 6 + [2] * 3 + [3])
    weights = balanced_weights(labels, 4)
    expected = [len(labels) / (3 * count) if count else 0 for count in (6, 0, 3, 1)]
    assert weights.tolist() == pytest.approx(expected)
    assert weights[labels].mean() == pytest.approx(1)


@pytest.mark.parametrize("changes", [{}, {"mixup": 0.8}])
def test_a_weighted_loss_is_the_cross_entropy_of_pytorch(uneven: Path, changes: dict[str, Any]) -> None:
    config = small(uneven, class_weights="balanced", label_smoothing=0.0, flip=False, crop_padding=0, **changes)
    data = TrainingData.load(config, None, torch.device("cpu"))
    trainer = Trainer(config, data, new_model(config, data))
    images, labels = next(data.train.batches([torch.arange(0, 24, 3)]))
    seen: list[torch.Tensor] = []
    trainer.model.register_forward_hook(lambda module, inputs, output: seen.append(output))
    loss = float(trainer._objective.loss(images, labels, Draws((0, 0, 0), len(labels))).detach())
    counts = np.bincount(data.train.labels.numpy())
    weights = torch.tensor(counts.sum() / (len(counts) * counts), dtype=torch.float32)
    one_hot = F.one_hot(labels, 3).float()
    if changes:
        from swin_core.training.mixing import mix

        draws = Draws((0, 0, 0), len(labels))
        mixed = mix(torch.zeros(len(labels), 3, 16, 16), labels, 0.8, 0.0, draws)
        one_hot = one_hot * mixed.shares[:, None] + F.one_hot(mixed.partners, 3) * (1 - mixed.shares[:, None])
    expected = F.cross_entropy(seen[0].detach().float(), one_hot, weight=weights, reduction="sum")
    assert loss == pytest.approx(float(expected), rel=1e-5)


def test_each_epoch_records_the_balanced_accuracy(uneven: Path, tmp_path: Path) -> None:
    folder = runs.create(small(uneven).to_dict(), tmp_path)
    train(small(uneven), folder)
    validation = json.loads((folder / "validation.json").read_text())
    confusion = np.array(validation["confusion"])
    assert confusion.sum(1).tolist() == [5, 1, 2]
    assert lines(folder)[-1]["balanced"] == pytest.approx((np.diag(confusion) / confusion.sum(1)).mean())
    assert validation["labels"] == ["ant", "bee", "cow"]
    assert "  balanced " in (folder / "log.txt").read_text()


def test_a_run_ends_when_validation_does_not_improve(uneven: Path, tmp_path: Path) -> None:
    config = small(uneven, epochs=9, patience=2, lr=0.0)  # no weight changes, so no epoch is better than the first
    folder = runs.create(config.to_dict(), tmp_path)
    assert train(config, folder) == "finished"
    assert len(lines(folder)) == 3
    status = runs.read_status(folder)
    assert (status["state"], status["reason"]) == ("finished", "no better validation for 2 epochs")
    # It goes on where it was stopped in the middle, and ends at the same epoch.
    other = runs.create(config.to_dict(), tmp_path)
    for _ in range(20):
        steps = iter(range(2))
        if train(config, other, stopping=lambda steps=steps: next(steps, None) is None) == "finished":
            break
    assert [row["loss"] for row in lines(other)] == [row["loss"] for row in lines(folder)]
    assert (other / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def test_wrong_values_are_refused() -> None:
    with pytest.raises(ConfigError, match="class_weights must be one of none, balanced"):
        TrainConfig(class_weights="some")
    with pytest.raises(ConfigError, match="patience must lie between"):
        TrainConfig(patience=-1)
