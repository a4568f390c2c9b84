"""The short form of the survival benchmark, and the exit status of its command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = """
import json, sys
from benchmarks import survival
survival.SECONDS = 60.0  # a goal for an idle machine; here it only ends what would not end
if __name__ == "__main__":
    print(json.dumps(survival.survival(tuple(sys.argv[1:]), short=True)))
"""


@pytest.mark.parametrize("parts", [("images", "weights", "checkpoints"), ("kills", "api", "sessions")])
def test_everything_survives_the_short_form(parts: tuple[str, ...], tmp_path: Path) -> None:
    """Not by the command, whose other benchmarks take seconds to load."""
    (tmp_path / "short.py").write_text(PROGRAM)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "TMPDIR": str(tmp_path),
        "PYTHONPATH": str(ROOT / "scripts"),
    }
    done = subprocess.run(
        [sys.executable, str(tmp_path / "short.py"), *parts], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert [result["part"] for result in found] == list(parts)
    for result in found:
        assert (result["lost"], result["faults"]) == (0, []), done.stdout
        assert result["survived"] == result["tried"] > 0
    assert all(0 < result["peak_mib"] < 1200 for result in found if result["part"] in ("images", "api", "sessions"))


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
