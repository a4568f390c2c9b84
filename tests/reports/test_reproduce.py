"""`reproduce`: equal results for every method and setting, differences, and models that are missing or others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import swin_core
from swin_core.attribution.explanation import Explanation
from swin_core.attribution.methods import METHODS
from swin_core.attribution.stages import explain_stages
from swin_core.attribution.strokes import parse_strokes
from swin_core.attribution.what_if import Edit
from swin_core.commands import explain as script
from swin_core.comparisons.compare import STAGES, ExplainSettings, Missing, center_square, compare
from swin_core.errors import ReportError
from swin_core.figures.files import encode, save
from swin_core.figures.grid import Cell, Grid, Row
from swin_core.figures.report_json import checksum
from swin_core.reports.read import read_report
from swin_core.reports.reproduce import EQUAL, find_models, reproduce
from tests.fixtures.reports import drawn, noise_image, small_classifier, with_trust

__all__ = ["drawn", "small_classifier"]

pytestmark = pytest.mark.usefixtures("one_thread", "few_masks")

ROOT = Path(__file__).resolve().parents[2]
BUNDLED = "swin_micro_cifar100"  # the quick one


def results_of(drawn: Grid, folder: Path, *models: swin_core.Classifier) -> list[str]:
    """Write the grid as JSON, read it, compute it again, and return the result of each cell."""
    save(drawn, folder / "report.json")
    read = read_report(folder / "report.json")
    reproduction = reproduce(read, {model.weights_hash: model for model in models})
    assert reproduction.equal == all(result.text == EQUAL for result in reproduction.results)
    assert reproduction.changed == ()
    return [result.text for result in reproduction.results]


# -- computed again


@pytest.mark.parametrize("method", list(METHODS))
def test_every_method_is_equal(small_classifier: swin_core.Classifier, tmp_path: Path, method: str) -> None:
    drawn = compare([("a.png", noise_image())], [small_classifier], settings=ExplainSettings(method))
    assert results_of(drawn, tmp_path, small_classifier) == [EQUAL]


@pytest.mark.parametrize(
    "settings",
    [
        ExplainSettings(),
        ExplainSettings("layercam", (STAGES,)),
        ExplainSettings("gradcam", ("norm", "layers.1"), fuse="mean"),
        ExplainSettings("gradcam", ("norm", "layers.1"), "runner-up"),
        ExplainSettings("relevance", against="tulips"),
    ],
)
def test_layers_fusion_and_contrast_are_equal(
    small_classifier: swin_core.Classifier, tmp_path: Path, settings: ExplainSettings
) -> None:
    pictures = [("a.png", noise_image()), ("b.png", noise_image(1, (40, 90)))]
    drawn = compare(pictures, [small_classifier], ["roses", "daisy"], settings=settings)
    words = results_of(drawn, tmp_path, small_classifier)
    assert len(words) == sum(cell.map is not None for row in drawn.rows for cell in row.cells) >= 2
    assert set(words) == {EQUAL}


@pytest.mark.parametrize("method", ["relevance", "gradcam"])
def test_several_classes_and_stages_of_one_call_are_equal(
    small_classifier: swin_core.Classifier, tmp_path: Path, method: str
) -> None:
    image = noise_image()
    explanation = explain_stages(small_classifier, image, ["roses", "tulips"], method)
    cells = [Cell(explanation, target, layer) for target in range(2) for layer in range(len(explanation.layers))]
    drawn = Grid((Row("a", np.asarray(image), cells, image=image),), tuple(map(str, range(len(cells)))))
    assert set(results_of(drawn, tmp_path, small_classifier)) == {EQUAL}


@pytest.mark.parametrize("keep", [False, True])
def test_a_replaced_region_is_replaced_again(
    small_classifier: swin_core.Classifier, tmp_path: Path, keep: bool
) -> None:
    text, image = "b300-500.500-700.600_r-100.100-300.400", noise_image()
    edit = Edit(parse_strokes(text), "mean", keep)
    settings = ExplainSettings("gradcam", edit=edit, against="runner-up")
    drawn = compare([("a.png", image)], [small_classifier], settings=settings)
    assert results_of(drawn, tmp_path, small_classifier) == [EQUAL]
    again = reproduce(read_report(tmp_path / "report.json"), {small_classifier.weights_hash: small_classifier}).grid
    expected = swin_core.what_if(
        small_classifier, image, text, method="gradcam", fill="mean", keep=keep, against="runner-up"
    )
    for grid in (drawn, again):
        (row,) = grid.rows
        (cell,) = row.cells
        assert cell.explanation is not None
        assert np.array_equal(cell.explanation.maps, expected.after.maps)
        assert cell.change == pytest.approx(float(expected.change[0]), abs=1e-5)
        assert row.edit == edit
        assert np.array_equal(np.asarray(row.image), np.asarray(image))  # the original, from which it is made again
        assert np.array_equal(row.thumbnail, center_square(expected.image))
        assert f"logit {cell.change:+.2f}" in grid.caption(row, cell).notes[0]
    assert str(edit) in encode(drawn, "html").decode()


def test_a_region_that_is_no_strokes_is_refused(drawn: Grid, tmp_path: Path) -> None:
    report = json.loads(encode(drawn, "json"))
    report["rows"][0]["edit"] = {"strokes": "x", "fill": "blur", "keep": False}
    (tmp_path / "report.json").write_text(json.dumps(report | {"sha256": checksum(report)}))
    with pytest.raises(ReportError, match=r"is damaged: rows\.0\.edit: Value error, a region is written as strokes"):
        read_report(tmp_path / "report.json")


def test_trust_is_equal(small_classifier: swin_core.Classifier, tmp_path: Path, drawn: Grid) -> None:
    measured = with_trust(drawn, small_classifier)
    assert b'"curves"' in encode(measured, "json")
    assert results_of(measured, tmp_path, small_classifier) == [EQUAL]


def test_differences_are_reported_with_their_size(
    small_classifier: swin_core.Classifier, tmp_path: Path, drawn: Grid
) -> None:
    cell = drawn.rows[0].cells[0]
    explanation, trust = cell.explanation, with_trust(drawn, small_classifier).rows[0].cells[0].trust
    assert isinstance(explanation, Explanation)
    assert trust is not None
    maps, logits = explanation.maps.copy(), explanation.logits.copy()
    maps[0, 0, 0, 0] = np.float32(maps[0, 0, 0, 0] + 0.002 * np.abs(maps).max())
    logits[1] += np.float32(0.25)
    for changed, words in (
        (replace(cell, explanation=replace(explanation, maps=maps)), "map by up to"),
        (replace(cell, explanation=replace(explanation, logits=logits)), "logits by up to 0.25"),
        (replace(cell, explanation=replace(explanation, maps=maps[..., :-1])), "map of another shape"),
        (replace(cell, trust=replace(trust, srg=trust.srg + 0.5)), "trust by up to 0.5"),
    ):
        one = replace(drawn, rows=(replace(drawn.rows[0], cells=[changed]),))
        (said,) = results_of(one, tmp_path, small_classifier)
        assert words in said
    slightly = replace(
        explanation, maps=explanation.maps * np.float32(1.0005), logits=explanation.logits + np.float32(1e-6)
    )
    one = replace(drawn, rows=(replace(drawn.rows[0], cells=[replace(cell, explanation=slightly)]),))
    assert results_of(one, tmp_path, small_classifier) == [EQUAL]


def test_cells_without_a_map_stay_as_they_are(small_classifier: swin_core.Classifier, tmp_path: Path) -> None:
    images: list[tuple[str, Image.Image] | Missing] = [("a.png", noise_image()), Missing("b.png", "b.png is empty")]
    drawn = compare(images, [small_classifier, Missing("gone", "there is no model gone")])
    assert results_of(drawn, tmp_path, small_classifier) == [EQUAL]


def test_values_that_are_not_finite_become_null(small_classifier: swin_core.Classifier, drawn: Grid) -> None:
    explanation = drawn.rows[0].cells[0].explanation
    assert isinstance(explanation, Explanation)
    maps = explanation.maps.copy()
    maps[0, 0, 0, :2] = np.nan, -0.0
    broken = replace(drawn.rows[0].cells[0], explanation=replace(explanation, maps=maps))
    one = replace(drawn, rows=(replace(drawn.rows[0], cells=[broken]),))
    saved = json.loads(encode(one, "json"))["rows"][0]["cells"][0]["map"]
    assert saved[0][0] is None
    assert str(saved[0][1]) == "-0.0"


def test_a_fresh_program_with_other_threads_gives_equal_maps(tmp_path: Path, samples: dict[str, Path]) -> None:
    """The report is written in this program, and computed again in another one with two threads."""
    made = compare(
        [("tulip.jpg", swin_core.read_image(samples["tulip"]))],
        [swin_core.load(BUNDLED)],
        ["tulip", "rose"],
        settings=ExplainSettings("gradcam"),
    )
    save(made, tmp_path / "report.json")
    done = shell("--from", str(tmp_path / "report.json"), "--out", str(tmp_path / "again.json"), threads=2)
    assert done.returncode == 0, done.stderr + done.stdout
    assert f"tulip.jpg: rose, {BUNDLED}: {EQUAL}" in done.stdout
    assert "2 of 2 cells are equal" in done.stdout


def shell(*arguments: str, threads: int = 1) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "explain.py"), *arguments],
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


# -- models


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, Path]:
    """A report with a run's model, and the folder of the runs."""
    run = tmp_path / "runs" / "20260102-030405-mine"
    run.mkdir(parents=True)
    save_model(run / "model.safetensors", 0)
    drawn = compare([("a.png", noise_image())], [swin_core.load(run.name, runs_root=run.parent)])
    save(drawn, tmp_path / "report.json")
    return tmp_path / "report.json", run.parent


