"""Runs as they lie on the disk: folders, names, states, renaming and deleting, whole and damaged."""

from __future__ import annotations

import json
import math
import os
import re
import socket
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from swin_core import runs
from swin_core.errors import ConfigError, RunError
from swin_core.training import TrainConfig
from tests.fixtures.started import SETTINGS, again, stopped_run


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def run(root: Path) -> runs.Run:
    return stopped_run(root)


def contents(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# -- folders and names


def test_a_new_run_has_its_settings(root: Path) -> None:
    config = TrainConfig(name="mine", epochs=3).to_dict()
    folder = runs.create(config, root)
    assert folder.is_absolute()
    assert time.strptime(folder.name[:15], "%Y%m%d-%H%M%S")
    assert folder.name[15:] == "-mine"
    assert contents(folder) == ["checkpoints", "config.json"]
    assert TrainConfig.from_dict(runs.find(folder.name, root).config) == TrainConfig.from_dict(config)


def test_runs_of_one_second_and_name_have_their_own_folders(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "strftime", lambda form: "20260102-030405")
    made = [runs.create(SETTINGS, root).name for _ in range(3)]
    assert made == ["20260102-030405-mine", "20260102-030405-mine-2", "20260102-030405-mine-3"]
    assert [run.name for run in runs.list_runs(root)] == made[::-1]


@pytest.mark.parametrize(
    "name",
    ["a", "A-1_b.c", "x" * 64, "_", "", "x" * 65, "-a", ".a", "a b", "a/b", "a\\b", "a\0", "ä", "a\n", "--x; touch p"],
)
def test_runs_and_settings_agree_on_names(name: str, root: Path) -> None:
    if runs.is_run_name(name):
        TrainConfig(name=name)
        assert runs.create({"name": name}, root).is_dir()
        return
    with pytest.raises(RunError) as refused:
        runs.create({"name": name}, root)
    with pytest.raises(ConfigError, match=re.escape(str(refused.value))):
        TrainConfig(name=name)


def test_the_folder_of_runs_is_named_by_argument_then_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SWIN_RUNS_ROOT", raising=False)
    assert runs.runs_root() == Path("runs")
    monkeypatch.setenv("SWIN_RUNS_ROOT", "elsewhere")
    assert runs.runs_root() == Path("elsewhere")
    assert runs.runs_root("given") == Path("given")


def test_a_root_that_is_not_there_yet_holds_no_runs(root: Path) -> None:
    assert runs.list_runs(root) == []
    assert not root.exists()
    with pytest.raises(RunError, match="there is no run 'mine' in"):
        runs.find("mine", root)


def test_a_root_that_cannot_be_written_or_read_is_told_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "runs", Path("/proc/runs")):
        with pytest.raises(RunError, match=r"^no run can be made in '.+': .+; choose another folder\.$"):
            runs.create(SETTINGS, place)
    with pytest.raises(RunError, match=r"^the runs in '.+' cannot be read: Not a directory; choose another\.$"):
        runs.list_runs(tmp_path / "file")
    assert contents(tmp_path) == ["file"]


def test_newest_first_and_a_folder_without_settings_is_no_run(root: Path) -> None:
    names = ["20260101-000000-b", "20251231-235959-z", "20260101-000001-a", "by-hand", "20269999-999999-odd"]
    for name in names:
        (root / name).mkdir(parents=True)
        (root / name / "config.json").write_text("{}")
    os.utime(root / "by-hand" / "config.json", (0, 0))
    (root / "no-run").mkdir()
    (root / ".20260101-000000-b.deleted").mkdir()
    (root / ".20260101-000000-b.deleted" / "config.json").write_text("{}")
    (root / "a-file").write_text("{}")
    listed = runs.list_runs(root)
    assert [run.name for run in listed] == [names[4], names[2], names[0], names[1], names[3]]
    assert [run.title for run in listed] == ["odd", "a", "b", "z", "by-hand"]
    assert {run.state for run in listed} == {"stopped"}


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../outside",
        "outside/../../outside",
        "a\0b",
        "linked",
        "inner",
        "missing",
        "C:run",
        "x" * 5000,
        7,
    ],
)
def test_a_name_that_leads_elsewhere_is_refused(name: Any, root: Path, tmp_path: Path) -> None:
    """Fault 3."""
    outside = tmp_path / "outside"
    for folder in (outside, root / "real"):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
    (root / "linked").symlink_to(outside)
    (root / "inner").symlink_to(root / "real")
    with pytest.raises(RunError, match="there is no run"):
        runs.find(name, root)
    with pytest.raises(RunError, match="there is no run"):
        runs.find(str(outside), root)
    assert [run.name for run in runs.list_runs(root)] == ["real"]


