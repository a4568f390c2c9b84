"""The short form of the survival benchmark: hostile images and weights, trainings that are killed while they save."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_everything_survives_the_short_form(tmp_path: Path) -> None:
    parts = ["images", "weights", "kills"]
    command = [sys.executable, "scripts/benchmark.py", *(f"survival:{part}" for part in parts), "--short"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [*command, "--json", str(tmp_path / "found.json")], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())["results"]
    assert [result["part"] for result in found] == parts
    for result in found:
        assert result["tried"] > 0
        assert (result["lost"], result["faults"]) == (0, []), done.stdout
        assert result["survived"] == result["tried"]
    assert 0 < found[0]["peak_mib"] < 600
