"""`swinlens train --without`: the command trains without the findings of a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from swin_core import runs
from swin_core.commands.train import main
from swin_core.weights.files import read_state

pytestmark = pytest.mark.usefixtures("one_thread")

PLACE = {"class": "bee", "kind": "place", "region": [0.5, 0.5, 1.0, 1.0], "frame": False}
OPTIONS = [
    "--init",
    "",
    "--variant",
    "swin_nano",
    "--image-size",
    "16",
    "--epochs",
    "1",
    "--holdout",
    "0.25",
    "--crop-padding",
    "2",
]
OPTIONS += ["--cutout", "3", "--optimizer", "adamw", "--precision", "float32", "--devices", "cpu"]


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SWIN_RUNS_ROOT", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    for name in ("ant", "bee"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for index in range(4):
            pixels = draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{index}.png")
    return tmp_path / "images"


def write(file: Path, *findings: dict[str, Any]) -> bytes:
    file.write_text(json.dumps({"findings": findings}))
    return file.read_bytes()


def trained(images: Path, capsys: pytest.CaptureFixture[str], *more: str) -> Path:
    assert main(["custom", "--data", str(images), *OPTIONS, *more]) == 0
    return Path(capsys.readouterr().out.splitlines()[-1])


def test_findings_change_the_training_and_are_kept(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = write(Path("found.json"), PLACE)
    without, again = (trained(images, capsys, "--without", "found.json") for _ in range(2))
    plain = trained(images, capsys)
    assert (without / "findings.json").read_bytes() == content
    assert not (plain / "findings.json").exists()
    assert runs.read_config(without)["without"] == str(Path("found.json").absolute())
    first, second, other = (read_state(run / "model.safetensors") for run in (without, again, plain))
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert not all(np.array_equal(first[name], other[name]) for name in first)


def test_another_findings_file_takes_the_place_of_the_first(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(Path("found.json"), PLACE)
    run = trained(images, capsys, "--without", "found.json")
    content = write(Path("other.json"), PLACE, PLACE | {"region": [0.0, 0.0, 0.5, 0.5]})
    assert main(["--run", str(run), "--without", "other.json", "--epochs", "2"]) == 0
    assert (run / "findings.json").read_bytes() == content


def test_a_malformed_file_is_refused_in_one_line(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(Path("found.json"), PLACE | {"kind": "smell"})
    assert main(["custom", "--data", str(images), *OPTIONS, "--without", "found.json"]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("swinlens train: ")]
    assert "is no findings file of an audit; swinlens audit MODEL --data FOLDER --json FILE writes one." in line
    assert list(Path("runs").iterdir()) == []
