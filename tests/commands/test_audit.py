"""`swinlens audit`: text, JSON and the report, and one line for each error."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from swin_core.commands.audit import main
from swin_core.evaluation import accuracy
from tests.fixtures.audit import CORNER, write_images

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SWIN_CACHE_ROOT", str(tmp_path / "cache"))
    path = tmp_path / "corner.py"
    path.write_text("from tests.fixtures.audit import corner_model\n\ndef load():\n    return corner_model()\n")
    return str(path)


def test_the_finding_is_told_written_and_drawn(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, page, values = write_images(tmp_path / "images", 12), tmp_path / "report.html", tmp_path / "found.json"
    assert main([model, "--data", str(folder), "--out", str(page), "--json", str(values)]) == 0
    told = capsys.readouterr().out
    assert "1. A region at the lower right corner decides 'marked' in 12 of 12 images. Pasted into other" in told
    found = json.loads(values.read_text())
    (finding,) = found["findings"]
    assert (finding["class"], finding["kind"], tuple(finding["region"])) == ("marked", "place", CORNER)
    assert (finding["images"], finding["flip"], finding["flip_control"]) == (12, 1.0, 0.0)
    assert finding["drop"] > 0.5 > finding["drop_control"]
    text = page.read_text()
    assert "A region at the lower right corner decides &#39;marked&#39; in 12 of 12 images" in text
    assert text.count("<img ") == 1 + 8  # the mean map, and eight of the images
    assert "marked/00.png" in text
    assert not re.search(r"<script|https?://", text)


def test_copies_and_a_repair_are_told_written_and_drawn(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    after = tmp_path / "after.py"
    after.write_text(Path(model).read_text().replace("corner_model()", "corner_model(looks=False)"))
    folder = tmp_path / "images"
    for seed, split in enumerate(("train", "val")):
        write_images(folder / split, 8, seed=seed)
    shutil.copy(folder / "train" / "blue" / "03.png", folder / "val" / "green" / "copy.png")
    page, values = tmp_path / "report.html", tmp_path / "found.json"
    arguments = [model, "--data", str(folder), "--split", "val", "--after", str(after)]
    monkeypatch.setattr(
        "swin_core.evaluation.trained_on.trained_on",
        lambda name, dataset, *_: np.arange(len(dataset)) == (0 if name == model else 1),
    )
    assert main([*arguments, "--out", str(page), "--json", str(values)]) == 0
    told = capsys.readouterr().out
    assert "2 images in the splits val and train are copies of other images. Groups of copies: 1 of the same" in told
    assert "In several splits, so that the accuracy is too high: 1. With several labels: 1." in told
    assert "  same pixels, several labels: val: green/copy.png, train: blue/03.png" in told
    assert "   blue, with it: <0.1\N{NO-BREAK SPACE}% before, 100\N{NO-BREAK SPACE}% after (8 images)" in told
    assert "One of the models, or both, was trained on 2 of these 25 images, so the shares are optimistic" in told
    found = json.loads(values.read_text())
    assert [len(group["images"]) for group in found["duplicates"]] == [2]
    (repair,) = found["repairs"]
    assert repair["worst"] == [0, 0]
    assert {"class_name": "blue", "present": True, "images": 8, "before": 0.0, "after": 1.0} in repair["groups"]
    text = page.read_text()
    assert "right before" in text
    assert "Retrained as after" in text or "Retrained as corner" in text
    assert "green/copy.png, train: blue/03.png" in text


def test_nothing_found_is_said_with_what_was_tested(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_images(tmp_path / "images", 12, marked=())
    assert main([model, "--data", str(folder), "--out", str(tmp_path / "report.html")]) == 0
    assert re.search(
        r"No finding in 36 images: \d+ candidates were tested, the strongest of which, .*, turns .*% of other images "
        r"into '\w+'.*\. A region with an effect of \d+ percentage points or more would have been found in each class",
        capsys.readouterr().out,
    )
    assert "Tested without a finding" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "nowhere"], "there is no folder 'nowhere'"),
        (["--out", "no/such/folder/report.html"], "cannot be written"),
        (["--split", "test"], "has no split 'test'"),
    ],
)
def test_one_line_for_what_is_wrong(
    arguments: list[str], message: str, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_images(tmp_path / "images", 1)
    assert main([model, "--data", str(folder), *arguments]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("swinlens audit: ")
    assert message in line


def test_what_was_found_is_written_if_the_comparison_fails(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "flat"
    folder.mkdir()
    for file in write_images(tmp_path / "images", 8).rglob("*.png"):
        shutil.copy(file, folder / f"{file.parent.name}-{file.name}")
    page, values = tmp_path / "report.html", tmp_path / "found.json"
    arguments = [model, "--data", str(folder), "--out", str(page), "--json", str(values)]
    assert main([*arguments, "--after", "no_such_model"]) == 1
    assert "no_such_model" in capsys.readouterr().err
    assert not values.exists()  # a wrong name is told before the audit
    assert main([*arguments, "--after", model]) == 1
    assert "a comparison by group needs images with labels" in capsys.readouterr().err
    found = json.loads(values.read_text())
    assert (len(found["findings"]), found["seed"]) == (1, 0)
    assert "seed: 0" in page.read_text()


def test_a_split_is_the_one_of_the_models_own_training(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(accuracy, "recorded_training", lambda *_: {"holdout": 0.5, "seed": 3})
    folder = write_images(tmp_path / "images", 8)
    assert main([model, "--data", str(folder), "--split", "val"]) == 0
    assert "split val: Nothing could be tested on 12 images." in capsys.readouterr().out
