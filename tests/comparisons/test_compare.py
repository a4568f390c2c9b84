"""`compare`: rows, columns, and the cells that cannot be explained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import swin_core
from swin_core.comparisons.compare import STAGES, ExplainSettings, Missing, compare
from swin_core.errors import ConfigError
from swin_core.figures.files import encode
from swin_core.figures.grid import Cell


def label_of(cell: Cell) -> str:
    assert cell.explanation is not None, cell.error
    return cell.explanation.label(cell.target)


def test_rows_are_images_or_classes_of_one_image(
    small_classifier: swin_core.Classifier, samples: dict[str, Path]
) -> None:
    pictures = [(name, swin_core.read_image(samples[name])) for name in ("cat", "tulip")]
    own = compare(pictures, [small_classifier])
    for row, (_, image) in zip(own.rows, pictures, strict=True):
        np.testing.assert_array_equal(row.cells[0].map, swin_core.explain(small_classifier, image).maps[0, 0])
    named = compare(pictures[:1], [small_classifier], ["rose", "tulips", "lion"])
    assert [label_of(row.cells[0]) for row in named.rows[:2]] == ["roses", "tulips"]
    assert "has no class 'lion'" in named.rows[2].cells[0].error
    each = compare(pictures, [small_classifier], ["daisy", "roses"])
    assert [label_of(row.cells[0]) for row in each.rows] == ["daisy", "roses"]
    with pytest.raises(ConfigError, match="3 targets for 2 images"):
        compare(pictures, [small_classifier], ["daisy", "roses", "tulips"])


def test_a_layer_that_is_not_there_fails_in_its_cell(
    small_classifier: swin_core.Classifier, samples: dict[str, Path]
) -> None:
    picture = swin_core.read_image(samples["cat"])
    assert (
        "no layer"
        in compare([("cat", picture)], [small_classifier], settings=ExplainSettings(layers=("nowhere",)))
        .rows[0]
        .cells[0]
        .error
    )


def test_a_strip_of_stages_has_a_row_for_each(small_classifier: swin_core.Classifier, samples: dict[str, Path]) -> None:
    """A model with fewer stages than another says so; fused, the stages are one row."""
    picture = swin_core.read_image(samples["cat"])
    shallow = swin_core.build("swin_nano", num_classes=5, depths=(2, 2), num_heads=(2, 4))
    other = swin_core.Classifier(shallow, small_classifier.labels, (0.5,) * 3, (0.5,) * 3, 32, name="shallow")
    columns: list[swin_core.Classifier | Missing] = [small_classifier, other, Missing("far", "no model")]
    drawn = compare([("cat", picture)], columns, ["daisy"], settings=ExplainSettings(layers=(STAGES,)))
    assert [row.title for row in drawn.rows] == ["cat: stage 1", "cat: stage 2", "cat: stage 3"]
    expected = swin_core.explain(small_classifier, picture, 0, layers=["layers.0", "layers.1", "layers.2"])
    for place, row in enumerate(drawn.rows):
        np.testing.assert_array_equal(row.cells[0].map, expected.maps[0, place])
    assert [row.cells[1].error for row in drawn.rows] == ["", "", "this model has 2 stages."]
    assert [row.cells[2].error for row in drawn.rows] == ["no model"] * 3
    (fused,) = compare(
        [("cat", picture)], columns[:2], ["daisy"], settings=ExplainSettings(layers=(STAGES,), fuse="max")
    ).rows
    assert fused.title == "cat"
    assert all(cell.explanation is not None and cell.explanation.fused == "max" for cell in fused.cells)


def test_what_is_missing_stands_in_its_cells(small_classifier: swin_core.Classifier, samples: dict[str, Path]) -> None:
    picture = swin_core.read_image(samples["cat"])
    drawn = compare(
        [("cat", picture), Missing("torn", "no image")], [small_classifier, Missing("far", "no model")], ["daisy"]
    )
    assert [[cell.error for cell in row.cells] for row in drawn.rows] == [["", "no model"], ["no image"] * 2]
    assert drawn.columns == (small_classifier.name, "far")
    assert [row.title for row in drawn.rows] == ["cat", "torn"]
    assert encode(drawn, "png")
