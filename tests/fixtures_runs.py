"""Folders of runs as a trainer leaves them, made up: for pages that only read them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from swin_core import runs
from swin_core.training import RECIPES

__all__ = ["epoch_line", "make_run", "step_lines"]


def epoch_line(epoch: int, **odd: Any) -> dict[str, Any]:
    """The figures of an epoch: losses that fall and accuracies that rise."""
    return {
        "epoch": epoch,
        "train_loss": 1 + 4 / epoch,
        "loss": 1 + 3 / epoch,
        "top1": 1 - math.exp(-epoch / 10),
        "top5": 1 - math.exp(-epoch / 4),
        "lr": 1e-3 / epoch,
        "seconds": 60.0,
        "images_per_second": 400.0,
        "elapsed": 60.0 * epoch,
        "saved": "",
    } | odd


def step_lines(epochs: int, an_epoch: int = 20) -> list[dict[str, Any]]:
    """The figures within the epochs."""
    return [
        {
            "step": 10 * number,
            "epoch": number / an_epoch,
            "loss": 5 - number / (epochs * an_epoch),
            "lr": 1e-3,
            "images_per_second": 400.0,
            "elapsed": 60.0 * number / an_epoch,
        }
        for number in range(1, epochs * an_epoch + 1)
    ]


def make_run(
    root: Path,
    name: str,
    state: str = "finished",
    epochs: int = 5,
    recipe: str = "fast-cifar100",
    settings: dict[str, Any] | None = None,
    **status: Any,
) -> Path:
    """A run's folder; one that is "running" is taken for alive, since its program is the test's own.

    Args:
        root: the folder of the runs.
        name: the folder's name, with the time in front.
        state: what its status says.
        epochs: how many it has done, of twice as many unless it is finished.
        recipe: what its settings are made from.
        settings: settings that differ from the recipe's.
        status: more of its status, such as `reason`.
    """
    folder = root / name
    (folder / "checkpoints").mkdir(parents=True)
    planned = epochs if state == "finished" else 2 * epochs
    config = RECIPES[recipe].config.to_dict() | {"name": name[16:], "epochs": planned} | (settings or {})
    (folder / "config.json").write_text(json.dumps(config))
    program = runs.identity() if state in ("running", "starting") else {"pid": 2**22 + 1, "created": 1.0}
    launch = {"devices": ["cpu"], "processes": 2, "max_restarts": 0, "data_root": None, **program}
    (folder / "launch.json").write_text(json.dumps({**runs.identity(), **launch}))
    lines = [epoch_line(epoch) for epoch in range(1, epochs + 1)]
    write_lines(folder / "metrics.jsonl", lines)
    write_lines(folder / "steps.jsonl", step_lines(epochs))
    facts = {
        "state": state,
        "reason": "",
        "epoch": epochs,
        "epochs": planned,
        "step": epochs * 200,
        "steps": planned * 200,
        "loss": 1.5,
        "images_per_second": 412.0,
        "seconds_left": 3700.0,
        "memory_bytes": 1_800_000_000,
    }
    runs.write_status(folder, **{**facts, **status})
    if program["pid"] > 2**22:
        written = json.loads((folder / "status.json").read_text())
        (folder / "status.json").write_text(json.dumps({**written, **program}))
    (folder / "log.txt").write_text("".join(f"epoch {line['epoch']}: loss {line['loss']:.3f}\n" for line in lines))
    return folder


def write_lines(file: Path, lines: list[dict[str, Any]]) -> None:
    """Lines of JSON, NaN and infinity as Python writes them."""
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
