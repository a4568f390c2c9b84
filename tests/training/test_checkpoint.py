"""The checkpoint that a run writes is a model of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

import swin_core
from swin_core import runs
from swin_core.training.config import TrainConfig
from swin_core.training.trainer import train
from swin_core.weights.files import read_metadata
from tests.fixtures.shell import CLASSES, write_pictures

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_last_checkpoint_opens_as_its_run_and_alone(tmp_path: Path) -> None:
    images = write_pictures(tmp_path / "pictures", (6, 6, 6), colour=95)
    config = TrainConfig(
        data=str(images),
        variant="swin_nano",
        image_size=16,
        epochs=1,
        batch_size=6,
        ema=0.9,
        optimizer="adamw",
        lr=1e-3,
    )
    run = runs.create(config.to_dict(), tmp_path / "runs")
    train(config, run)
    last = swin_core.load(run / "checkpoints" / "last.pt")
    assert (last.name, last.labels, last.image_size) == (run.name, tuple(CLASSES), 16)
    assert list(last.mean) == pytest.approx(read_metadata(run / "model.safetensors")["mean"])
    # After one epoch the last weights are the best ones, and both are those of the moving average.
    best = swin_core.load(run)
    x = torch.randn(2, 3, 16, 16)
    with torch.inference_mode():
        torch.testing.assert_close(last.model(x), best.model(x))
    shutil.copy(run / "checkpoints" / "last.pt", tmp_path / "moved.pt")
    moved = swin_core.load(tmp_path / "moved.pt")
    assert (moved.name, moved.labels, moved.mean) == ("moved", last.labels, last.mean)
