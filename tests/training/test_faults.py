"""Trainings that are killed, stopped, out of disk space or diverging, in real processes."""

from __future__ import annotations

import json
import multiprocessing
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from dashboard.train.run_list import state_line
from dashboard.train.run_summary import summarise_run
from swin_core import runs
from swin_core.commands import runs as runs_command
from swin_core.commands import train as train_command
from swin_core.errors import RunError
from swin_core.runs import listing
from swin_core.training import TrainConfig, launch, train
from swin_core.training.checkpoint import read_checkpoint
from tests.fixtures.runs import fill_disk
from tests.fixtures.shell import CLASSES, TRAIN, Shell, assert_same_figures, figures, pictures, shell, small
from tests.fixtures.started import eventually

pytestmark = pytest.mark.usefixtures("one_thread")
__all__ = ["pictures", "shell"]


@pytest.fixture(scope="module")
def config(pictures: Path) -> TrainConfig:
    """Return a config with enough epochs to interrupt the run."""
    return small(pictures, epochs=12)


@pytest.fixture(scope="module")
def whole(config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train without interruption on one rank; return the run's folder."""
    folder = runs.create(config.to_dict(), tmp_path_factory.mktemp("whole"))
    assert train(config, folder) == "finished"
    return folder


def epochs_done(run: Path, count: int = 1) -> None:
    """Wait until some epochs are finished and saved."""
    eventually(
        lambda: runs.read_status(run).get("epoch", 0) >= count and (run / "checkpoints" / "last.pt").exists(), 200
    )


def state(run: Path) -> tuple[Any, Any]:
    status = runs.read_status(run)
    return status.get("state"), status.get("reason", "")


def begun(run: Path) -> Future[int]:
    """Start the ranks of a run from a thread of this program, which saves the start of one; return the exit status."""
    return ThreadPoolExecutor(1).submit(train_command.main, ["--run", str(run)])


@pytest.mark.timeout(900)  # programs start one after another
def test_a_rank_that_is_killed_is_started_again_and_then_ends_the_run_and_is_named(
    shell: Shell, config: TrainConfig, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shell.new_run(config, 2, restarts=1)
    launcher = begun(run)
    for rank in (0, 1):
        before = runs.read_status(run).get("epoch", 0)
        epochs_done(run, before + 1)
        victim = shell.worker(rank)
        assert victim is not None
        victim.kill()
        eventually(lambda rank=rank, victim=victim: shell.worker(rank) != victim, 20)  # the agent waits for its child
    assert launcher.result(200) == 1
    told, reason = state(run)
    assert told == "failed"
    assert reason.startswith("process 1 of 2 was killed by SIGKILL")
    assert f": {reason}\n" in capsys.readouterr().err
    eventually(lambda: not shell.programs(), 5)
    assert before < runs.read_status(run)["epoch"] < config.epochs
    assert runs.find(run.name, shell.root).state == "failed"
    assert train(config, run) == "finished"  # one rank goes on where two were
    assert state(run) == ("finished", "")
    assert_same_figures(run, whole)
    assert (run / "log.txt").read_text().count("finished") == 1


def test_a_rank_that_fails_says_why(shell: Shell, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_SIGNALS_TO_HANDLE", "SIGUSR1")  # the agent would keep those of this process
    data = shell.folder / "pictures"
    for name in CLASSES:
        (data / name).mkdir(parents=True)
        for picture in (pictures / name).iterdir():
            (data / name / picture.name).write_bytes(picture.read_bytes())
    (data / "bee" / "03.png").write_bytes(b"\x89PNG\r\n\x1a\nno image")
    run = shell.new_run(replace(small(data), strict=True), 2)
    with pytest.raises(RunError, match=r"03\.png") as raised:
        launch.launch(run)
    told, reason = state(run)
    assert (told, reason) == ("failed", str(raised.value))
    assert reason.startswith("process ")
    assert "\n" not in reason


@pytest.mark.timeout(900)  # programs start one after another
def test_two_ranks_stop_and_resume_and_end_with_their_launcher(shell: Shell, config: TrainConfig, whole: Path) -> None:
    """Stopped by a request, then by a signal; each time the current step is saved. At last the launcher is killed."""
    run = shell.new_run(config, 2)
    steps = 0
    for way in ("file", "signal"):
        launcher = shell.begin(TRAIN, "--run", str(run))
        eventually(lambda: runs.read_status(run).get("state") == "running", 200)
        epochs_done(run, steps // 3 + 1)
        if way == "file":
            (run / "stop").touch()
        else:
            launcher.send_signal(signal.SIGTERM)
        assert launcher.wait(200) == 0, shell.said()
        assert shell.programs() == []
        assert state(run) == ("stopped", "")
        assert steps < runs.read_status(run)["step"] < 3 * config.epochs
        steps = runs.read_status(run)["step"]
        (run / "stop").unlink(missing_ok=True)

    launcher = shell.begin(TRAIN, "--run", str(run))
    epochs_done(run, steps // 3 + 1)
    assert len(shell.programs()) >= 3
    launcher.kill()
    launcher.wait()
    begin = time.monotonic()
    eventually(lambda: not shell.programs(), 15)
    assert time.monotonic() - begin < 10
    assert runs.find(run.name, shell.root).state in ("stopped", "died")
    assert train(config, run) == "finished"
    assert figures(run) == [pytest.approx(line, abs=1e-5) for line in figures(whole)]


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ("process 1 of 2 has given no sign of life for 30 s", "process 1 of 2 has given no sign of life for 30 s"),
        ("", "there was no status for "),  # rank 0 itself stands still
    ],
)
def test_a_run_that_stands_still_can_be_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str, reason: str
) -> None:
    """The ranks ignore the request, since one of them waits for the other; the launcher ends them."""
    monkeypatch.setattr(launch, "STATUS_SECONDS", 0.02)
    if not told:
        monkeypatch.setattr(launch, "PATIENCE", 0.2)
    run = runs.create({"name": "mine"}, tmp_path)
    runs.write_status(run, state="running", stalled=told)
    ranks = [
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "--run", str(run)]) for _ in range(2)
    ]
    ranks[1].send_signal(signal.SIGSTOP)
    watch = launch._StallWatch(run)
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            ranks[0].wait(0.3)
        (run / "stop").touch()
        assert [rank.wait(20) for rank in ranks] == [-signal.SIGKILL] * 2
        assert watch.reason.startswith(reason)
    finally:
        watch.end()
        for rank in ranks:
            rank.kill()


