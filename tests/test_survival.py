"""The short form of the survival benchmark, without its servers and trainings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("images", "weights", "checkpoints")
PROGRAM = f"""
import json
from benchmarks.survival import survival
if __name__ == "__main__":
    print(json.dumps(survival({PARTS!r}, short=True)))
"""


def test_everything_survives_the_short_form(tmp_path: Path) -> None:
    """Not by the command, whose other benchmarks take seconds to load."""
    (tmp_path / "short.py").write_text(PROGRAM)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT / "scripts")}
    done = subprocess.run(
        [sys.executable, str(tmp_path / "short.py")], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert [result["part"] for result in found] == list(PARTS)
    for result in found:
        assert (result["lost"], result["faults"]) == (0, []), done.stdout
        assert result["survived"] == result["tried"] > 0
    assert 0 < found[0]["peak_mib"] < 1200
