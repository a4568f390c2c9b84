"""The benchmark of the audit: it goes on where it was stopped, measures held-out images, and sums up what was run."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from swin_core import Classifier
from swin_core.audit import results
from swin_core.audit.bench import Estimate
from swin_core.data.dataset import DataSet
from swin_core.data.registry import splits

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
    before, after = ([[low, 0.5, 0.5, 0.5, 0.9], [0.8, 0.9, 0.9, 0.9, 0.9]] for low in (0.1, 0.1 + number / 100))
    return values | ({"before": before, "after": after} if planted and found else {})


def test_a_second_start_goes_on(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = list(benchmark.CASES)
    assert len(names) == 40
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
    assert "10 of 40 cases have been run" in capsys.readouterr().out
    results = benchmark.audit(False)
    assert run == [*names[:11], names[10], *names[11:]]  # the one that was stopped runs again, the others do not
    assert [each["case"] for each in results] == names
    assert benchmark.audit(False) == results
    assert len(run) == 41

    lines = capsys.readouterr().out.splitlines()[-8:]
    planted = [each for each in results if each["classes"] == 1]
    missed = [each["case"] for each in planted if not each["found"]]
    assert "40 of 40 cases have been run" in lines[1]
    assert f"{20 - len(missed)} of 20 planted shortcuts" in lines[2]
    assert lines[2].endswith(f"missed: {', '.join(missed)}")
    assert f"{sum(each['alarm'] for each in results)} of 20 clean or useless-mark models" in lines[3]
    placed = ("date", "line", "square", "logo", "frame")
    # A mark with a place that was missed counts 0.
    ious = np.array([each["iou"] or 0.0 for each in planted if each["mark"] in placed])
    gains = [each for each in planted if each["found"]]
    points = ", ".join(f"{names.index(each['case']):+d}" for each in gains)  # of the worst group; the table sorts them
    assert f"adds to the worst group: {points}; median" in lines[4]
    assert lines[6].endswith(f": {', '.join(['+0'] * len(gains))}; median +0")
    assert f"median IoU {np.sort(ious)[[(len(ious) - 1) // 2, len(ious) // 2]].mean():.2f}" in lines[7]


class Rule(nn.Module):
    """The class by the grey level of the image, or tulips if the lower right corner is red and counts."""

    def __init__(self, looks: bool) -> None:
        super().__init__()
        self.looks = looks

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        levels = images[:, 2, :20, :20].mean((1, 2))
        logits = -100 * (levels[:, None] - torch.arange(5) / 5).abs()
        red = (images[:, 0] - images[:, 1])[:, -5:, -5:].mean((1, 2)) > 0.5
        logits[:, 4] += 1000 * (red & self.looks)
        return logits


def test_a_case_is_measured_on_held_out_images(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for level, name in enumerate(benchmark.CLASSES):
        (tmp_path / "data" / "flower_photos" / name).mkdir(parents=True)
        for number in range(10):
            image = Image.new("RGB", (80, 70), (51 * level,) * 3)
            image.save(tmp_path / "data" / "flower_photos" / name / f"{number}.png")
    monkeypatch.setenv("SWIN_DATA_ROOT", str(tmp_path / "data"))
    share = Estimate(1.0, 1.0, 1.0)
    mark = results.Tested("tulips", "place", (0.75, 0.75, 1.0, 1.0), False, 5.0, 30, share, share, share, of_images=8)
    trained: list[tuple[str, tuple[str, ...]]] = []
    audited: list[int] = []

    def train(run: Path, images: Path, epochs: int, seed: int, *options: str) -> None:
        if len(trained) == 1:
            trained.append(("stopped", options))
            raise KeyboardInterrupt
        trained.append((run.name, options))
        run.mkdir()

    def audit(classifier: Classifier, dataset: DataSet, root: Path) -> results.Audit:
        audited.append(len(dataset))
        return results.Audit("run", dataset.name, "all", len(dataset), (), (mark,), (), {}, None)

    def load(name: str) -> Classifier:
        return Classifier(Rule("repaired" not in name), benchmark.CLASSES, 0.0, 1.0, 64, name=name)

    monkeypatch.setattr(benchmark, "_train", train)
    monkeypatch.setattr(benchmark, "run_audit", audit)
    monkeypatch.setattr(benchmark, "load", load)
    monkeypatch.setattr(benchmark, "named_split", lambda run, images, split: splits(images, 0.2, 3)[1])
    with pytest.raises(KeyboardInterrupt):
        benchmark._case("square", tmp_path / "square", 10, 1)
    found = benchmark._case("square", tmp_path / "square", 10, 1)
    assert [name for name, _ in trained] == ["run", "stopped", "repaired"]  # the first model is not trained again
    assert trained[2][1][0] == "--without"
    assert audited == [50, 50]
    assert (found["found"], found["held_out"], found["turned"]) == (True, 10, [1.0, 0.0])
    assert found["before"] == [[0, 0, 0, 0, 1], [1] * 5]
    assert found["after"] == [[1] * 5, [1] * 5]
    assert benchmark._accuracies(found["before"]) == (0.0, 0.6, 1.0)  # worst group, mean, mean without the mark
