"""Reports: the JSON computes again and is read with suspicion; the page holds all and loads nothing."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import swin_core
from swin_core.attribution.explanation import Explanation
from swin_core.attribution.methods import METHODS
from swin_core.attribution.stages import explain_stages
from swin_core.commands import explain as script
from swin_core.comparisons.compare import STAGES, ExplainSettings, Missing, compare
from swin_core.errors import ConfigError, ReportError
from swin_core.figures import report_json as report
from swin_core.figures.files import encode, save
from swin_core.figures.grid import Cell, Grid, Row
from swin_core.figures.report_json import checksum
from swin_core.reports import read as report_reading
from swin_core.reports.read import read_report
from swin_core.reports.reproduce import EQUAL, find_models, reproduce
from tests.fixtures.reports import drawn, picture, small_classifier, with_trust

__all__ = ["drawn", "small_classifier"]

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).resolve().parents[2]
BUNDLED = "swin_micro_cifar100"  # the quick one


def again(drawn: Grid, folder: Path, *models: swin_core.Classifier) -> list[str]:
    """What comes of each cell when the grid is written as JSON, read, and computed again."""
    save(drawn, folder / "report.json")
    read = read_report(folder / "report.json")
    found = reproduce(read, {model.weights_hash: model for model in models})
    assert found.equal == all(result.text == EQUAL for result in found.results)
    assert found.changed == ()
    return [result.text for result in found.results]


# -- computed again


@pytest.mark.parametrize("method", list(METHODS))
def test_every_method_comes_out_equal(small_classifier: swin_core.Classifier, tmp_path: Path, method: str) -> None:
    drawn = compare([("a.png", picture())], [small_classifier], settings=ExplainSettings(method))
    assert again(drawn, tmp_path, small_classifier) == [EQUAL]


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
def test_layers_fusion_and_contrast_come_out_equal(
    small_classifier: swin_core.Classifier, tmp_path: Path, settings: ExplainSettings
) -> None:
    pictures = [("a.png", picture()), ("b.png", picture(1, (40, 90)))]
    drawn = compare(pictures, [small_classifier], ["roses", "daisy"], settings=settings)
    words = again(drawn, tmp_path, small_classifier)
    assert len(words) == sum(cell.map is not None for row in drawn.rows for cell in row.cells) >= 2
    assert set(words) == {EQUAL}


@pytest.mark.parametrize("method", ["relevance", "gradcam"])
def test_several_classes_and_stages_of_one_call_come_out_equal(
    small_classifier: swin_core.Classifier, tmp_path: Path, method: str
) -> None:
    image = picture()
    found = explain_stages(small_classifier, image, ["roses", "tulips"], method)
    cells = [Cell(found, target, layer) for target in range(2) for layer in range(len(found.layers))]
    drawn = Grid((Row("a", np.asarray(image), cells, image=image),), tuple(map(str, range(len(cells)))))
    assert set(again(drawn, tmp_path, small_classifier)) == {EQUAL}


def test_trust_comes_out_equal(small_classifier: swin_core.Classifier, tmp_path: Path, drawn: Grid) -> None:
    measured = with_trust(drawn, small_classifier)
    assert b'"curves"' in encode(measured, "json")
    assert again(measured, tmp_path, small_classifier) == [EQUAL]


def test_what_differs_is_told_with_its_size(
    small_classifier: swin_core.Classifier, tmp_path: Path, drawn: Grid
) -> None:
    cell = drawn.rows[0].cells[0]
    found, trust = cell.explanation, with_trust(drawn, small_classifier).rows[0].cells[0].trust
    assert isinstance(found, Explanation)
    assert trust is not None
    maps, logits = found.maps.copy(), found.logits.copy()
    maps[0, 0, 0, 0] = np.float32(maps[0, 0, 0, 0] + 0.002 * np.abs(maps).max())
    logits[1] += np.float32(0.25)
    for changed, words in (
        (replace(cell, explanation=replace(found, maps=maps)), "map by up to"),
        (replace(cell, explanation=replace(found, logits=logits)), "logits by up to 0.25"),
        (replace(cell, explanation=replace(found, maps=maps[..., :-1])), "map of another shape"),
        (replace(cell, trust=replace(trust, srg=trust.srg + 0.5)), "trust by up to 0.5"),
    ):
        one = replace(drawn, rows=(replace(drawn.rows[0], cells=[changed]),))
        (said,) = again(one, tmp_path, small_classifier)
        assert words in said
    slightly = replace(found, maps=found.maps * np.float32(1.0005), logits=found.logits + np.float32(1e-6))
    one = replace(drawn, rows=(replace(drawn.rows[0], cells=[replace(cell, explanation=slightly)]),))
    assert again(one, tmp_path, small_classifier) == [EQUAL]


def test_cells_without_a_map_stay_as_they_are(small_classifier: swin_core.Classifier, tmp_path: Path) -> None:
    pictures = [("a.png", picture()), Missing("b.png", "b.png is empty")]
    drawn = compare(pictures, [small_classifier, Missing("gone", "there is no model gone")])
    assert again(drawn, tmp_path, small_classifier) == [EQUAL]


def test_numbers_that_are_not_finite_come_out_equal(small_classifier: swin_core.Classifier, drawn: Grid) -> None:
    found = drawn.rows[0].cells[0].explanation
    assert isinstance(found, Explanation)
    maps = found.maps.copy()
    maps[0, 0, 0, :2] = np.nan, -0.0
    broken = replace(drawn.rows[0].cells[0], explanation=replace(found, maps=maps))
    one = replace(drawn, rows=(replace(drawn.rows[0], cells=[broken]),))
    saved = json.loads(encode(one, "json"))["rows"][0]["cells"][0]["map"]
    assert saved[0][0] is None
    assert str(saved[0][1]) == "-0.0"


def test_a_fresh_program_with_other_threads_gives_equal_maps(tmp_path: Path, samples: dict[str, Path]) -> None:
    """Two programs: the first draws with trust's figures left out, the second computes again on one thread."""
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


