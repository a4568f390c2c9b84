"""Real trainings in processes of their own: tiny runs, what they leave behind, and none that outlives its test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from swin_core import runs
from swin_core.training import TrainConfig

ROOT = Path(__file__).resolve().parent.parent
TRAIN = str(ROOT / "scripts" / "train.py")
CLASSES = ("ant", "bee", "cow")
TIMED = ("seconds", "images_per_second", "elapsed")


def write_pictures(root: Path, counts: Sequence[int] = (11, 12, 13), colour: int = 60) -> Path:
    """A folder of three classes with so many pictures of 16 pixels, each class with so much of a colour of its own."""
    draw = np.random.default_rng(0)
    for label, (name, count) in enumerate(zip(CLASSES, counts, strict=True)):
        (root / name).mkdir(parents=True)
        for index in range(count):
            pixels = draw.integers(0, 160, (16, 16, 3), dtype=np.uint8)
            pixels[:, :, label] += colour
            Image.fromarray(pixels).save(root / name / f"{index:02}.png")
    return root


def small(pictures: Path, **changes: Any) -> TrainConfig:
    """A run with everything random turned on: 26 pictures to train on, three steps an epoch."""
    settings: dict[str, Any] = {"variant": "swin_nano", "image_size": 16, "crop_padding": 2, "cutout": 3}
    settings |= {"data": str(pictures), "epochs": 4, "batch_size": 10, "holdout": 0.25, "ema": 0.9}
    settings |= {"optimizer": "adamw", "lr": 3e-4, "precision": "float32", "accumulate": 2, "drop_path": 0.3}
    settings |= {"mixup": 0.8, "cutmix": 1.0, "randaugment": 5}
    return TrainConfig(**(settings | changes))


def options(config: TrainConfig) -> list[str]:
    """The settings as the command line takes them."""
    words = []
    for name, value in config.to_dict().items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        else:
            words.append(f"--{option}={value}")
    return words


def figures(run: Path, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    """A run's figures, without those that tell the time."""
    lines = [json.loads(line) for line in (run / name).read_text().splitlines()]
    return [{key: line[key] for key in line if key not in TIMED} for line in lines]


def assert_same_figures(run: Path, whole: Path, tolerance: float = 1e-5) -> None:
    """The figures of two runs agree: each epoch and each step once, in order."""
    for name in ("metrics.jsonl", "steps.jsonl"):
        found, expected = figures(run, name), figures(whole, name)
        assert len(found) == len(expected) > 0
        for line, other in zip(found, expected, strict=True):
            assert line == pytest.approx(other, abs=tolerance)


@dataclass
class Shell:
    """Starts commands that work below one folder, with device locks of their own."""

    folder: Path

    @property
    def root(self) -> Path:
        """The folder of runs."""
        return self.folder / "runs"

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """Start a Python command."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("SWIN_", "TORCHELASTIC"))}
        environment |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TMPDIR": str(self.folder / "tmp")}
        with (self.folder / "said.txt").open("a") as said:
            return subprocess.Popen(
                [sys.executable, *words, *self._mark(words)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                text=True,
                cwd=ROOT,
            )

    def _mark(self, words: tuple[str, ...]) -> list[str]:
        # Every command names the folder, so that `programs` finds it and what it started.
        return [] if "--run" in words else ["--runs-root", str(self.root)]

    def do(self, *words: str) -> int:
        """Run a Python command to its end; its exit status."""
        return self.begin(*words).wait(120)

    def said(self) -> str:
        """What the commands have printed."""
        return (self.folder / "said.txt").read_text()

    def new_run(self, config: TrainConfig, count: int = 1, restarts: int = 0) -> Path:
        """A run's folder, ready for `train.py --run`."""
        folder = runs.create(config.to_dict(), self.root)
        runs.write_launch(folder, devices=["cpu"], processes=count, max_restarts=restarts)
        return folder

    def only_run(self) -> Path:
        """The folder of the only run."""
        [folder] = self.root.iterdir()
        return folder

    def programs(self) -> list[psutil.Process]:
        """The living programs below the folder, but for this one."""
        found = []
        for program in psutil.process_iter():
            with suppress(psutil.Error):
                mine = program.pid != os.getpid() and program.status() != psutil.STATUS_ZOMBIE
                if mine and any(str(self.folder) in word for word in program.cmdline()):
                    found.append(program)
        return found

    def worker(self, rank: int) -> psutil.Process | None:
        """The program of a rank, once it is there."""
        for program in self.programs():
            with suppress(psutil.Error):
                if program.environ().get("RANK") == str(rank):
                    return program
        return None


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    """Commands below the test's folder; the test's own process shares their locks, and none outlives the test."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    shell = Shell(tmp_path)
    yield shell
    for program in shell.programs():
        program.kill()


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made-up pictures, 26 to train on and 10 to validate on."""
    return write_pictures(tmp_path_factory.mktemp("made") / "pictures")
