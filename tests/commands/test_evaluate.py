"""`swinlens evaluate --calibration --corruptions`: what it prints and writes beside the metrics."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from swin_core.audit.kept import write_audit
from swin_core.audit.maps import audit_folder
from swin_core.audit.results import Audit
from swin_core.commands import evaluate as command
from swin_core.data.folders import image_folder
from swin_core.evaluation import corruptions
from swin_core.evaluation.calibration import expected_calibration_error
from swin_core.zoo.load import load
from tests.figures.test_audit_groups import finding
from tests.fixtures.audit import CLASSES, write_images

pytestmark = pytest.mark.usefixtures("one_thread")


def test_it_prints_and_writes_calibration_and_corruptions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SWIN_CACHE_ROOT", str(tmp_path / "cache"))
    monkeypatch.setattr(corruptions, "STRENGTHS", (1,))
    folder = write_images(tmp_path / "photos", 4)
    model = tmp_path / "corner.py"
    model.write_text("from tests.fixtures.audit import corner_model\n\ndef load():\n    return corner_model()\n")
    classifier, dataset = load(str(model)), image_folder(folder)
    marked = [name for name in dataset.names if name.startswith("marked")]
    audit = Audit("corner", "photos", "all", 12, (), (finding((0.8, 0.8, 1, 1), *marked),), (), {}, None)
    kept = audit_folder(classifier, dataset)
    kept.mkdir(parents=True)
    write_audit(audit, kept)

    given = [str(model), "--data", str(folder), "--calibration", "--corruptions", "--json", str(tmp_path / "out.json")]
    assert command.main(given) == 0
    written = json.loads((tmp_path / "out.json").read_text())
    chances = classifier.predict([dataset.image(row) for row in range(len(dataset))])
    right = chances.argmax(1) == dataset.labels
    expected = expected_calibration_error(chances.max(1), right)
    assert written["top1"] == pytest.approx(right.mean())
    assert written["calibration"]["error"]["value"] == pytest.approx(expected.value, abs=1e-5)
    groups = {group["name"]: group["count"] for group in written["calibration"]["groups"]}
    assert groups == {**dict.fromkeys(CLASSES, 4), "tulips: region at the lower right corner": 4}
    results = written["corruptions"]["results"]
    assert [each["corruption"] for each in results] == [None, *corruptions.CORRUPTIONS]
    assert results[0]["accuracy"] == pytest.approx(right.mean())
    np.testing.assert_allclose(results[0]["per_class"], [right[dataset.labels == label].mean() for label in range(3)])

    (shares,) = written["corruptions"]["findings"].values()
    assert shares[0] == pytest.approx(right[dataset.labels == dataset.classes.index("marked")].mean())
    assert len(shares) == len(results)

    printed = capsys.readouterr().out
    assert f"calibration error {expected.value:.2%}" in printed
    assert "4 images  tulips: region at the lower right corner" in printed
    assert f"brightness  {results[3]['accuracy']:7.2%}" in printed
    assert "finding tulips: region at the lower right corner: 100.0 % as they are" in printed


def test_without_the_options_the_output_is_that_of_an_evaluation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_images(tmp_path / "photos", 2)
    model = tmp_path / "corner.py"
    model.write_text("from tests.fixtures.audit import corner_model\n\ndef load():\n    return corner_model()\n")
    assert command.main([str(model), "--data", str(folder), "--json", str(tmp_path / "out.json")]) == 0
    assert "calibration" not in json.loads((tmp_path / "out.json").read_text())
    assert "calibration" not in capsys.readouterr().out
