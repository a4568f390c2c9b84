"""Start and resume runs in the background, with real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from swin_core import runs
from swin_core.errors import RunError
from swin_core.runs import starting
from tests.fixtures.started import ROOT, SETTINGS, STUB, again, eventually, programs, started, stubbed_root


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with stubbed_root(tmp_path, monkeypatch) as root:
        yield root


def test_a_run_starts_stops_and_resumes(root: Path) -> None:
    run = started(root)
    assert (run.state, run.alive, run.title) == ("running", True, "mine")
    assert run.launch["pid"] == run.status["pid"] != os.getpid()
    assert os.getsid(run.launch["pid"]) == run.launch["pid"] != os.getsid(0)
    assert runs.busy(["cpu", "cuda:0"]) == {"cpu": run.folder}
    (program,) = programs(run)
    runs.request_stop(run)
    assert again(run).state in ("stopping", "stopped")
    program.wait(15)
    ended = again(run)
    assert (ended.state, ended.alive, runs.busy(["cpu"])) == ("stopped", False, {})

    # When the launcher was created is known to a second only: a request just before it must not count as a new one.
    os.utime(run.folder / "stop", (time.time() + 5,) * 2)
    resumed = runs.resume(ended)
    assert resumed.launch["devices"] == ["cpu"]
    assert eventually(lambda: again(run).status.get("step"))
    assert again(run).state == "running"  # the old request to stop is withdrawn
    with pytest.raises(RunError, match="already running"):
        runs.resume(resumed)


def test_a_run_finishes(root: Path) -> None:
    run = runs.start(SETTINGS | {"steps": 2}, root=root)
    assert eventually(lambda: again(run).state == "finished")
    assert [row["loss"] for row in run.steps()] == [1.0, 0.5]
    with pytest.raises(RunError, match="has finished; start a new run"):
        runs.resume(run)
    with pytest.raises(RunError, match="is not running, its state is finished"):
        runs.request_stop(run)
    assert not (run.folder / "stop").exists()


def test_the_exit_status_of_the_launcher_is_collected(root: Path) -> None:
    """A child whose exit status nobody collects stays a zombie."""
    run = runs.start(SETTINGS | {"steps": 1}, root=root)
    assert eventually(lambda: not psutil.pid_exists(run.launch["pid"]))


def test_a_launcher_that_fails_says_why(root: Path) -> None:
    with pytest.raises(RunError, match=r"run \S+-mine: it could not start: no images in 'flowers'"):
        runs.start(SETTINGS | {"fails": "no images in 'flowers'"}, root=root)
    (run,) = runs.list_runs(root)
    assert (run.state, run.alive) == ("failed", False)
    assert run.reason == "it could not start: no images in 'flowers'"
    assert run.log_tail() == ["swinlens train: no images in 'flowers'"]
    assert "pid" not in run.status  # this program wrote it, and is none of the run's
    assert runs.busy(["cpu"]) == {}


@pytest.mark.parametrize("code", ["import sys; sys.exit(0)", "raise SystemError('\\033[31mred')"])
def test_a_launcher_without_a_message_has_failed(
    code: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text(code)
    monkeypatch.setattr(starting, "TRAINER", (sys.executable, str(tmp_path / "broken.py")))
    with pytest.raises(RunError, match=r"could not start: (exit status 0|SystemError: red)$"):
        runs.start(SETTINGS, root=root)
    assert runs.list_runs(root)[0].state == "failed"


@pytest.mark.parametrize(
    "wrong",
    [
        {"devices": []},
        {"devices": "cpu"},
        {"devices": ["cpu; touch p"]},
        {"devices": ["../cpu"]},
        {"processes": 0},
        {"processes": "2"},
        {"max_restarts": -1},
    ],
)
def test_a_wrong_launch_leaves_nothing(wrong: dict[str, Any], root: Path) -> None:
    with pytest.raises(RunError):
        runs.start(SETTINGS, root=root, **wrong)
    assert runs.list_runs(root) == []


@pytest.mark.parametrize(
    "name", ["--x; touch p", "-rf", "../up", "a/b", "a\0b", "$(touch p)", "", ".hidden", "x" * 65, 7]
)
def test_a_name_that_is_a_command_starts_nothing(name: Any, root: Path) -> None:
    with pytest.raises(RunError, match="must be 1 to 64 letters"):
        runs.start(SETTINGS | {"name": name}, root=root)
    assert not root.exists()


def test_a_run_outlives_the_server_that_started_it(root: Path) -> None:
    """The server gets SIGKILL; a new process still lists the run as running."""
    code = (
        "import time\nfrom swin_core import runs\nfrom swin_core.runs import starting\n"
        f"starting.TRAINER = ({sys.executable!r}, {str(STUB)!r})\n"
        f"print(runs.start({SETTINGS!r}, root={str(root)!r}).name, flush=True)\ntime.sleep(60)"
    )
    server = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    name = server.stdout.readline().strip()
    server.kill()
    server.wait()
    server.stdout.close()
    before = runs.find(name, root).status.get("step", 0)
    eventually(lambda: runs.find(name, root).status.get("step", 0) > before + 5)
    listed = subprocess.run(
        [sys.executable, "scripts/runs.py", "--runs-root", root, "--json"], cwd=ROOT, capture_output=True, check=True
    )
    (run,) = json.loads(listed.stdout)
    assert (run["name"], run["state"]) == (name, "running")
    assert run["seconds_since_last_sign"] < 10


def test_a_killed_run_is_dead_and_resumes(root: Path) -> None:
    run = started(root)
    psutil.Process(run.launch["pid"]).kill()
    died = eventually(lambda: now if not (now := again(run)).alive else None)
    assert died.state == "died"
    assert died.reason == "it ended without a message; it has no checkpoint yet, so resume starts it anew"
    assert runs.busy(["cpu"]) == {}  # the lock went with the launcher
    with pytest.raises(RunError, match="is not running, its state is died"):
        runs.request_stop(died)
    assert runs.resume(died).alive


def test_signals_to_a_server_do_not_reach_its_runs(root: Path) -> None:
    """Ctrl-C in the server's terminal goes to its process group, which the run is not in."""
    run = started(root)
    assert os.getpgid(run.launch["pid"]) != os.getpgid(0)
    assert psutil.Process(run.launch["pid"]).status() != psutil.STATUS_ZOMBIE
    # A DataLoader of an earlier test leaves a handler of PyTorch's, which only watches its workers.
    handler = signal.getsignal(signal.SIGCHLD)
    assert handler in (signal.SIG_DFL, None) or getattr(handler, "__module__", "").startswith("torch.")
