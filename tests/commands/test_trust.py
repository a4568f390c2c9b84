"""`swinlens trust`: the same ranking on one rank and two, and one line for each error."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from swin_core.attribution.methods import NOT_OFFERED
from swin_core.commands import trust as command
from swin_core.commands.trust import main
from swin_core.data.dataset import DataSet
from swin_core.data.registry import open_split
from swin_core.evaluation import accuracy
from tests.fixtures.ranks import run_ranks


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    for label in ("one", "two"):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for number in range(3):
            picture = Image.fromarray(draw.integers(0, 256, (32, 32, 3)).astype(np.uint8))
            picture.save(tmp_path / "pictures" / label / f"{number}.png")
    return tmp_path / "pictures"


def test_two_ranks_find_what_one_finds(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shared = ["--data", str(pictures), "--methods", "gradcam", "--layers", "norm", "--steps", "2", "--quick"]
    assert main(["swin_micro_cifar100", *shared, "--json", str(tmp_path / "alone.json")]) == 0
    assert "Grad-CAM" in capsys.readouterr().out
    file = tmp_path / "both.json"
    assert run_ranks(main, ["swin_micro_cifar100", *shared, "--json", str(file)], folder=tmp_path) == [0, 0]
    assert [(tmp_path / f"output-{rank}").read_text().count("Grad-CAM") for rank in range(2)] == [1, 0]
    one, two = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("alone", "both"))
    assert one["images"] == two["images"] == 6
    for row, other in zip(one["rows"], two["rows"], strict=True):
        assert (row["method"], row["layer"]) == (other["method"], other["layer"])
        assert [row["srg"], row["srg_error"], row["deletion"]] == pytest.approx(
            [other["srg"], other["srg_error"], other["deletion"]], abs=2e-4
        )


def test_the_split_is_that_of_the_models_own_training(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accuracy, "recorded_training", lambda *_: {"holdout": 0.5, "seed": 3})
    opened: list[DataSet] = []
    monkeypatch.setattr(command, "rank", lambda _, dataset, *__, **___: opened.append(dataset) or exit(0))
    with pytest.raises(SystemExit):
        main(["swin_micro_cifar100", "--data", str(pictures), "--split", "val"])
    expected = open_split(str(pictures), "val", 0.5, 3)
    assert opened[0].names == expected.names
    assert expected.names != open_split(str(pictures), "val").names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "nowhere"], "there is no folder 'nowhere'"),
        (["--methods", "x"], "unknown method 'x'"),
        (["--methods", "guidedbackprop@norm"], NOT_OFFERED["guidedbackprop"]),
        (["--layers", "head"], "no method can explain swin_micro_cifar100"),
        (["--steps", "1"], "at least 2 steps, not 1."),
        (["--steps", "-2"], "at least 2 steps, not -2."),
        (["--images", "0"], "at least 1 image, not 0."),
    ],
)
def test_one_line_for_what_is_wrong(
    arguments: list[str], message: str, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["swin_micro_cifar100", "--data", str(pictures), "--methods", "gradcam", *arguments]
    assert main(given) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("swinlens trust: ")
    assert message in line
