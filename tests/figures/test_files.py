"""The files of a grid: exact values, no metadata, and clear errors."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from swin_core.errors import ConfigError
from swin_core.figures.files import encode, save
from swin_core.figures.grid import Cell
from tests.fixtures.grids import Make, one_row

ATTACK = "<img src=x onerror=alert(1)>"


def test_files_hold_the_exact_maps(make: Make, tmp_path: Path) -> None:
    cells = [Cell(make(predicted=1)), Cell(None, error="why not")]
    shown = one_row(*cells, title=ATTACK)
    for kind in ("png", "pdf", "svg", "npz", "json"):
        save(shown, tmp_path / f"grid.{kind}")
    numbers = json.loads((tmp_path / "grid.json").read_text("utf-8"))
    cell = numbers["rows"][0]["cells"][0]
    explanation = cells[0].explanation
    assert explanation is not None
    np.testing.assert_array_equal(np.float32(cell["map"]), explanation.maps[0, 0])
    assert (cell["label"], cell["weights_hash"], cell["layer"]) == ("dandelion", "0123abcd", "norm")
    assert cell["magnitude"] == pytest.approx(explanation.maps.max())
    assert numbers["rows"][0]["cells"][1] == {"error": "why not"}
    assert numbers["settings"]["colormap"] == "viridis"
    assert numbers["versions"]["torch"] == torch.__version__.split("+")[0]
    arrays = np.load(tmp_path / "grid.npz", allow_pickle=False)
    np.testing.assert_array_equal(arrays["map_0_0"], explanation.maps[0, 0])
    np.testing.assert_array_equal(arrays["view_0_0"], explanation.view)
    assert "map_0_1" not in arrays
    drawing = (tmp_path / "grid.svg").read_text("utf-8")
    assert "<image" in drawing
    assert "<img" not in drawing
    with Image.open(tmp_path / "grid.png") as image:
        assert set(image.info) <= {"Software", "dpi"}


def test_values_that_are_not_finite_become_null(make: Make) -> None:
    explanation = make()
    maps = explanation.maps.copy()
    maps[0, 0, 0, 0] = np.nan
    text = encode(one_row(Cell(replace(explanation, maps=maps))), "json").decode()
    assert json.loads(text)["rows"][0]["cells"][0]["map"][0][0] is None


def test_other_suffixes_and_missing_folders_are_one_line_errors(make: Make, tmp_path: Path) -> None:
    shown = one_row(Cell(make()))
    for path in (tmp_path / "grid.bmp", tmp_path / "grid", tmp_path / "no" / "folder" / "grid.json"):
        with pytest.raises(ConfigError) as error:
            save(shown, path)
        assert "\n" not in str(error.value)
