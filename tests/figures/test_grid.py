"""The grid as data: captions, scales and agreement."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

from swin_core.errors import ConfigError
from swin_core.figures.grid import Cell, Grid, Row
from swin_core.figures.text import percent
from swin_core.trust.similarity import agreement
from tests.fixtures.grids import Make, one_row


def test_a_row_needs_one_cell_for_each_column() -> None:
    with pytest.raises(ConfigError, match="2 cells for 1 columns"):
        Grid((Row("x", np.zeros((4, 4, 3), np.uint8), [Cell(None), Cell(None)]),), ("only one",))


def test_caption_names_class_probability_magnitude_and_other_prediction(make: Make) -> None:
    explanation = make(predicted=1, target=0)
    cell = Cell(explanation)
    caption = one_row(cell, raw=True).caption(Row("", explanation.image, []), cell)
    assert caption.headline == f"daisy · {percent(float(explanation.probabilities[0]))}"
    assert f"magnitude {explanation.maps.max():.3g} at norm" in caption.notes
    assert caption.magnitude not in one_row(cell).caption(Row("", explanation.image, []), cell).notes
    assert f"predicts dandelion · {percent(float(explanation.probabilities[1]))}" in caption.notes


def test_caption_names_the_contrast_class(make: Make) -> None:
    explanation = replace(make(predicted=0, target=0), against=(2,))
    caption = one_row(Cell(explanation, note="layers.0")).caption(
        Row("", explanation.image, []), Cell(explanation, note="layers.0")
    )
    assert caption.notes[0] == "contrast with roses"
    assert caption.notes[-1] == "layers.0"


def test_caption_of_an_empty_map(make: Make) -> None:
    explanation = make()
    empty = one_row(Cell(replace(explanation, maps=np.zeros_like(explanation.maps))))
    notes = empty.caption(empty.rows[0], empty.rows[0].cells[0]).notes
    assert notes == ("empty map: zero everywhere",)


def test_a_map_of_rounding_errors_has_almost_no_signal(make: Make) -> None:
    explanation = make()
    largest = float(np.abs(explanation.logits).max())
    for peak, empty in ((largest * 1e-7, True), (largest * 1e-5, False)):
        maps = explanation.maps * np.float32(peak / explanation.maps.max())
        grid = one_row(Cell(replace(explanation, maps=maps)))
        (cell,) = grid.rows[0].cells
        assert grid.is_almost_empty(cell) == empty
        assert ("almost no signal" in grid.caption(grid.rows[0], cell).notes) == empty


@pytest.mark.parametrize(
    ("truth", "mark"), [("rose", "✓ right"), ("Dandelion", "✗ wrong: it is Dandelion"), ("lion", ""), ("", "")]
)
def test_predictions_are_marked_only_if_the_model_has_the_true_class(make: Make, truth: str, mark: str) -> None:
    explanation = make(predicted=2)
    shown = one_row(Cell(explanation), truth=truth)
    notes = shown.caption(shown.rows[0], shown.rows[0].cells[0]).notes
    assert notes == ((mark,) if mark else ())
    other = make(predicted=2, target=0)
    notes = shown.caption(shown.rows[0], Cell(other)).notes
    assert notes[0].startswith("predicts roses · ")
    assert notes[0].endswith(mark)


@pytest.mark.parametrize("size", [(100, 80), (32, 32), (16, 16)], ids=["pixels", "patches", "coarse patches"])
def test_outliers_do_not_darken_a_fine_map(make: Make, size: tuple[int, int]) -> None:
    fine = replace(make(), maps=np.random.default_rng(1).random((1, 1, *size)).astype(np.float32))
    fine.maps[0, 0, 3, 3] = 50
    cell = Cell(fine)
    assert cell.top == pytest.approx(np.sort(fine.maps.ravel())[-size[0] * size[1] // 100 - 1], rel=0.01)
    assert cell.magnitude == 50
    assert "99th percentile" in one_row(cell).scale_name
    assert "percentile" not in one_row(Cell(make())).scale_name
    rare = replace(fine, maps=np.zeros_like(fine.maps))
    rare.maps[0, 0, 3, 3] = 2
    assert Cell(rare).top == 2


def test_agreement_is_scipys_spearman_with_ties(make: Make) -> None:
    first, second = make(), make()
    tied = replace(second, maps=np.round(second.maps))
    matrix = one_row(Cell(first), Cell(tied)).agreement()[0]
    expected = scipy.stats.spearmanr(first.maps.ravel(), tied.maps.ravel()).statistic
    assert matrix[0, 1] == matrix[1, 0] == pytest.approx(expected)
    assert matrix[0, 0] == pytest.approx(1)


def test_agreement_of_different_resolutions_and_of_a_constant_map() -> None:
    ramp = np.linspace(0, 1, 4)[:, None] * np.ones((1, 4))
    fine = np.linspace(0, 5, 16)[:, None] * np.ones((1, 16))
    assert agreement(ramp, fine**2) > 0.98
    assert agreement(ramp, -fine) < -0.98
    assert np.isnan(agreement(ramp, np.ones((4, 4))))


def test_agreement_of_a_cell_without_a_map_is_nan(make: Make) -> None:
    matrix = one_row(Cell(make()), Cell(None, error="no")).agreement()[0]
    assert np.isnan(matrix[0, 1])
    assert np.isnan(matrix[1, 1])


def test_lines_over_the_maps_are_named(make: Make) -> None:
    cells = [Cell(make()), Cell(make())]
    assert one_row(*cells).lines_name == ""
    assert one_row(*cells, contours=(0.25, 0.5)).lines_name == "lines at 25 %, 50 % of the scale"
    assert one_row(*cells, wipe="image").lines_name == "right of the white line: the image"
    grid = one_row(*cells, wipe="1")
    assert grid.lines_name == f"right of the white line: {grid.columns[1]}"
    assert one_row(*cells, wipe="2").lines_name == ""  # there is no such column
