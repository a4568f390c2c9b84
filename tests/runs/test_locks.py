"""One run at a time on a device, and one launcher at a time for a run; each test with real programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from swin_core import runs
from swin_core.errors import RunError
from swin_core.runs import starting
from swin_core.runs.locks import run_lock
from tests.fixtures.started import SETTINGS, STUB, eventually, started, stopped_run, stubbed_root


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with stubbed_root(tmp_path, monkeypatch) as root:
        yield root


def test_ten_launches_at_once(root: Path) -> None:
    """One runs; the other nine leave no folder and name the run that has the device."""
    gate = threading.Barrier(10)
    outcomes: list[runs.Run | RunError] = []

    def launch() -> None:
        gate.wait()
        try:
            outcomes.append(runs.start(SETTINGS, root=root))
        except RunError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=launch) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (run,) = [outcome for outcome in outcomes if isinstance(outcome, runs.Run)]
    assert [listed.name for listed in runs.list_runs(root)] == [run.name]
    assert [path.name for path in root.iterdir()] == [run.name]
    refused = [str(outcome) for outcome in outcomes if isinstance(outcome, RunError)]
    line = f"cpu is in use by run {run.name} in {root}; wait for it, or stop it: swinlens runs stop {run.folder}"
    assert refused == [line] * 9


def test_ten_launchers_at_once(root: Path) -> None:
    """The same without the check for busy devices before."""
    folders = [runs.create(SETTINGS | {"name": f"r{number}"}, root) for number in range(10)]
    for folder in folders:
        (folder / "launch.json").write_text(
            json.dumps({"devices": ["cuda:1", "cuda:0"][:: 1 - 2 * (folder.name[-1] > "4")]})
        )
    launchers = [
        subprocess.Popen([sys.executable, STUB, "--run", folder], stderr=subprocess.PIPE, text=True)
        for folder in folders
    ]
    eventually(lambda: sum(launcher.poll() is None for launcher in launchers) == 1)
    alive = [folder for folder, launcher in zip(folders, launchers, strict=True) if launcher.poll() is None]
    assert runs.busy(["cuda:0", "cuda:1"]) == {"cuda:0": alive[0], "cuda:1": alive[0]}
    for launcher in launchers:
        if launcher.poll() is None:
            launcher.kill()
        else:
            assert launcher.returncode == starting.BUSY
        _, said = launcher.communicate()
        assert launcher.returncode < 0 or f"stop it: swinlens runs stop {alive[0]}" in said


def test_a_device_in_use_refuses_a_resume_and_leaves_the_folder(root: Path) -> None:
    first = started(root, name="first")
    second = runs.create(SETTINGS | {"name": "second"}, root)
    with pytest.raises(RunError, match=f"cpu is in use by run {first.name}") as refused:
        runs.resume(runs.find(second.name, root))
    assert refused.value.busy
    assert second.is_dir()
    other = runs.resume(runs.find(second.name, root), devices=["cuda:0"])
    assert other.alive
    assert other.launch["devices"] == ["cuda:0"]
    assert set(runs.busy(["cpu", "cuda:0", "cuda:1"])) == {"cpu", "cuda:0"}


def test_one_run_never_has_two_launchers(root: Path) -> None:
    """Even on another device."""
    run = started(root)
    (run.folder / "launch.json").write_text(json.dumps({"devices": ["cuda:0"]}))
    second = subprocess.run(
        [sys.executable, STUB, "--run", run.folder], capture_output=True, text=True, check=False, timeout=30
    )
    assert second.returncode == starting.BUSY
    assert f"run {run.name} is already running" in second.stderr


def test_losing_the_race_for_a_device_is_busy_not_failed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = started(root, name="first")
    monkeypatch.setattr(starting, "busy", lambda devices: {})  # it came between the look and the launch
    with pytest.raises(RunError, match="cpu is in use by another run; try again") as refused:
        runs.start(SETTINGS, root=root)
    assert refused.value.busy
    assert [run.name for run in runs.list_runs(root)] == [first.name]


def test_locks_are_free_after_the_block_and_after_an_error(root: Path) -> None:
    folder = runs.create(SETTINGS, root)

    def failing() -> None:
        with runs.device_locks(["cpu", "cuda:0"], folder):
            assert runs.busy(["cpu", "cuda:0"]) == {"cpu": folder, "cuda:0": folder}
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            failing()
    assert runs.busy(["cpu", "cuda:0"]) == {}
    other = runs.device_locks(["cpu", "cuda:0"], runs.create(SETTINGS | {"name": "other"}, root))
    with runs.device_locks(["cuda:0"], folder), pytest.raises(RunError, match="cuda:0 is in use by run"), other:
        pass
    with runs.device_locks(["cpu"], folder):  # the other one let go of it
        pass


def test_a_lock_folder_of_another_user_is_refused(root: Path, tmp_path: Path) -> None:
    folder = runs.create(SETTINGS, root)
    place = tmp_path / "tmp" / f"swinlens-{os.getuid()}"
    place.symlink_to(tmp_path)
    with pytest.raises(RunError, match="belongs to another user; set TMPDIR"), runs.device_locks(["cpu"], folder):
        pass
    assert runs.busy(["cpu"]) == {}
    place.unlink()
    with runs.device_locks(["cpu"], folder):
        assert place.stat().st_mode & 0o077 == 0


def test_a_locked_run_is_not_changed(root: Path) -> None:
    """Such as one that another program deletes, or whose launcher is about to start."""
    run = stopped_run(root)
    with run_lock(run.folder):
        for change in (runs.delete, runs.resume, lambda run: runs.rename(run, "other")):
            with pytest.raises(RunError, match="is being started, changed or ended; try again in a moment") as caught:
                change(run)
            assert caught.value.busy
    runs.delete(run)


def test_a_launcher_waits_for_who_started_it(root: Path) -> None:
    """Whoever resumes a run holds its lock until the launcher's process is there."""
    run, locked = stopped_run(root), threading.Event()

    def launch() -> None:
        with runs.device_locks(["cpu"], run.folder):
            locked.set()

    launcher = threading.Thread(target=launch)
    with run_lock(run.folder):
        launcher.start()
        assert not locked.wait(0.1)
    launcher.join()
    assert locked.is_set()
