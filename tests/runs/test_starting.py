"""Runs as programs: started, watched, stopped, killed, orphaned; each test with real ones."""

from __future__ import annotations

import json
import os
import signal
import socket
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
from swin_core.runs import devices, starting
from tests.fixtures.started import ROOT, SETTINGS, STUB, again, eventually, programs, started, stubbed_root


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with stubbed_root(tmp_path, monkeypatch) as root:
        yield root


# -- start, stop, resume


def test_a_run_starts_stops_and_goes_on(root: Path) -> None:
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
    with pytest.raises(RunError, match="under way already"):
        runs.resume(resumed)


def test_a_run_finishes(root: Path) -> None:
    run = runs.start(SETTINGS | {"steps": 2}, root=root)
    assert eventually(lambda: again(run).state == "finished")
    assert [row["loss"] for row in run.steps()] == [1.0, 0.5]
    with pytest.raises(RunError, match="has finished; start a new run"):
        runs.resume(run)
    with pytest.raises(RunError, match="is not under way, its state is finished"):
        runs.request_stop(run)
    assert not (run.folder / "stop").exists()


def test_the_launcher_is_asked_for_when_it_has_ended(root: Path) -> None:
    """Whoever starts a program and never asks how it ended leaves a zombie in the system's table."""
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
def test_a_launcher_that_says_nothing_has_failed(
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
    """Fault 4."""
    with pytest.raises(RunError, match="must be 1 to 64 letters"):
        runs.start(SETTINGS | {"name": name}, root=root)
    assert not root.exists()


# -- who lives, and who is signalled


def test_a_run_outlives_the_server_that_started_it(root: Path) -> None:
    """Fault 10: the server is killed with -9; a fresh program lists the run as running."""
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


def test_stop_leaves_no_program(root: Path) -> None:
    """Fault 11, with two ranks in sessions of their own."""
    run = started(root, ranks=2)
    family = programs(run)
    assert len(family) == 3
    runs.request_stop(run)
    assert psutil.wait_procs(family, timeout=15)[1] == []
    assert again(run).state == "stopped"
    assert programs(run) == []


@pytest.mark.parametrize("how", [[], ["--now"]])
def test_the_shell_stops_a_run(how: list[str], root: Path) -> None:
    run = started(root)
    family = programs(run)
    command = [sys.executable, "scripts/runs.py", "stop", *how, run.folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{run.name} has ended" if how else f"{run.name} is finishing its step")
    assert psutil.wait_procs(family, timeout=15)[1] == []
    assert again(run).state == "stopped"


def test_kill_leaves_no_program_even_of_the_deaf(root: Path) -> None:
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


def test_kill_waits_for_one_that_ends_by_itself(root: Path) -> None:
    run = started(root)
    begun = time.monotonic()
    runs.kill(run, grace=30)
    assert time.monotonic() - begun < 15


def test_ranks_that_lost_their_launcher_can_be_killed(root: Path) -> None:
    """Fault 11, if the ranks did not notice: the launcher is killed with -9."""
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


def test_ranks_without_a_status_are_found_before_anything_is_changed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swin_core.runs.changing._ENDING", 0.1)
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


def test_a_program_that_only_trained_within_itself_is_left_alone(root: Path) -> None:
    """Such as a notebook, whose identity stands in the status of a run that is over."""
    notebook = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        folder = runs.create(SETTINGS, root)
        facts = {**runs.identity(notebook.pid), "updated": time.time()}
        (folder / "status.json").write_text(json.dumps({"state": "stopped", **facts}))
        run = runs.find(folder.name, root)
        with pytest.raises(RunError, match="no program to end here: its state is stopped"):
            runs.kill(run)
        runs.delete(run)
        assert notebook.poll() is None
    finally:
        notebook.kill()
        notebook.wait()


def test_a_program_that_has_ended_and_was_not_asked_for_is_dead(root: Path) -> None:
    """A zombie keeps its id and its time until its parent asks how it ended."""
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    identity = runs.identity(child.pid)
    folder = runs.create(SETTINGS, root)
    (folder / "status.json").write_text(json.dumps({"state": "running", "updated": time.time(), **identity}))
    eventually(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE)
    assert psutil.Process(child.pid).create_time() == pytest.approx(identity["created"], abs=1.5)
    assert runs.find(folder.name, root).state == "died"
    child.wait()


def test_a_program_never_ends_itself(root: Path) -> None:
    """Such as a notebook that trains within itself and is asked to end the run; nor what else the notebook started."""
    folder = runs.create(SETTINGS, root)
    runs.write_launch(folder, devices=["cpu"])
    runs.write_status(folder, state="running")
    run = runs.find(folder.name, root)
    assert run.alive
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        with pytest.raises(RunError, match="no program to end here"):
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


def test_a_run_that_was_killed_is_shown_dead_and_goes_on(root: Path) -> None:
    run = started(root)
    psutil.Process(run.launch["pid"]).kill()
    died = eventually(lambda: now if not (now := again(run)).alive else None)
    assert (died.state, died.reason) == ("died", "it ended without a word; resume it from its last checkpoint")
    assert runs.busy(["cpu"]) == {}  # the lock went with the launcher
    with pytest.raises(RunError, match="is not under way, its state is died"):
        runs.request_stop(died)
    assert runs.resume(died).alive


def test_the_id_of_another_program_is_never_signalled(root: Path) -> None:
    """Fault 12: the run's id was given to a program that has nothing to do with it."""
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        created = psutil.Process(other.pid).create_time()
        folder = runs.create(SETTINGS, root)
        facts = {"pid": other.pid, "created": created - 3600, "host": socket.gethostname()}
        for file in ("launch.json", "status.json"):
            (folder / file).write_text(json.dumps({"state": "running", "updated": time.time(), **facts}))
        run = runs.find(folder.name, root)
        assert (run.state, run.alive) == ("died", False)
        assert devices.use_of(run) is None
        with pytest.raises(RunError, match="no program to end here: its state is died"):
            runs.kill(run)
        assert other.poll() is None
        runs.delete(run)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


@pytest.mark.parametrize("pid", [0, -1, True, "1", 1.0, None, 2**31, 2**80])
def test_an_id_that_is_none_is_never_signalled(pid: Any, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert copied.reason == "no sign of life from elsewhere for 2 h"


# -- what is refused while a run lives, and what it takes


def test_a_living_run_is_neither_deleted_nor_renamed_but_noted(root: Path) -> None:
    run = started(root)
    with pytest.raises(RunError, match="under way and cannot be deleted; stop it first"):
        runs.delete(run)
    with pytest.raises(RunError, match="under way and cannot be renamed; stop it first"):
        runs.rename(run, "other")
    runs.write_notes(run, "so far so good")
    assert again(run).notes == "so far so good"
    assert programs(run)


def test_a_run_that_fell_silent_says_so(root: Path) -> None:
    run = started(root)
    psutil.Process(run.launch["pid"]).suspend()
    facts = json.loads((run.folder / "status.json").read_text()) | {"updated": time.time() - 600}
    (run.folder / "status.json").write_text(json.dumps(facts))
    silent = again(run)
    assert (silent.state, silent.alive) == ("running", True)
    assert silent.reason == "no sign of life for 10 min, but its programs are there"
    runs.kill(run, grace=0.2)


def test_what_a_run_takes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = started(root, ranks=2)
    monkeypatch.setattr(devices, "_APART", 0.0)
    first = devices.use_of(run)
    assert first is not None
    family = programs(run)
    # Each of the three is a Python interpreter with psutil in it.
    assert 3 * 3e6 < first.memory < sum(program.memory_info().rss for program in family)
    before = sum(sum(program.cpu_times()[:2]) for program in family)
    begun = time.monotonic()
    devices.use_of(run)
    time.sleep(1.0)
    use = devices.use_of(run)
    assert use is not None
    spent = sum(sum(program.cpu_times()[:2]) for program in family) - before
    assert use.cores == pytest.approx(spent / (time.monotonic() - begun), abs=0.1)
    runs.kill(run, grace=1)
    assert devices.use_of(again(run)) is None


def test_signals_to_a_server_do_not_reach_its_runs(root: Path) -> None:
    """Ctrl-C in the server's terminal goes to its process group, which the run is not in."""
    run = started(root)
    assert os.getpgid(run.launch["pid"]) != os.getpgid(0)
    assert psutil.Process(run.launch["pid"]).status() != psutil.STATUS_ZOMBIE
    assert signal.getsignal(signal.SIGCHLD) in (signal.SIG_DFL, None)
