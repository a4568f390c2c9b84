"""Whether the processes of a run are alive, with real processes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from swin_core import runs
from swin_core.errors import RunError
from tests.fixtures.started import SETTINGS, again, eventually, started, stubbed_root


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with stubbed_root(tmp_path, monkeypatch) as root:
        yield root


def test_a_zombie_counts_as_dead(root: Path) -> None:
    """A zombie keeps its id and start until its parent collects the exit status."""
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    identity = runs.identity(child.pid)
    folder = runs.create(SETTINGS, root)
    (folder / "status.json").write_text(json.dumps({"state": "running", "updated": time.time(), **identity}))
    eventually(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE)
    assert runs.identity(child.pid) == identity
    assert runs.find(folder.name, root).state == "died"
    child.wait()


def test_a_silent_run_says_so(root: Path) -> None:
    run = started(root)
    psutil.Process(run.launch["pid"]).suspend()
    facts = json.loads((run.folder / "status.json").read_text()) | {"updated": time.time() - 600}
    (run.folder / "status.json").write_text(json.dumps(facts))
    silent = again(run)
    assert (silent.state, silent.alive) == ("running", True)
    since = time.strftime("%H:%M:%S", time.localtime(silent.status["updated"]))
    assert silent.reason.startswith(f"stands still since {since}, without a status; its processes are alive: stop it")
    runs.kill(run, grace=0.2)


def test_a_clock_that_is_set_changes_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The start of a process in Unix time moves with the clock; a living run must not become deletable."""
    run = started(root)
    create_time = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda program: create_time(program) + 10)
    assert again(run).alive
    with pytest.raises(RunError, match="is running and cannot be deleted"):
        runs.delete(run)


def test_a_rank_that_stands_still_is_the_reason(root: Path) -> None:
    run = started(root)
    psutil.Process(run.launch["pid"]).suspend()
    facts = json.loads((run.folder / "status.json").read_text()) | {"stalled": "process 1 of 2\nis silent"}
    (run.folder / "status.json").write_text(json.dumps(facts))
    assert (again(run).state, again(run).reason) == ("running", "process 1 of 2 is silent")