def test_links_in_a_run_are_not_followed(run: runs.Run, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text('{"epoch": 1, "state": "running"}\n')
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "a.safetensors").write_bytes(b"weights")
    (run.folder / "checkpoints").rmdir()
    (run.folder / "checkpoints").symlink_to(tmp_path / "weights")
    for name in ("metrics.jsonl", "steps.jsonl", "log.txt", "notes.txt", "status.json", "model.safetensors"):
        (run.folder / name).unlink(missing_ok=True)
        (run.folder / name).symlink_to(secret)
    linked = again(run)
    assert (linked.metrics(), linked.steps(), linked.log_tail(), linked.notes) == ([], [], [], "")
    assert (linked.status, linked.checkpoints()) == ({}, [])
    runs.write_notes(linked, "mine")
    runs.write_status(linked.folder, state="stopped")
    assert secret.read_text() == '{"epoch": 1, "state": "running"}\n'
    assert again(run).notes == "mine"


def test_a_pipe_in_the_place_of_a_file_does_not_block(run: runs.Run) -> None:
    for name in ("metrics.jsonl", "log.txt", "notes.txt", "status.json"):
        (run.folder / name).unlink(missing_ok=True)
        os.mkfifo(run.folder / name)
    (run.folder / "steps.jsonl").mkdir()
    piped = again(run)
    assert (piped.metrics(), piped.steps(), piped.log_tail(), piped.notes, piped.status) == ([], [], [], "", {})


# -- states


def state(root: Path, status: Any = None, launch: Any = None) -> tuple[str, bool]:
    folder = runs.create(SETTINGS, root)
    for name, content in (("status.json", status), ("launch.json", launch)):
        if content is not None:
            (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    run = runs.find(folder.name, root)
    assert run.state in runs.STATES
    return run.state, run.alive


def test_states_of_runs_whose_programs_have_ended(root: Path) -> None:
    here = socket.gethostname()
    for said in ("stopped", "finished", "failed"):
        assert state(root, {"state": said}) == (said, False)
        assert state(root, {"state": said, **runs.identity()}) == (said, False)
    for said in ("starting", "running"):
        assert state(root, {"state": said, "host": here, "pid": 1, "created": 0.0}) == ("died", False)
        assert state(root, {"state": said, **runs.identity()}) == (said, True)
        assert state(root, {"state": said, "host": "other", "updated": time.time() - 29}) == (said, True)
        assert state(root, {"state": said, "host": "other", "updated": time.time() - 31}) == ("died", False)
        assert state(root, {"state": said}) == ("died", False)


def test_states_between_the_start_and_the_first_word(root: Path) -> None:
    assert state(root) == ("stopped", False)
    assert state(root, None, {"devices": ["cpu"], "started": time.time()}) == ("starting", True)
    assert state(root, None, {"devices": ["cpu"], "started": time.time() - 999}) == ("died", False)
    assert state(root, None, runs.identity()) == ("starting", True)
    me = runs.identity()
    for moved in (-1.001, 1.001):  # the boot's time, of which all others are counted, moves by whole seconds
        assert state(root, None, me | {"created": me["created"] + moved}) == ("starting", True)
    assert state(root, None, me | {"created": 0.0}) == ("died", False)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "[" * 100_000,
        "\0\xff",
        '{"state": 7}',
        '{"state": ["running"]}',
        '{"state": "running", "updated": NaN, "pid": NaN, "host": {}}',
        '{"state": "running", "updated": "soon", "reason": ["a", "b"]}',
        '{"state": "running", "updated": 1e999, "created": [], "pid": 1e999}',
        '{"state": "running", "updated": ' + "9" * 5000 + "}",
    ],
)
def test_damaged_files_are_read_as_far_as_they_go(text: str, root: Path) -> None:
    here = {"host": socket.gethostname(), "pid": 1, "created": 0}
    assert state(root, text, here) == ("died", False)
    assert state(root, {"state": "stopped"}, text) == ("stopped", False)
    folder = runs.create(SETTINGS, root)
    (folder / "config.json").write_text(text)
    assert runs.find(folder.name, root).name == folder.name
    assert len(runs.list_runs(root)) == 3


