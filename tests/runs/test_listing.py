"""The list of runs: order, names, states and saved weights."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import save_file

from swin_core import runs
from swin_core.errors import RunError
from tests.fixtures.started import SETTINGS, again, stopped_run


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def run(root: Path) -> runs.Run:
    return stopped_run(root)


def contents(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_missing_root_has_no_runs(root: Path) -> None:
    assert runs.list_runs(root) == []
    assert not root.exists()
    with pytest.raises(RunError, match="there is no run 'mine' in"):
        runs.find("mine", root)


def test_an_unreadable_root_is_one_line(tmp_path: Path) -> None:
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
def test_a_name_that_leads_out_of_the_root_is_refused(name: Any, root: Path, tmp_path: Path) -> None:
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


def state(root: Path, status: Any = None, launch: Any = None) -> tuple[str, bool]:
    folder = runs.create(SETTINGS, root)
    for name, content in (("status.json", status), ("launch.json", launch)):
        if content is not None:
            (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    run = runs.find(folder.name, root)
    assert run.state in runs.RUN_STATES
    return run.state, run.alive


def test_states_after_the_programs_ended(root: Path) -> None:
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


def test_states_before_the_first_status(root: Path) -> None:
    assert state(root) == ("stopped", False)
    assert state(root, None, {"devices": ["cpu"], "started": time.time()}) == ("starting", True)
    assert state(root, None, {"devices": ["cpu"], "started": time.time() - 999}) == ("died", False)
    assert state(root, None, runs.identity()) == ("starting", True)
    me = runs.identity()
    for other in ({"ticks": me["ticks"] + 1}, {"boot": "another"}, {"ticks": "1"}, {"boot": None}):
        assert state(root, None, me | other) == ("died", False)
    # Files of older versions have the Unix time of the start instead; the boot's time moves by whole seconds.
    old, created = {"pid": me["pid"], "host": me["host"]}, psutil.Process().create_time()
    for moved in (-1.001, 1.001):
        assert state(root, None, old | {"created": created + moved}) == ("starting", True)
    assert state(root, None, old | {"created": 0.0}) == ("died", False)


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


def test_a_living_run_with_a_stop_request_is_stopping(root: Path) -> None:
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


def test_checkpoints_are_listed_with_their_epochs(run: runs.Run) -> None:
    kept = run.folder / "checkpoints"
    named = {"model.safetensors": 2, "checkpoints/best.safetensors": 1, "checkpoints/epoch-0001.safetensors": 1}
    for age, (name, epoch) in enumerate(named.items()):
        metadata = {"swinlens": json.dumps({"training": {"epochs_done": epoch}})}
        save_file({"head": torch.zeros(5)}, run.folder / name, metadata)
        os.utime(run.folder / name, (time.time() - age * 100 - 5,) * 2)
    save_file({"head": torch.zeros(5)}, kept / "theirs.safetensors")
    (kept / "damaged.safetensors").write_bytes(b"\xff" * 100)
    (kept / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    for old in ("theirs", "damaged", "cut"):
        os.utime(kept / f"{old}.safetensors", (0, 0))
    (kept / ".best.safetensors.1.tmp").write_bytes(b"")
    (kept / ".draft.safetensors").write_bytes(b"")
    (kept / "last.pt").write_bytes(b"")
    listed = run.checkpoints()
    assert [entry.file for entry in listed[:3]] == [run.folder / name for name in named]
    assert [entry.epoch for entry in listed] == [2, 1, 1, None, None, None]
    assert [entry.model for entry in listed[:2]] == [run.name, f"{run.name}/checkpoints/best.safetensors"]
    assert {entry.file.name for entry in listed[3:]} == {f"{old}.safetensors" for old in ("theirs", "damaged", "cut")}
    assert all(entry.size == entry.file.stat().st_size for entry in listed)
    assert listed[1].age == pytest.approx(105, abs=4)
