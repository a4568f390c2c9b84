"""Training: a step against timm, two ranks against one, the overhead around the steps, and the Train page."""

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from benchmarks.timing import measure, swins
from streamlit.testing.v1 import AppTest
from torch import nn

import swin_core
from swin_core import runs
from swin_core.training import recipe
from swin_core.training.config import TrainConfig
from swin_core.training.data import TrainingData
from swin_core.training.trainer import Trainer, new_model

ROOT = Path(__file__).resolve().parent.parent.parent


def training(rounds: int) -> list[dict[str, Any]]:
    """One training step with AdamW, float32: a small Swin at 32 pixels, batch 128, and Swin-T at 224, batch 8."""
    shape: dict[str, Any] = {"embed_dim": 64, "depths": (2, 4, 2), "num_heads": (2, 4, 8)}
    small: dict[str, nn.Module] = {
        "swinlens": swin_core.build("swin_micro"),
        "timm": timm.models.swin_transformer.SwinTransformer(
            img_size=32, patch_size=2, window_size=4, num_classes=100, drop_path_rate=0.0, **shape
        ),
    }
    large = swins()
    large["timm"] = timm.create_model("swin_tiny_patch4_window7_224", drop_path_rate=0.0)
    return [
        _steps("training step, C 64, (2, 4, 2), 32 px, batch 128", small, (128, 32, 100), rounds, "timm"),
        _steps("training step, Swin-T, 224 px, batch 8", large, (8, 224, 1000), rounds, "timm"),
    ]


def _steps(
    title: str, models: dict[str, nn.Module], shape: tuple[int, int, int], rounds: int, over: str
) -> dict[str, Any]:
    batch, side, classes = shape
    x, labels = torch.randn(batch, 3, side, side), torch.randint(0, classes, (batch,))

    def contender(model: nn.Module) -> Callable[[], object]:
        model.train()
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)

        def call() -> object:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), labels).backward()
            return optimizer.step()

        return call

    return measure(title, {name: contender(model) for name, model in models.items()}, rounds, over)


def two_ranks(rounds: int) -> list[dict[str, Any]]:
    """Images a second of two ranks with one thread each against one rank with two, on a part of CIFAR-100."""
    speeds: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as root:
        for _ in range(min(rounds, 5)):
            for count, speed in speeds.items():
                command = [sys.executable, "scripts/train.py", "fast-cifar100", "--epochs=1", "--limit=5000"]
                command += [f"--processes={count}", f"--runs-root={root}"]
                threads = {"OMP_NUM_THREADS": str(2 // count)}
                subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, **threads}, capture_output=True)
                run = runs.list_runs(root)[0]
                speed.append(statistics.median(line["images_per_second"] for line in run.steps()[2:]))
    one, two = (statistics.median(speed) for speed in speeds.values())
    print(f"two ranks: {two:.0f} images/s by two, {one:.0f} by one with two threads: {two / one:.2f} times as many")
    return [{"title": "two ranks", "one": one, "two": two, "ratio": two / one, "each": speeds}]


def around(rounds: int) -> list[dict[str, Any]]:
    """The share of training time outside forward, backward and step: a recipe's whole loop against bare steps."""
    results = []
    for name in ("fast-cifar100", "flowers"):
        config = recipe(name, limit=20 * recipe(name).batch_size, init="")
        results.append(_around(name, config, max(2, rounds // 3)))
    return results


def _around(name: str, config: TrainConfig, rounds: int) -> dict[str, Any]:
    data = TrainingData.load(config, None, torch.device("cpu"))
    trainer, bare = (Trainer(config, data, new_model(config, data)) for _ in range(2))
    count = len(data.train) // trainer.steps_per_epoch
    images = torch.randn(count, 3, config.image_size, config.image_size)
    labels = torch.randint(0, len(data.classes), (count,))
    narrow = trainer.uses_bfloat16

    def step() -> None:
        bare.model.train()
        for optimizer in bare.optimizers:
            optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            logits = bare.model(images)
        nn.functional.cross_entropy(logits.float(), labels, label_smoothing=config.label_smoothing).backward()
        for optimizer in bare.optimizers:
            optimizer.step()

    shares = []
    for _ in range(rounds):
        begin = time.perf_counter()
        trainer.train_epoch(lambda: False)
        whole = (time.perf_counter() - begin) / trainer.steps_per_epoch
        trainer.position = type(trainer.position)()
        seconds = []
        for _ in range(trainer.steps_per_epoch):
            begin = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - begin)
        shares.append(1 - statistics.mean(seconds) / whole)
    share = statistics.median(shares)
    print(f"around the steps of {name}: {100 * share:.1f} % of the time; {rounds} rounds: {shares}")
    return {"title": f"around the steps, {name}", "share": share, "shares": shares}


def train_page(rounds: int) -> list[dict[str, Any]]:
    """The Train page with ten runs of 300 epochs, two of them running: the time of a refresh."""
    with tempfile.TemporaryDirectory() as root:
        os.environ["SWIN_RUNS_ROOT"] = root
        for number in range(10):
            _write_run(Path(root), f"run{number}", "running" if number > 7 else "finished")
        app = AppTest.from_file(str(ROOT / "dashboard" / "views" / "train.py"), default_timeout=120)
        app.run()
        seconds = []
        for number in range(rounds):
            for run in runs.list_runs(root)[:2]:
                _append(run.folder, [_epoch(301 + number)])
            begin = time.perf_counter()
            app.run()
            seconds.append(1000 * (time.perf_counter() - begin))
    assert not app.exception, app.exception
    median = statistics.median(seconds)
    print(f"train page, ten runs, 300 epochs: refresh {median:.0f} ms, slowest {max(seconds):.0f} ms; {rounds} rounds")
    return [{"title": "train page", "refresh_ms": median, "slowest_ms": max(seconds), "rounds": rounds}]


def _write_run(root: Path, name: str, state: str) -> None:
    folder = runs.create(recipe("fast-cifar100", name=name, epochs=400).to_dict(), root)
    runs.write_launch(folder, devices=["cpu"], processes=1)
    runs.write_status(folder, state=state, epoch=300, epochs=400, step=6000, steps=8000)
    _append(folder, [_epoch(number) for number in range(1, 301)])
    with (folder / "steps.jsonl").open("w") as file:
        for number in range(1, 6001):
            line = {"step": number, "epoch": number / 20, "loss": 4 / (1 + number / 2000), "lr": 1e-3}
            file.write(json.dumps({**line, "images_per_second": 300.0, "elapsed": 8.0 * number}) + "\n")


def _epoch(number: int) -> dict[str, Any]:
    line = {"epoch": number, "train_loss": 1 + 3 / number, "loss": 1 + 2 / number, "top1": 1 - math.exp(-number / 40)}
    line |= {"top5": 1 - math.exp(-number / 9), "lr": 1e-3, "seconds": 160.0, "images_per_second": 300.0}
    return {**line, "elapsed": 160.0 * number, "saved": ""}


def _append(folder: Path, epochs: list[dict[str, Any]]) -> None:
    with (folder / "metrics.jsonl").open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in epochs)