def test_stopping_is_asked_for_and_alive(root: Path) -> None:
    folder = runs.create(SETTINGS, root)
    runs.write_launch(folder, devices=["cpu"])
    runs.write_status(folder, state="running")
    run = runs.find(folder.name, root)
    assert not runs.stop_requested(folder)
    runs.request_stop(run)
    runs.request_stop(run)
    assert runs.stop_requested(folder)
    assert again(run).state == "stopping"
    runs.write_status(folder, state="stopped", reason="asked\nto")
    assert (again(run).state, again(run).reason) == ("stopped", "asked to")


def test_a_new_launcher_withdraws_an_old_request_and_no_new_one(run: runs.Run) -> None:
    (run.folder / "stop").touch()
    runs.write_launch(run.folder, **run.launch)
    assert runs.stop_requested(run.folder)  # asked while this program was there already
    os.utime(run.folder / "stop", (0, 0))
    runs.write_launch(run.folder, **run.launch)
    assert not runs.stop_requested(run.folder)


def test_the_launcher_is_the_caller_unless_another_lives(run: runs.Run) -> None:
    me = runs.identity()
    runs.write_launch(run.folder, devices=["cpu"], **(me | {"created": 1.0}), started=1.0)
    facts = runs.read_launch(run.folder)
    assert {key: facts[key] for key in me} == me
    assert abs(facts["started"] - time.time()) < 5
    parent = runs.identity(os.getppid())
    runs.write_launch(run.folder, **parent)
    assert {key: runs.read_launch(run.folder)[key] for key in parent} == parent
    assert "devices" not in runs.read_launch(run.folder)  # exactly what was given


def test_a_status_is_what_was_given_with_time_and_identity(run: runs.Run) -> None:
    runs.write_status(run.folder, state="running", loss=math.nan)
    status = runs.read_status(run.folder)
    assert math.isnan(status.pop("loss"))
    assert abs(status.pop("updated") - time.time()) < 5
    assert status == {"state": "running", **runs.identity()}
    with pytest.raises(FileNotFoundError):
        runs.write_status(run.folder.with_name("gone"), state="running")
    with pytest.raises(RunError, match="gone cannot be started: No such file"):
        runs.write_launch(run.folder.with_name("gone"))


# -- rename and delete


def test_a_run_is_renamed(run: runs.Run, root: Path) -> None:
    renamed = runs.rename(run, "better.2")
    assert renamed.name == f"{run.name[:15]}-better.2"
    assert renamed.config == SETTINGS | {"name": "better.2"}
    assert renamed.metrics() == [{"epoch": 1, "loss": 4.0, "top1": 0.1}, {"epoch": 2, "loss": 3.5, "top1": 0.2}]
    assert [listed.name for listed in runs.list_runs(root)] == [renamed.name]
    assert runs.rename(renamed, "better.2").name == renamed.name
    with pytest.raises(RunError, match="there is no run"):
        runs.rename(run, "third")


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
