"""`swinlens explain`: the grid that it draws, and its messages."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest

import swin_core
from swin_core.attribution.methods import NOT_OFFERED
from swin_core.commands.explain import main as explain_main
from swin_core.commands.explain import parser

ROOT = Path(__file__).resolve().parents[2]


def shell(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "explain.py"), *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def called(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The same in this process, which has read torch already."""
    words = list(map(str, arguments))
    with redirect_stdout(io.StringIO()) as output, redirect_stderr(io.StringIO()) as errors:
        status = explain_main(words)
    return subprocess.CompletedProcess(words, status, output.getvalue(), errors.getvalue())


@pytest.fixture
def weights(small_classifier: swin_core.Classifier, tmp_path: Path) -> Path:
    """The small model in a file."""
    file = tmp_path / "small.safetensors"
    assert isinstance(small_classifier.model, swin_core.Swin)
    labels = {"labels": small_classifier.labels, "image_size": 64, "mean": [0.5] * 3, "std": [0.5] * 3}
    swin_core.save_weights(small_classifier.model, file, labels)
    return file


def test_a_run_is_found_where_the_pages_find_it(
    weights: Path, samples: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "elsewhere" / "20260101-120000-mine"
    run.mkdir(parents=True)
    weights.rename(run / "model.safetensors")
    (run / "config.json").write_text("{}")
    monkeypatch.setenv("SWIN_RUNS_ROOT", str(run.parent))
    report = tmp_path / "report.json"
    done = called(samples["cat"], "--models", run.name, "--out", report)
    assert (done.returncode, done.stderr) == (0, "")
    assert called("--from", report).returncode == 0


def test_command_draws_the_same_grid(
    small_classifier: swin_core.Classifier, samples: dict[str, Path], weights: Path, tmp_path: Path
) -> None:
    out = tmp_path / "grid.json"
    done = shell(tmp_path, samples["cat"], "--models", weights, "--out", out, "--target", "rose")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{out}\n", "")
    written = json.loads(out.read_text("utf-8"))["rows"][0]["cells"][0]
    expected = swin_core.explain(small_classifier, swin_core.read_image(samples["cat"]), ["roses"])
    np.testing.assert_allclose(np.float32(written["map"]), expected.maps[0, 0], rtol=1e-4, atol=1e-6)
    wish = ["--method", "hirescam", "--layer", "norm", "layers.1", "--rather-than", "daisy"]
    done = called(samples["cat"], "--models", weights, "--out", out, "--target", "rose", *wish)
    assert (done.returncode, done.stderr) == (0, "")
    rows = json.loads(out.read_text("utf-8"))["rows"]
    assert [row["title"].split(": ")[1] for row in rows] == ["norm", "layers.1"]
    picture = swin_core.read_image(samples["cat"])
    expected = swin_core.explain(small_classifier, picture, 2, "hirescam", ["norm", "layers.1"], against=0)
    for place, row in enumerate(rows):
        np.testing.assert_allclose(np.float32(row["cells"][0]["map"]), expected.maps[0, place], rtol=1e-3, atol=1e-6)
    failed = called(samples["cat"], "--models", weights, "--out", tmp_path / "grid.bmp")
    assert failed.returncode == 1
    assert re.fullmatch(r"swinlens explain: .*\.png.*\n", failed.stderr)


def test_command_replaces_a_region(
    small_classifier: swin_core.Classifier, samples: dict[str, Path], weights: Path, tmp_path: Path
) -> None:
    out, text = tmp_path / "grid.json", "r-200.200-700.600"
    options = ["--models", weights, "--out", out, "--method", "gradcam"]
    done = called(samples["cat"], *options, "--without", text, "--fill", "mean", "--keep")
    assert (done.returncode, done.stderr) == (0, "")
    (row,) = json.loads(out.read_text("utf-8"))["rows"]
    assert row["edit"] == {"strokes": text, "fill": "mean", "keep": True}
    expected = swin_core.what_if(small_classifier, samples["cat"], text, method="gradcam", fill="mean", keep=True)
    np.testing.assert_allclose(np.float32(row["cells"][0]["map"]), expected.after.maps[0, 0], rtol=1e-3, atol=1e-6)
    change = row["cells"][0]["logit"] - row["cells"][0]["before"]["logit"]
    assert change == pytest.approx(float(expected.change[0]), abs=1e-3)
    refused = called(samples["cat"], *options, "--without", "paint")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "a region is written as strokes such as b80-400.300" in refused.stderr


def test_command_names_the_cells_that_failed_and_draws_the_others(
    samples: dict[str, Path], weights: Path, tmp_path: Path
) -> None:
    out, torn = tmp_path / "grid.json", tmp_path / "torn.jpg"
    torn.write_bytes(b"this is no image")
    done = called(samples["cat"], torn, "--models", weights, "nowhere", weights, "--out", out)
    assert (done.returncode, done.stdout) == (0, f"{out}\n")
    lines = done.stderr.splitlines()
    assert lines[0].startswith("nowhere has no column: there is no model 'nowhere'")
    # The image is named once, not once for each model.
    assert [line.split(": ")[0] for line in lines[1:]] == ["torn.jpg"]
    rows = json.loads(out.read_text("utf-8"))["rows"]
    assert ["map" in cell for row in rows for cell in row["cells"]] == [True, True, False, False]


def test_command_fails_if_every_cell_did_or_there_are_too_many_models(samples: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "grid.json"
    done = called(samples["cat"], "--models", "nowhere", "--out", out)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 2)
    done = called(samples["cat"], "--models", *"abcde", "--out", out)
    assert done.returncode == 1
    assert re.fullmatch(r"swinlens explain: .*up to 4 models.*\n", done.stderr)
    assert not out.exists()


@pytest.mark.parametrize("name", NOT_OFFERED)
def test_command_says_why_a_method_is_not_offered(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        explain_main(["cat.jpg", "--models", "any", "--out", "grid.png", "--method", name])
    assert ended.value.code == 2
    assert NOT_OFFERED[name] in capsys.readouterr().err
    assert NOT_OFFERED[name] in parser().format_help()
