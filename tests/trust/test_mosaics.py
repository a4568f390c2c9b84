"""Focus on mosaics: by hand on small maps, and on maps whose answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import swin_core
from swin_core.data.folders import image_folder
from swin_core.errors import DataError
from swin_core.trust.mosaics import focus, mosaics

LEFT = np.array([[True, False], [True, False]])


@pytest.mark.parametrize(
    ("attribution", "expected"),
    [
        (np.array([[1.0, 0], [1, 0]]), 1.0),
        (np.array([[0.0, 2], [0, 2]]), 0.0),
        (np.ones((4, 4)), 0.5),
        (np.ones((3, 3)), 0.5),  # the middle column lies half in either side
        (np.array([[0.0, 1, 0], [0, 0, 0], [0, 0, 0]]), 0.5),
        (np.array([[3.0, 1], [0, 0]]), 0.75),
    ],
)
def test_focus_by_hand(attribution: np.ndarray, expected: float) -> None:
    assert focus(attribution, LEFT) == pytest.approx(expected)


def test_an_empty_map_has_no_focus() -> None:
    assert focus(np.zeros((4, 4)), LEFT) is None


def test_focus_equals_a_loop_over_pixels() -> None:
    attribution = np.random.default_rng(0).random((6, 6))
    cells = np.array([[True, False], [False, True]])
    inside = sum(attribution[r, c] for r in range(6) for c in range(6) if cells[r // 3, c // 3])
    assert focus(attribution, cells) == pytest.approx(inside / attribution.sum())


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    for label, colour in {"blue": (0, 0, 255), "red": (255, 0, 0)}.items():
        (tmp_path / label).mkdir()
        for number in range(3):
            Image.new("RGB", (40, 30), colour).save(tmp_path / label / f"{number}.png")
    return tmp_path


def test_mosaics_show_what_they_say(colours: Path) -> None:
    model = swin_core.build("swin_nano", num_classes=2)
    classifier = swin_core.Classifier(model, ["blue", "red"], (0.5,) * 3, (0.5,) * 3, 32)
    data = image_folder(colours)
    scenes = list(mosaics(classifier, data, 8))
    for scene in scenes:
        assert scene.cells.sum() == 2
        for row in range(2):
            for column in range(2):
                pixel = scene.view[16 * row + 8, 16 * column + 8]
                shown = int(pixel[0] > 128)
                assert (shown == scene.target) == scene.cells[row, column]
    again = list(mosaics(classifier, data, 8))
    assert all((a.view == b.view).all() for a, b in zip(scenes, again, strict=True))


def test_other_classes_are_refused(colours: Path) -> None:
    model = swin_core.build("swin_nano", num_classes=2)
    classifier = swin_core.Classifier(model, ["red", "blue"], (0.5,) * 3, (0.5,) * 3, 32)
    with pytest.raises(DataError, match="other classes"):
        next(mosaics(classifier, image_folder(colours), 1))
