"""Files of a run: folders, names, launch, status, log; links and pipes in the place of files."""

from __future__ import annotations

import math
import os
import re
import time
from pathlib import Path

import pytest

from swin_core import runs
from swin_core.errors import ConfigError, RunError
from swin_core.runs.files import resume_advice
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


def test_a_full_disk_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(RunError, match=r"no run can be made in .*: No space left on device; choose another folder"):
        runs.create(SETTINGS, tmp_path / "runs")
    assert list((tmp_path / "runs").iterdir()) == []


def test_advice_names_a_checkpoint_only_where_there_is_one(run: runs.Run) -> None:
    assert resume_advice(run.folder) == "it has no checkpoint yet, so resume starts it anew"
    (run.folder / "checkpoints" / "previous.pt").touch()
    assert resume_advice(run.folder) == "resume it from its last checkpoint"


def test_a_new_launcher_withdraws_only_older_stop_requests(run: runs.Run) -> None:
    (run.folder / "stop").touch()
    runs.write_launch(run.folder, **run.launch)
    assert runs.stop_requested(run.folder)  # asked while this program was there already
    os.utime(run.folder / "stop", (0, 0))
    runs.write_launch(run.folder, **run.launch)
    assert not runs.stop_requested(run.folder)


def test_the_launcher_is_the_caller_unless_another_lives(run: runs.Run) -> None:
    me = runs.identity()
    runs.write_launch(run.folder, devices=["cpu"], **(me | {"ticks": 1}), started=1.0)
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


def test_the_log_is_shown_as_a_terminal_shows_it(run: runs.Run) -> None:
    log = run.folder / "log.txt"
    assert run.log_tail() == []
    log.write_bytes(b"\x1b[1;31mepoch 1\x1b[0m\r\n 10%|#  |\r 50%|## |\r100%|###|\nlast \xff line\n\n  5%|  |\r 10%|  ")
    assert run.log_tail() == ["epoch 1", "100%|###|", "last \ufffd line", "", " 10%|"]
    assert run.log_tail(2) == ["", " 10%|"]
    assert run.log_tail(0) == []
    log.write_text("".join(f"line {number}\n" for number in range(300_000)))
    assert run.log_tail(3) == ["line 299997", "line 299998", "line 299999"]
    log.write_text("x" * 100_000)
    assert len(run.log_tail(3)) == 1


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


def test_pipes_instead_of_files_do_not_block(run: runs.Run) -> None:
    for name in ("metrics.jsonl", "log.txt", "notes.txt", "status.json"):
        (run.folder / name).unlink(missing_ok=True)
        os.mkfifo(run.folder / name)
    (run.folder / "steps.jsonl").mkdir()
    piped = again(run)
    assert (piped.metrics(), piped.steps(), piped.log_tail(), piped.notes, piped.status) == ([], [], [], "", {})