def save_model(file: Path, seed: int) -> None:
    torch.manual_seed(seed)
    model = swin_core.build("swin_micro", num_classes=3, image_size=32)
    described = {"labels": ["a", "b", "c"], "image_size": 32, "mean": [0.5] * 3, "std": [0.5] * 3}
    swin_core.save_weights(model, file, described)


def rename_model(file: Path, name: str) -> None:
    """Change the model's name in a report and renew its checksum."""
    content = json.loads(file.read_text())
    content["rows"][0]["cells"][0]["model"] = name
    content["sha256"] = checksum(content)
    file.write_text(json.dumps(content))


def call(report_file: Path, root: Path, *more: str) -> int:
    return script.main(["--from", str(report_file), "--runs-root", str(root), *more])


def test_a_run_is_found_by_its_name(saved: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*saved) == 0
    assert EQUAL in capsys.readouterr().out


def test_other_weights_of_the_same_name_are_rejected(
    saved: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(saved[1] / "20260102-030405-mine" / "model.safetensors", 1)
    assert call(*saved) == 1
    said = capsys.readouterr()
    assert "other weights than the report" in said.err
    assert (said.err.count("\n"), said.out) == (1, "")


def test_paths_in_a_report_are_not_followed(
    saved: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "elsewhere.safetensors"
    (saved[1] / "20260102-030405-mine" / "model.safetensors").rename(weights)
    assert call(*saved) == 1
    assert "--models" in capsys.readouterr().err
    assert call(*saved, "--models", str(weights)) == 0
    # A path in the report is not followed, even if its weights are the right ones.
    monkeypatch.chdir(tmp_path)
    for name in (str(weights), "elsewhere.safetensors", "../" + tmp_path.name + "/elsewhere.safetensors", "a\0b", ""):
        rename_model(saved[0], name)
        assert call(*saved) == 1
        said = capsys.readouterr().err
        assert "--models" in said
        assert said.count("\n") == 1


def test_settings_of_the_report_cannot_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    for more in (["a.png"], ["--method", "gradcam"], ["--opacity", "0.1"]):
        with pytest.raises(SystemExit):
            script.main(["--from", "report.json", *more])
        assert "in the report" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        script.main(["a.png", "--models", BUNDLED])
    assert "--out" in capsys.readouterr().err


def test_an_unknown_model_is_named(small_classifier: swin_core.Classifier, tmp_path: Path, drawn: Grid) -> None:
    save(drawn, tmp_path / "report.json")
    with pytest.raises(ReportError, match="small"):
        find_models(read_report(tmp_path / "report.json"), runs_root=tmp_path)
