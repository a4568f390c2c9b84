"""Metrics of a run: half-written and damaged lines, and the cache."""

from __future__ import annotations

import json
import math
import os
import random
from pathlib import Path
from typing import Any

import pytest

from swin_core import runs
from swin_core.runs import metrics
from swin_core.system.cache import LRUCache
from tests.fixtures.started import stopped_run


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def run(root: Path) -> runs.Run:
    return stopped_run(root)


def naive(text: bytes, key: str) -> list[Any]:
    """Parse all complete lines, one by one."""
    rows: list[Any] = []
    for line in text.split(b"\n")[:-1]:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and type(row.get(key)) in (int, float) and math.isfinite(row[key]):
            rows = [kept for kept in rows if kept[key] < row[key]] + [row]
    return rows


def test_incomplete_lines_and_non_finite_numbers(run: runs.Run) -> None:
    with (run.folder / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "loss": NaN, "top1": Infinity, "lr": -Infinity}\n')
        file.write('{"epoch": 4, "loss": 1e999, "top1": null}\n{"epoch": 5, "lo')
    rows = run.metrics()
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert math.isnan(rows[2]["loss"])
    assert [rows[2]["top1"], rows[2]["lr"], rows[3]["loss"]] == [math.inf, -math.inf, math.inf]
    with (run.folder / "metrics.jsonl").open("a") as file:
        file.write('ss": 2.5}\n')
    assert run.metrics()[-1] == {"epoch": 5, "loss": 2.5}


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"  ",
        b"\xff\xfe",
        b"[1]",
        b"3",
        b"{}",
        b'{"epoch": "3"}',
        b'{"epoch": NaN}',
        b'{"epoch": true}',
        b'{"epoch": 3}, {"epoch": ',
        b'{"epoch": ' + b"9" * 5000 + b"}",
        b"[" * 50_000,
        b"\0" * 100,
        b"<img onerror=x>",
    ],
)
def test_a_damaged_line_is_skipped(line: bytes, run: runs.Run) -> None:
    with (run.folder / "metrics.jsonl").open("ab") as file:
        file.write(line + b"\n" + b'{"epoch": 9}\n')
    assert [row["epoch"] for row in run.metrics()] == [1, 2, 9]


def test_reading_in_pieces_gives_what_reading_at_once_gives(run: runs.Run) -> None:
    rng = random.Random(0)
    written = [{"epoch": step, "loss": rng.random(), "name": "ä\u2028"} for step in range(200)]
    text = b"".join(json.dumps(row, ensure_ascii=rng.random() < 0.5).encode() + b"\n" for row in written)
    text += b'{"epoch": 150, "loss": 0.5}\nrubbish\n{"epoch": 151, "loss": 0.25}\n{"epoch": 15'
    path = run.folder / "steps.jsonl"
    for _ in range(5):
        path.unlink(missing_ok=True)
        cuts = sorted(rng.sample(range(1, len(text)), 40))
        for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
            with path.open("ab") as file:
                file.write(text[begin:end])
            assert run.steps() == naive(text[:end], "epoch")
    assert [row["epoch"] for row in run.steps()[-3:]] == [149, 150, 151]


def test_a_file_that_was_replaced_or_cut_is_read_anew(run: runs.Run) -> None:
    path = run.folder / "metrics.jsonl"
    assert len(run.metrics()) == 2
    whole = path.read_bytes()
    path.write_bytes(whole.splitlines(keepends=True)[0])  # shorter
    assert len(run.metrics()) == 1
    path.with_name("new").write_bytes(whole)  # another file under the name
    os.replace(path.with_name("new"), path)
    assert len(run.metrics()) == 2
    path.write_bytes(whole.replace(b"4.0", b"5.0") + b'{"epoch": 3}\n')  # the same file, longer, another content
    assert [row.get("loss") for row in run.metrics()] == [5.0, 3.5, None]
    rows = [b'{"epoch": %d, "loss": %d}\n' % (epoch, epoch) for epoch in range(9)]
    path.write_bytes(b"".join(rows))
    assert len(run.metrics()) == 9
    path.with_name("new").write_bytes(rows[0].replace(b"0}", b"7}") + b"".join(rows[1:]))  # another, with the same end
    os.replace(path.with_name("new"), path)
    assert run.metrics()[0]["loss"] == 7
    path.unlink()
    assert run.metrics() == []


def test_a_file_is_read_once_until_it_changes(run: runs.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[int] = []
    parse = metrics._parse
    monkeypatch.setattr(metrics, "_parse", lambda text, key: parsed.append(len(text)) or parse(text, key))
    run.metrics()
    run.metrics().clear()  # the list is the caller's own
    assert len(run.metrics()) == 2
    with (run.folder / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3}\n')
    assert len(run.metrics()) == len(run.metrics()) == 3
    assert len(parsed) == 2


def test_memory_of_metrics_is_bounded(run: runs.Run, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_cache", LRUCache(2))
    others = []
    for number in range(4):
        folder = runs.create({"name": f"r{number}"}, root)
        (folder / "metrics.jsonl").write_bytes((run.folder / "metrics.jsonl").read_bytes())
        others.append(runs.find(folder.name, root))
    for _ in range(2):
        assert [len(other.metrics()) for other in others] == [2] * 4
    assert len(metrics._cache) == 2
