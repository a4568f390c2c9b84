"""Trainings that are killed while they save."""

import json
import multiprocessing
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from swin_core import runs
from swin_core.training import TrainConfig, train
from swin_core.training.checkpoint import newest_checkpoint


def kills(result: Any, count: int) -> Any:
    """Kill a training while it saves, and resume it; each time nothing but the last epoch may be lost.

    Args:
        result: a `Survival`, which counts the tries and is returned.
        count: number of kills.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["swin_core.training", "torch._dynamo"])  # the latter is loaded by optimizers
    with tempfile.TemporaryDirectory() as folder:
        config = _small_run(Path(folder) / "images")
        run = runs.create(config.to_dict(), Path(folder) / "runs")
        last, draw = run / "checkpoints" / "last.pt", random.Random(0)
        reached = 0
        for _ in range(count):
            child = context.Process(target=_train, args=(config, run))
            child.start()
            _wait_for_change(last, child)
            saved = _epochs_written(run)
            time.sleep(draw.uniform(0, 0.1))
            child.kill()
            child.join()
            try:
                newest = newest_checkpoint(run / "checkpoints")
                epoch = newest.state["place"]["epoch"] if newest else 0
                result.add(epoch >= max(reached, saved - 1), fault="" if epoch >= reached else f"back to {epoch}")
                reached = epoch
            except Exception as error:
                result.add(False, fault=f"{type(error).__name__}: {error}")
        assert train(config, run, stopping=lambda: True) == "stopped"
        written = [line["epoch"] for line in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())]
        if written != list(range(1, len(written) + 1)):
            result.add(False, fault="lines of metrics.jsonl are doubled or missing")
    return result


def _small_run(images: Path) -> TrainConfig:
    draw = np.random.default_rng(0)
    for name in ("ant", "bee"):
        (images / name).mkdir(parents=True)
        for number in range(4):
            Image.fromarray(draw.integers(0, 255, (16, 16, 3), np.uint8)).save(images / name / f"{number}.png")
    return TrainConfig(
        data=str(images), variant="swin_nano", image_size=16, epochs=10_000, batch_size=3, holdout=0.25, lr=1e-5,
        optimizer="adamw",
    )  # fmt: skip


def _train(config: TrainConfig, run: Path) -> None:
    torch.set_num_threads(1)
    train(config, run)


def _wait_for_change(file: Path, child: Any) -> None:
    """Wait until a child has replaced a file, or has ended."""
    before = file.stat().st_mtime_ns if file.exists() else 0
    while child.is_alive() and not (file.exists() and file.stat().st_mtime_ns > before):
        time.sleep(0.001)


def _epochs_written(run: Path) -> int:
    return (run / "metrics.jsonl").read_bytes().count(b"\n")
