"""The script that checks a GPU, run on the CPU at a tiny size."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts import check_gpu


def test_all_lines_of_a_tiny_run_on_the_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "results.json"
    assert check_gpu.main(["--tiny", "--json", str(file)]) == 0
    lines = {line["what"]: line for line in json.loads(file.read_text())["results"]}
    checks = [line["passed"] for line in lines.values() if line["unit"] in ("", "nats")]
    assert checks == [True] * 10
    assert {f"Grad-CAM, Swin-T, classes: {count}" for count in (1, 4, 16)} <= set(lines)
    for kind in ("inference", "training"):
        rates = [lines[f"swin_tiny, {kind}, {name}"]["value"] for name in ("timm", "timm with fused attention")]
        ratio = lines[f"swin_tiny, {kind}, swinlens"]["value"] / max(rates)
        assert lines[f"swin_tiny, {kind} over the faster timm"]["value"] == pytest.approx(ratio)
    assert capsys.readouterr().out.count("\n") == len(lines) + 1


@pytest.mark.parametrize(("unit", "status"), [("nats", 1), ("times", 0)])
def test_a_failed_check_ends_with_1_and_a_missed_goal_does_not(
    monkeypatch: pytest.MonkeyPatch, unit: str, status: int
) -> None:
    part = iter([check_gpu.Line("it", 2.0, unit, False)])
    monkeypatch.setattr(check_gpu, "parts", lambda devices, sizes: iter([part]))
    assert check_gpu.main(["--tiny"]) == status


def test_a_part_that_fails_leaves_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing() -> Iterator[check_gpu.Line]:
        yield check_gpu.Line("first", 1.0, "ms")
        raise RuntimeError("out of memory")

    parts = [failing(), iter([check_gpu.Line("second", 2.0, "ms")])]
    monkeypatch.setattr(check_gpu, "parts", lambda devices, sizes: iter(parts))
    assert check_gpu.main(["--tiny"]) == 1
    said = capsys.readouterr().out
    assert "FAILED: RuntimeError: out of memory" in said
    assert "second" in said


def test_a_machine_without_a_gpu_is_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit):
        check_gpu.main([])
    assert "there is no GPU here" in capsys.readouterr().err