IMPATIENT = """
from swin_core.system import heartbeats
heartbeats.INTERVAL, heartbeats.PATIENCE = 0.2, 3.0
"""
"""What Python runs before the ranks: half a minute of silence would take too long."""


@pytest.mark.timeout(900)  # programs start one after another
def test_a_rank_that_was_halted_is_reported_and_its_run_stops(
    shell: Shell, pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rank 0 is halted and goes on; then rank 1 is halted, and the run is asked to stop."""
    (shell.folder / "sitecustomize.py").write_text(IMPATIENT)
    monkeypatch.setenv("PYTHONPATH", str(shell.folder))
    monkeypatch.setattr(launch, "PATIENCE", 3.0)
    monkeypatch.setattr(listing, "_SILENCE", {"running": 5.0, "starting": 50.0})
    run = shell.new_run(small(pictures, epochs=10_000), 2)
    launcher = begun(run)
    epochs_done(run)

    def reported(expected: str) -> runs.Run | None:
        listed = runs.find(run.name, shell.root)
        return listed if listed.reason.startswith(expected) else None

    # Rank 0 reports the others; that it is halted itself, the age of its status tells.
    for rank, expected in ((0, "stands still since "), (1, "process 1 of 2 has given no sign of life for ")):
        halted = shell.worker(rank)
        assert halted is not None
        halted.send_signal(signal.SIGSTOP)
        found = eventually(lambda expected=expected: reported(expected), 60)
        assert (found.state, found.alive) == ("running", True)
        assert runs_command.main(["--runs-root", str(shell.root)]) == 0
        assert expected in capsys.readouterr().out
        assert expected in state_line(summarise_run(found))
        if rank == 0:
            halted.send_signal(signal.SIGCONT)
            epochs_done(run, runs.read_status(run)["epoch"] + 2)
            eventually(lambda: not runs.find(run.name, shell.root).reason, 30)
    runs.request_stop(found)
    assert launcher.result(30) == 0
    assert shell.programs() == []
    told, reason = state(run)
    assert told == "stopped"
    assert "so it ended without saving" in reason
    assert train(small(pictures, epochs=10_000), run, stopping=lambda: True) == "stopped"  # it can be resumed


def test_a_slow_rank_has_time_to_follow_a_request_to_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "STATUS_SECONDS", 0.02)
    monkeypatch.setattr(launch, "_SLOW_SECONDS", 0.6)
    run = runs.create({"name": "mine"}, tmp_path)
    rank = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "--run", str(run)])
    watch = launch._StallWatch(run)
    try:
        waiting = "the others have waited for process 1 of 2 for 30 s"
        runs.write_status(run, state="running", stalled=waiting)
        (run / "stop").touch()
        time.sleep(0.3)
        runs.write_status(run, state="running", stalled="")  # its step is over
        time.sleep(0.3)
        runs.write_status(run, state="running", stalled=waiting)
        begin = time.monotonic()
        assert rank.wait(20) == -signal.SIGKILL
        assert time.monotonic() - begin > 0.5
        assert watch.reason == waiting
    finally:
        watch.end()
        rank.kill()


def test_a_recorded_error_is_the_reason_even_if_the_exit_aborts(tmp_path: Path) -> None:
    def failure(rank: int, code: int, name: str, text: str) -> ProcessFailure:
        file = tmp_path / f"{rank}.json"
        message = {"message": f"{name}: {text}", "extraInfo": {"timestamp": str(10 - rank)}}
        file.write_text(json.dumps({"message": message}))
        return ProcessFailure(rank, 1, code, str(file))

    failures = {
        0: failure(0, -signal.SIGABRT, "DataError", "03.png is damaged"),
        1: failure(1, -signal.SIGABRT, "PeerExitedError", "another process of this run is gone"),
    }
    reason = launch._failure(ChildFailedError("run", failures), tmp_path)
    assert reason == "process 0 failed: DataError: 03.png is damaged"
    unknown = ProcessFailure(1, 1, -signal.SIGABRT, str(tmp_path / "none"))
    reason = launch._failure(ChildFailedError("run", {1: unknown}), tmp_path)
    assert reason.startswith("process 1 of 2 was killed by SIGABRT")


def train_alone(config: TrainConfig, folder: Path) -> None:
    """Train until the process is killed."""
    train(config, folder)


def test_killed_at_any_moment_the_newest_checkpoint_loads(config: TrainConfig, whole: Path, tmp_path: Path) -> None:
    """The forkserver has torch loaded, so that a run begins at once and most of its time is spent in saving."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["swin_core.training", "torch._dynamo"])  # the latter is loaded by optimizers
    run = runs.create(config.to_dict(), tmp_path)
    last, draw = run / "checkpoints" / "last.pt", random.Random(0)
    reached = []
    for _ in range(5):
        child = context.Process(target=train_alone, args=(config, run))
        child.start()
        begun = last.stat().st_mtime_ns if last.exists() else 0
        eventually(lambda: not child.is_alive() or (last.exists() and last.stat().st_mtime_ns > begun), 120)  # noqa: B023
        time.sleep(draw.uniform(0, 0.15))
        child.kill()
        child.join()
        reached.append(read_checkpoint(last)["place"]["epoch"])
    assert reached == sorted(reached)
    assert reached[0] < reached[-1]
    assert train(config, run) == "finished"
    assert_same_figures(run, whole)
    assert not [*run.glob(".*"), *run.glob("checkpoints/.*")]


def test_a_full_disk_ends_the_run_and_leaves_the_older_checkpoint(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(pictures, epochs=3)
    run = runs.create(config.to_dict(), tmp_path)
    last = run / "checkpoints" / "last.pt"
    steps = iter(range(100))
    train(config, run, stopping=lambda: next(steps) >= 3)
    before = last.read_bytes()
    fill_disk(monkeypatch)
    with pytest.raises(RunError, match="no space is left"):
        train(config, run)
    assert state(run)[0] == "failed"
    assert "no space is left on the disk; free some" in state(run)[1]
    assert last.read_bytes() == before
    monkeypatch.undo()
    assert train(config, run) == "finished"


def test_a_loss_that_is_no_number_ends_the_run_with_advice(pictures: Path, tmp_path: Path) -> None:
    config = small(pictures, epochs=2, lr=100.0, clip=0.0, warmup=0.0, ema=0.0, weight_decay=100.0)
    run = runs.create(config.to_dict(), tmp_path)
    with pytest.raises(RunError, match="not a finite number"):
        train(config, run)
    assert state(run)[0] == "failed"
    assert "lower --lr" in state(run)[1]
