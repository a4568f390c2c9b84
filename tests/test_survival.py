"""The short form of the survival benchmark, and the exit status of its command."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.timeout(600)  # servers start one after another
@pytest.mark.parametrize("part", ["images", "weights", "checkpoints", "kills", "api", "sessions"])
def test_everything_survives_the_short_form(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files are read, and the servers work, in processes of their own."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    survival = import_module("benchmarks.survival")
    monkeypatch.setattr(survival, "SECONDS", 60.0)  # a goal for an idle machine; here it only ends what would not end
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    [result] = survival.survival((part,), short=True)
    assert result["part"] == part
    assert (result["lost"], result["faults"]) == (0, [])
    assert result["survived"] == result["tried"] > 0
    if part in ("images", "api", "sessions"):
        assert 0 < result["peak_mib"] < 1200


@pytest.mark.parametrize("lost", [True, False])
def test_the_command_fails_if_something_was_lost(
    lost: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    benchmark = import_module("benchmark")

    def kills(result: Any, count: int) -> Any:
        result.add(not lost, fault="an epoch is gone" if lost else "")
        return result

    monkeypatch.setattr(benchmark.survival.kills, "kills", kills)
    monkeypatch.setattr(benchmark, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(benchmark.torch, "set_num_threads", lambda count: None)
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "survival:kills", "--short"])
    with pytest.raises(SystemExit) if lost else nullcontext() as ended:
        benchmark.main()
    assert f"1 tried, {1 - lost} survived, {int(lost)} lost" in capsys.readouterr().out
    assert ended is None or ended.value.code == 1
