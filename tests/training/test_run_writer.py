"""What the writer of a run's folder says while the training does nothing."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from swin_core import runs
from swin_core.training import TrainConfig, run_writer
from swin_core.training.run_writer import RunWriter
from tests.fixtures.started import eventually


@pytest.fixture
def writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunWriter]:
    monkeypatch.setattr(run_writer, "STATUS_SECONDS", 0.01)
    monkeypatch.setattr(run_writer, "STILL_SECONDS", 0.2)
    writer = RunWriter(runs.create({"name": "mine"}, tmp_path), TrainConfig(data="flowers"))
    writer.start()
    yield writer
    writer.end("stopped")


def told(writer: RunWriter, state: str = "running") -> Any:
    run = runs.find(writer.folder.name, writer.folder.parent)
    assert run.state == state
    return run.reason


def work(writer: RunWriter, number: int, seconds: float) -> None:
    time.sleep(seconds)
    writer.step({"step": number, "steps": 9})


def test_a_loop_that_never_ends_is_reported(writer: RunWriter) -> None:
    before = time.localtime()
    assert told(writer) == ""
    work(writer, 1, 0)
    reason = eventually(lambda: told(writer), 5)
    since = re.fullmatch(r"stands still since ([\d:]{8}): wait if a step .*, or stop it at once", reason)
    assert since
    assert time.strftime("%H:%M:%S", before) <= since[1] <= time.strftime("%H:%M:%S")
    work(writer, 2, 0)
    eventually(lambda: told(writer) == "", 5)
    assert list(writer.watched("ab")) == ["a", "b"]


class Clock:
    """The module `time` with a clock that a test sets."""

    now = 0.0
    time, localtime, strftime = time.time, time.localtime, time.strftime

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(run_writer, "STATUS_SECONDS", 0.01)
    monkeypatch.setattr(run_writer, "time", clock)
    return clock


def test_after_a_step_of_30_s_a_run_that_stands_still_is_reported_within_a_minute(clock: Clock, tmp_path: Path) -> None:
    writer = RunWriter(runs.create({"name": "mine"}, tmp_path), TrainConfig(data="flowers"))
    writer.start()
    clock.now = 30
    writer.step({"step": 1, "steps": 9})
    clock.now += 44
    time.sleep(0.1)
    assert told(writer) == ""  # slow steps are no fault
    clock.now = 30 + 58
    assert "wait if a step may" in eventually(lambda: told(writer), 5)
    writer.end("stopped")


def test_a_run_that_stands_still_while_it_reads_its_images_is_reported(clock: Clock, tmp_path: Path) -> None:
    writer = RunWriter(runs.create({"name": "mine"}, tmp_path), TrainConfig(data="flowers"))
    clock.now = 30
    eventually(lambda: runs.read_status(writer.folder), 5)
    assert told(writer, "starting") == ""
    clock.now = 58
    assert "wait if reading its images may take" in eventually(lambda: told(writer, "starting"), 5)
    writer.start()
    eventually(lambda: told(writer) == "", 5)
    writer.end("stopped")


def test_each_batch_of_the_validation_is_work(writer: RunWriter) -> None:
    for _ in writer.watched(range(5)):
        time.sleep(0.05)
        assert told(writer) == ""
