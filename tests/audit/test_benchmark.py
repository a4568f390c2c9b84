"""The benchmark of the audit goes on where it was stopped, and its table is of what has been run."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    monkeypatch.setenv("SWIN_CACHE_ROOT", str(tmp_path))
    from benchmarks import audit

    return audit


def result(benchmark: ModuleType, name: str, number: int) -> dict[str, Any]:
    """What a case would return; every third one misses its mark, every second clean model has a finding."""
    _, classes, _ = benchmark.CASES[name]
    planted, found = len(classes) == 1, number % 3 > 0
    first = [{"what": f"finding {number}", "flips": [0.9, 0.1], "drops": [0.5, 0.0]}] if found else []
    values = {
        "case": name,
        "mark": benchmark.CASES[name][0],
        "classes": len(classes),
        "turned": [0.8, 0.1] if planted else None,
        "tested": 30,
        "found": planted and found,
        "alarm": not planted and number % 2 == 0,
        "iou": number / 100 if planted and found else None,
        "first": first,
        "cpu_seconds": number,
    }
    return values | (
        {"worst_before": 0.1, "worst_after": 0.1 + number / 100, "mean_before": 0.5, "mean_after": 0.4}
        if planted and found
        else {}
    )


def test_a_second_start_goes_on(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = list(benchmark.CASES)
    assert len(names) == 27
    run: list[str] = []

    def case(name: str, *_: object) -> dict[str, Any]:
        if len(run) == 10 and name != run[-1]:
            run.append(name)
            raise KeyboardInterrupt
        run.append(name)
        return result(benchmark, name, names.index(name))

    monkeypatch.setattr(benchmark, "_case", case)
    with pytest.raises(KeyboardInterrupt):
        benchmark.audit(False)
    assert "10 of 27 cases have been run" in capsys.readouterr().out
    results = benchmark.audit(False)
    assert run == [*names[:11], names[10], *names[11:]]  # the one that was stopped runs again, the others do not
    assert [each["case"] for each in results] == names
    assert benchmark.audit(False) == results
    assert len(run) == 28

    lines = capsys.readouterr().out.splitlines()[-7:]
    planted = [each for each in results if each["classes"] == 1]
    missed = [each["case"] for each in planted if not each["found"]]
    assert "27 of 27 cases have been run" in lines[1]
    assert f"{16 - len(missed)} of 16 planted shortcuts" in lines[2]
    assert lines[2].endswith(f"missed: {', '.join(missed)}")
    assert f"{sum(each['alarm'] for each in results)} of 11 clean or useless-mark models" in lines[3]
    placed = ("date", "line", "square", "logo", "frame")
    # A mark with a place that was missed counts 0.
    ious = np.array([each["iou"] or 0.0 for each in planted if each["mark"] in placed])
    assert f"median IoU {np.sort(ious)[[(len(ious) - 1) // 2, len(ious) // 2]].mean():.2f}" in lines[6]
