"""Runs for the tests: one that has stopped, those of a stub in the place of the launcher, and what many tests ask."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from swin_core import runs
from swin_core.runs import starting
from swin_core.runs.changing import programs_of

ROOT = Path(__file__).resolve().parent.parent
STUB = ROOT / "tests" / "fixtures_launcher.py"
SETTINGS = {"name": "mine", "epochs": 3, "steps": 100_000}


@contextmanager
def stubbed_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of runs whose launcher is the stub, with locks of its own; no program outlives the block."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(starting, "TRAINER", (sys.executable, str(STUB)))
    root = tmp_path / "runs"
    yield root
    for run in runs.list_runs(root):
        for program in programs_of(run):
            program.kill()


def stopped_run(root: Path) -> runs.Run:
    """A run that stopped after its second epoch; no program ever ran."""
    folder = runs.create(SETTINGS, root)
    runs.write_launch(folder, devices=["cpu"], processes=1)
    runs.write_status(folder, state="stopped", epoch=2, epochs=3)
    rows = [{"epoch": 1, "loss": 4.0, "top1": 0.1}, {"epoch": 2, "loss": 3.5, "top1": 0.2}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return runs.find(folder.name, root)


def eventually(true: Callable[[], Any], seconds: float = 15.0) -> Any:
    """What `true` gives as soon as it is true."""
    until = time.monotonic() + seconds
    while not (value := true()):
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.02)
    return value


def again(run: runs.Run) -> runs.Run:
    return runs.find(run.name, run.folder.parent)


def programs(run: runs.Run) -> list[psutil.Process]:
    return programs_of(again(run))


def started(root: Path, **settings: Any) -> runs.Run:
    """A run that takes steps already."""
    run = runs.start(SETTINGS | settings, root=root)
    return eventually(lambda: now if (now := again(run)).status.get("step") else None)
