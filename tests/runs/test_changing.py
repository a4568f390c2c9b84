"""Stop, kill, rename and delete runs, most with real processes."""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
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
from swin_core.runs import changing, devices
from tests.fixtures.started import ROOT, SETTINGS, again, eventually, programs, started, stopped_run, stubbed_root


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with stubbed_root(tmp_path, monkeypatch) as root:
        yield root


@pytest.fixture
def run(root: Path) -> runs.Run:
    return stopped_run(root)


def contents(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_run_is_renamed(run: runs.Run, root: Path) -> None:
    renamed = runs.rename(run, "better.2")
    assert renamed.name == f"{run.name[:15]}-better.2"
    assert renamed.config == SETTINGS | {"name": "better.2"}
    assert renamed.metrics() == [{"epoch": 1, "loss": 4.0, "top1": 0.1}, {"epoch": 2, "loss": 3.5, "top1": 0.2}]
    assert [listed.name for listed in runs.list_runs(root)] == [renamed.name]
    assert runs.rename(renamed, "better.2").name == renamed.name
    with pytest.raises(RunError, match="there is no run"):
        runs.rename(run, "third")


def test_a_run_whose_settings_cannot_be_written_keeps_its_name(
    run: runs.Run, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(changing, "write_object", full)
    with pytest.raises(RunError, match="cannot be renamed: No space left on device"):
        runs.rename(run, "other")
    assert [listed.name for listed in runs.list_runs(root)] == [run.name]
    assert again(run).config == SETTINGS


@pytest.mark.parametrize("name", ["", "../up", "/tmp/x", "a/b", "a\0b", "-x", ".x", "x" * 65, "--x; touch p", None])
def test_a_run_keeps_its_name_if_the_new_one_is_not_allowed(name: Any, run: runs.Run) -> None:
    with pytest.raises(RunError, match="must be 1 to 64 letters, digits"):
        runs.rename(run, name)
    assert again(run).title == "mine"


def test_a_taken_name_is_refused_even_by_an_empty_folder(run: runs.Run, root: Path) -> None:
    (root / f"{run.name[:15]}-taken").mkdir()
    with pytest.raises(RunError, match="-taken' already; choose another name"):
        runs.rename(run, "taken")
    assert again(run).metrics()


def test_a_run_is_deleted_with_all_that_is_in_it_and_nothing_else(run: runs.Run, root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "kept").write_text("")
    (run.folder / "link").symlink_to(tmp_path / "outside")
    runs.delete(run)
    assert contents(root) == []
    assert contents(tmp_path / "outside") == ["kept"]
    with pytest.raises(RunError, match="there is no run"):
        runs.delete(run)


def test_a_run_whose_folder_became_a_link_is_not_deleted(run: runs.Run, root: Path, tmp_path: Path) -> None:
    os.rename(run.folder, tmp_path / "moved")
    run.folder.symlink_to(tmp_path / "moved")
    with pytest.raises(RunError, match="there is no run"):
        runs.delete(run)
    assert "config.json" in contents(tmp_path / "moved")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may delete anything")
def test_a_run_that_cannot_be_deleted_says_where(run: runs.Run, root: Path) -> None:
    root.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        with pytest.raises(RunError, match="cannot be deleted: Permission denied; look at"):
            runs.delete(run)
        with pytest.raises(RunError, match="cannot be renamed: Permission denied"):
            runs.rename(run, "other")
    finally:
        root.chmod(stat.S_IRWXU)
    assert again(run).metrics()


def test_notes_are_kept_whole(run: runs.Run) -> None:
    assert run.notes == ""
    for text in ("Größe: 3 µm\n<b>", "", "lone \udcff surrogate", "a" * 100_000):
        runs.write_notes(run, text)
        assert run.notes == text.replace("\udcff", "?")
    with pytest.raises(RunError, match="100,000 characters at most, not 100,001; shorten them"):
        runs.write_notes(run, "a" * 100_001)
    assert len(run.notes) == 100_000
    (run.folder / "config.json").unlink()
    with pytest.raises(RunError, match="there is no run"):
        runs.write_notes(run, "too late")


def test_stop_ends_all_programs(root: Path) -> None:
    """Two ranks in sessions of their own end too."""
    run = started(root, ranks=2)
    family = programs(run)
    assert len(family) == 3
    runs.request_stop(run)
    assert psutil.wait_procs(family, timeout=15)[1] == []
    assert again(run).state == "stopped"
    assert programs(run) == []


@pytest.mark.parametrize("how", [[], ["--now"]])
def test_the_command_stops_a_run(how: list[str], root: Path) -> None:
    run = started(root)
    family = programs(run)
    command = [sys.executable, "scripts/runs.py", "stop", *how, run.folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{run.name} has ended" if how else f"{run.name} is finishing its step")
    assert psutil.wait_procs(family, timeout=15)[1] == []
    assert again(run).state == "stopped"


def test_kill_ends_programs_that_ignore_sigterm(root: Path) -> None:
    run = started(root, ranks=2, deaf=True)
    family = programs(run)
    assert len(family) == 3
    begun = time.monotonic()
    runs.kill(run, grace=0.3)
    assert time.monotonic() - begun < 8
    assert not any(program.is_running() and program.status() != psutil.STATUS_ZOMBIE for program in family)
    ended = again(run)
    assert (ended.state, ended.alive) == ("stopped", False)
    assert ended.reason.startswith("ended by the user")
    assert ended.status["step"] >= run.status["step"]  # the figures stay
    assert runs.busy(["cpu"]) == {}
    runs.delete(ended)


def test_kill_returns_when_the_launcher_ends_early(root: Path) -> None:
    run = started(root)
    begun = time.monotonic()
    runs.kill(run, grace=30)
    assert time.monotonic() - begun < 15


def test_orphaned_ranks_can_be_killed(root: Path) -> None:
    """The launcher gets SIGKILL, and the ranks do not notice."""
    run = started(root, ranks=2)
    family = programs(run)
    launcher = psutil.Process(run.launch["pid"])
    launcher.kill()
    launcher.wait(5)
    orphans = [program for program in family if program != launcher]
    assert len(orphans) == 2
    assert again(run).state == "running"  # the first rank lives
    runs.kill(run, grace=0.3)
    assert psutil.wait_procs(orphans, timeout=5)[1] == []


def test_changes_wait_for_orphaned_ranks_without_a_status(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swin_core.runs.changing._SECONDS_TO_END", 0.1)
    run = started(root, ranks=2)
    family = programs(run)
    for program in family[:2]:  # the launcher and the first rank
        program.kill()
    eventually(lambda: again(run).state == "died")
    for change in (runs.resume, runs.delete, lambda run: runs.rename(run, "other")):
        with pytest.raises(RunError, match="still ending"):
            change(run)
    runs.kill(run, grace=0.3)
    assert psutil.wait_procs(family, timeout=5)[1] == []


def test_kill_spares_a_program_that_trained_inside_itself(root: Path) -> None:
    """Such as a notebook whose identity is in the status of a run that is over."""
    notebook = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        folder = runs.create(SETTINGS, root)
        facts = {**runs.identity(notebook.pid), "updated": time.time()}
        (folder / "status.json").write_text(json.dumps({"state": "stopped", **facts}))
        run = runs.find(folder.name, root)
        with pytest.raises(RunError, match="no process to end here: its state is stopped"):
            runs.kill(run)
        runs.delete(run)
        assert notebook.poll() is None
    finally:
        notebook.kill()
        notebook.wait()


def test_kill_spares_its_own_program(root: Path) -> None:
    """Such as a notebook that trains inside itself and kills the run; its other children are spared too."""
    folder = runs.create(SETTINGS, root)
    runs.write_launch(folder, devices=["cpu"])
    runs.write_status(folder, state="running")
    run = runs.find(folder.name, root)
    assert run.alive
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        with pytest.raises(RunError, match="no process to end here"):
            runs.kill(run)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_ranks_are_found_through_a_link_to_the_folder_of_runs(root: Path, tmp_path: Path) -> None:
    root.mkdir()
    (tmp_path / "link").symlink_to(root)
    run = started(tmp_path / "link", ranks=2)
    family = programs(run)
    psutil.Process(run.launch["pid"]).kill()
    assert set(programs(runs.find(run.name, root))) >= set(family[1:])
    runs.kill(run, grace=0.3)
    assert psutil.wait_procs(family, timeout=5)[1] == []


def test_a_reused_pid_is_never_signalled(root: Path) -> None:
    """The system gave the id to an unrelated process."""
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        folder = runs.create(SETTINGS, root)
        facts = {**runs.identity(other.pid), "ticks": 1}
        for file in ("launch.json", "status.json"):
            (folder / file).write_text(json.dumps({"state": "running", "updated": time.time(), **facts}))
        run = runs.find(folder.name, root)
        assert (run.state, run.alive) == ("died", False)
        assert devices.usage_of(run) is None
        with pytest.raises(RunError, match="no process to end here: its state is died"):
            runs.kill(run)
        assert other.poll() is None
        runs.delete(run)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


@pytest.mark.parametrize("pid", [0, -1, True, "1", 1.0, None, 2**31, 2**80])
def test_an_invalid_pid_is_never_signalled(pid: Any, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append(number) if number else None)
    folder = runs.create(SETTINGS, root)
    facts = {"pid": pid, "created": time.time(), "host": socket.gethostname()}
    (folder / "status.json").write_text(json.dumps({"state": "running", **facts}))
    run = runs.find(folder.name, root)
    assert (run.state, run.alive) == ("died", False)
    with pytest.raises(RunError):
        runs.kill(run)
    assert sent == []


def test_a_run_of_another_machine_is_never_signalled(root: Path) -> None:
    run = started(root)
    for file in ("launch.json", "status.json"):
        facts = json.loads((run.folder / file).read_text()) | {"host": "elsewhere"}
        copy = root / "20260101-000000-copy"
        copy.mkdir(exist_ok=True)
        (copy / "config.json").write_text("{}")
        (copy / file).write_text(json.dumps(facts))
    copied = runs.find(copy.name, root)
    assert (copied.state, copied.alive, copied.reason) == ("running", True, "on elsewhere")
    with pytest.raises(RunError, match="it is on elsewhere, end it there"):
        runs.kill(copied)
    assert programs(run)
    (copy / "status.json").write_text(json.dumps(facts | {"updated": time.time() - 7200}))
    copied = runs.find(copy.name, root)
    assert (copied.state, copied.alive) == ("died", False)
    assert copied.reason == "no status from elsewhere for 2 h"


def test_a_living_run_takes_notes_only(root: Path) -> None:
    run = started(root)
    with pytest.raises(RunError, match="running and cannot be deleted; stop it first"):
        runs.delete(run)
    with pytest.raises(RunError, match="running and cannot be renamed; stop it first"):
        runs.rename(run, "other")
    runs.write_notes(run, "so far so good")
    assert again(run).notes == "so far so good"
    assert programs(run)