# -- models that are missing or others


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, Path]:
    """A report of a run's weights, and the runs' folder."""
    run = tmp_path / "runs" / "20260102-030405-mine"
    run.mkdir(parents=True)
    save_model(run / "model.safetensors", 0)
    drawn = compare([("a.png", picture())], [swin_core.load(run.name, runs_root=run.parent)])
    save(drawn, tmp_path / "report.json")
    return tmp_path / "report.json", run.parent


def save_model(file: Path, seed: int) -> None:
    torch.manual_seed(seed)
    model = swin_core.build("swin_micro", num_classes=3, image_size=32)
    described = {"labels": ["a", "b", "c"], "image_size": 32, "mean": [0.5] * 3, "std": [0.5] * 3}
    swin_core.save_weights(model, file, described)


def call(report_file: Path, root: Path, *more: str) -> int:
    return script.main(["--from", str(report_file), "--runs-root", str(root), *more])


def test_a_run_is_found_by_its_name(saved: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*saved) == 0
    assert EQUAL in capsys.readouterr().out


def test_other_weights_of_the_same_name_are_refused(
    saved: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(saved[1] / "20260102-030405-mine" / "model.safetensors", 1)
    assert call(*saved) == 1
    said = capsys.readouterr()
    assert "other weights than the report" in said.err
    assert (said.err.count("\n"), said.out) == (1, "")


def test_weights_elsewhere_are_named_by_the_user_only(
    saved: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "elsewhere.safetensors"
    (saved[1] / "20260102-030405-mine" / "model.safetensors").rename(weights)
    assert call(*saved) == 1
    assert "--models" in capsys.readouterr().err
    assert call(*saved, "--models", str(weights)) == 0
    # A path in the report is not followed, even where its weights are the right ones.
    monkeypatch.chdir(tmp_path)
    for name in (str(weights), "elsewhere.safetensors", "../" + tmp_path.name + "/elsewhere.safetensors", "a\0b", ""):
        edit(saved[0], lambda content, name=name: cell_of(content).update(model=name))
        assert call(*saved) == 1
        said = capsys.readouterr().err
        assert "--models" in said
        assert said.count("\n") == 1


def test_what_the_report_holds_cannot_be_given_again(capsys: pytest.CaptureFixture[str]) -> None:
    for more in (["a.png"], ["--method", "gradcam"], ["--opacity", "0.1"]):
        with pytest.raises(SystemExit):
            script.main(["--from", "report.json", *more])
        assert "in the report" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        script.main(["a.png", "--models", BUNDLED])
    assert "--out" in capsys.readouterr().err


# -- damaged files


def cell_of(content: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = content["rows"][0]["cells"][0]
    return found


def edit(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a report and seal it anew, as an attacker would."""
    content = json.loads(file.read_text())
    change(content)
    content["sha256"] = checksum(content)
    file.write_text(json.dumps(content))


def png(size: tuple[int, int]) -> str:
    stream = io.BytesIO()
    Image.new("1", size).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


DAMAGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "no rows": lambda content: content.update(rows=[]),
    "rows of another type": lambda content: content.update(rows={"a": 1}),
    "a row of another type": lambda content: content.update(rows=[7]),
    "too few cells": lambda content: content["rows"][0].update(cells=[]),
    "too many columns": lambda content: content.update(columns=["a"] * 10_000),
    "another format": lambda content: content.update(format=2),
    "a format that only seems right": lambda content: content.update(format=True),
    "another program": lambda content: content.update(program="other"),
    "a negative image": lambda content: content["rows"][0].update(picture=-1),
    "an image that is not there": lambda content: content["rows"][0].update(picture=3),
    "an image that is none": lambda content: content.update(pictures=["AAAA"]),
    "an image that is no base64": lambda content: content.update(pictures=["***"]),
    "an image that is a number": lambda content: content.update(pictures=[5]),
    "an image of 400 megapixels": lambda content: content.update(pictures=[png((20_000, 20_000))]),
    "images that are too large together": lambda content: content.update(pictures=[png((9_000, 9_000))] * 3),
    "an unknown method": lambda content: cell_of(content).update(method="magic"),
    "a method of another type": lambda content: cell_of(content).update(method=["gradcam"]),
    "no hash": lambda content: cell_of(content).update(weights_hash="../../etc"),
    "a map of text": lambda content: cell_of(content).update(map=[["a"]]),
    "a map that is no rectangle": lambda content: cell_of(content).update(map=[[1.0], [1.0, 2.0]]),
    "a map without places": lambda content: cell_of(content).update(map=[[]]),
    "a map of huge numbers": lambda content: cell_of(content).update(map=[[10**400]]),
    "a map of lists": lambda content: cell_of(content).update(map=[[[1.0]]]),
    "no logits": lambda content: cell_of(content).pop("logits"),
    "no call": lambda content: cell_of(content).pop("call"),
    "a target that is no class": lambda content: cell_of(content)["call"].update(targets=[-1]),
    "a target of another type": lambda content: cell_of(content)["call"].update(targets=["0"]),
    "a place outside": lambda content: cell_of(content)["call"].update(place=[5, 0]),
    "classes to compare that do not fit": lambda content: cell_of(content)["call"].update(against=[1, 2]),
    "an opacity outside": lambda content: content["settings"].update(opacity=7),
    "an unknown colour map": lambda content: content["settings"].update(colormap="jet"),
    "trust that is a list": lambda content: cell_of(content).update(trust=[1]),
    "a title without end": lambda content: content["rows"][0].update(title="x" * 10**6),
}


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_a_damaged_report_is_refused_in_one_line(
    drawn: Grid, tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "report.json"
    save(drawn, file)
    edit(file, DAMAGES[damage])
    assert call(file, tmp_path) == 1
    said = capsys.readouterr()
    assert said.err.startswith("swinlens explain: ")
    assert (said.err.count("\n"), said.out) == (1, "")
    assert len(said.err) < 400


def test_a_report_that_is_cut_edited_or_no_report_is_refused(drawn: Grid, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    content = encode(drawn, "json")
    for length in (0, 1, 40, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:length])
        with pytest.raises(ReportError, match="not JSON"):
            read_report(file)
    digit = re.search(rb"0\.\d{5}(\d)", content)
    assert digit is not None
    place = digit.start(1)
    file.write_bytes(content[:place] + bytes([48 + (content[place] - 47) % 10]) + content[place + 1 :])
    with pytest.raises(ReportError, match="checksum"):
        read_report(file)
    for odd in (b"[" * 100_000, b"null", b"[]", b'{"program": "SwinLens", "format": NaN}', b"\xff\xfe", b"9" * 5000):
        file.write_bytes(odd)
        with pytest.raises(ReportError):
            read_report(file)
    for place_of in (tmp_path, tmp_path / "gone.json", Path("a\0b")):
        with pytest.raises(ReportError):
            read_report(place_of)


def test_random_bytes_in_a_report_never_end_in_a_traceback(drawn: Grid, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    content = bytearray(encode(drawn, "json"))
    draw = np.random.default_rng(0)
    for _ in range(60):
        broken = bytearray(content)
        for place in draw.integers(0, len(broken), 3):
            broken[place] = draw.integers(0, 256)
        file.write_bytes(bytes(broken))
        if broken != content:
            with pytest.raises(ReportError):
                read_report(file)


def test_a_report_that_is_too_large_is_neither_written_nor_read(
    drawn: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = encode(drawn, "json")
    (tmp_path / "report.json").write_bytes(content)
    monkeypatch.setattr(report, "BYTES_AT_MOST", len(content) - 1)
    monkeypatch.setattr(report_reading, "BYTES_AT_MOST", len(content) - 1)
    with pytest.raises(ConfigError, match="MiB"):
        encode(drawn, "json")
    with pytest.raises(ReportError, match="MiB"):
        read_report(tmp_path / "report.json")
    monkeypatch.setattr(report, "PIXELS_AT_MOST", 70 * 60 - 1)
    with pytest.raises(ConfigError, match="pixels"):
        encode(drawn, "json")


def test_a_report_finds_its_models_once(small_classifier: swin_core.Classifier, tmp_path: Path, drawn: Grid) -> None:
    save(drawn, tmp_path / "report.json")
    with pytest.raises(ReportError, match="small"):
        find_models(read_report(tmp_path / "report.json"), runs_root=tmp_path)
