"""`swinlens runs`: list and change runs."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from swin_core import runs
from tests.fixtures.started import ROOT, stopped_run


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def run(root: Path) -> runs.Run:
    return stopped_run(root)


# -- the shell


def shell(root: Path, *words: str) -> tuple[int, str, str]:
    """`scripts/runs.py` with arguments: exit status, output and errors."""
    done = subprocess.run(
        [sys.executable, "scripts/runs.py", "--runs-root", root, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_the_shell_lists_runs(run: runs.Run, root: Path) -> None:
    other = runs.create({"name": "second", "epochs": 10}, root)
    runs.write_launch(other, devices=["cpu"])
    runs.write_status(other, state="running", epoch=4, images_per_second=512.4, seconds_left=3725, best_top1=math.nan)
    odd = root / "\x1b[2J<img onerror=x>"
    odd.mkdir()
    (odd / "config.json").write_text('{"epochs": NaN}')
    os.utime(odd / "config.json", (0, 0))
    code, out, err = shell(root)
    assert (code, err) == (0, "")
    heading, *rows = out.splitlines()
    assert heading.split("  ")[0] == "RUN"
    cells = [[cell for cell in row.split("  ") if cell] for row in rows]
    by_name = {row[0]: [cell.strip() for cell in row[1:]] for row in cells}
    assert by_name[other.name][:4] == ["running", "4 / 10", "512", "1 h 2 min"]
    assert by_name[run.name][:3] == ["stopped", "2 / 3", "20.00%"]
    assert by_name["?[2J<img onerror=x>"] == ["stopped", "0 / ?"]
    assert "\x1b" not in out
    listed = {facts["name"]: facts for facts in json.loads(shell(root, "--json")[1], parse_constant=pytest.fail)}
    assert listed[other.name]["seconds_left"] == 3725
    assert listed[run.name]["best_top1"] == 0.2
    assert listed[run.name]["seconds_since_last_sign"] < 60
    assert shell(root / "none") == (0, f"no runs in {root / 'none'}\n", "")
    assert json.loads(shell(root / "none", "--json")[1]) == []


def test_the_shell_renames_and_deletes(run: runs.Run, root: Path) -> None:
    stamp = run.name[:15]
    assert shell(root, "rename", run.name, "other") == (0, f"{run.name} is now {stamp}-other\n", "")
    code, out, err = shell(root, "delete", "missing", f"{root}/{stamp}-other/", "..")  # as the shell completes it
    assert (code, out) == (1, f"{stamp}-other is deleted\n")
    assert [line.split(" in ")[0] for line in err.splitlines()] == [
        "runs.py: there is no run 'missing'",
        "runs.py: there is no run '..'",
    ]
    assert runs.list_runs(root) == []


def test_the_shell_says_why_not_in_a_line(run: runs.Run, root: Path) -> None:
    for words, said in (
        (["stop", run.name], f"run {run.name} is not running, its state is stopped."),
        (["stop", "--now", run.name], f"run {run.name} has no process to end here: its state is stopped."),
        (
            ["rename", run.name, "a b"],
            "name 'a b' must be 1 to 64 letters, digits, '_', '-' or '.', not '-' or '.' at first.",
        ),
        (["resume", run.name, "--devices", "gpu"], "'gpu' is not a device; name cpu, or GPUs as cuda:0, cuda:1."),
        (["resume", run.name, "--processes", "0"], "processes must be a whole number from 1 on, not '0'."),
    ):
        assert shell(root, *words) == (1, "", f"runs.py: {said}\n")
    code, _, err = shell(run.folder / "config.json")
    assert (code, len(err.splitlines())) == (1, 1)
