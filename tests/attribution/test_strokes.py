"""Strokes: the mask against distances computed pixel by pixel, the text, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from swin_core.attribution.strokes import POINTS_AT_MOST, STROKES_AT_MOST, Stroke, Strokes, parse_strokes
from swin_core.errors import ConfigError

TEXT = "b120-100.200-500.250-480.900_r-900.600-600.100_e60-300.240-700.240_b40-950.950"


def signed_distance(stroke: Stroke, height: int, width: int) -> np.ndarray:
    """Distance of each pixel's centre from the edge of a stroke, in pixels; negative inside."""
    y, x = np.mgrid[:height, :width] + 0.5
    places = [(column * width / 1000, row * height / 1000) for column, row in stroke.points]
    if stroke.tool == "rectangle":
        (left, right), (top, bottom) = (sorted(values) for values in zip(*places, strict=True))
        return np.maximum.reduce([left - x, x - right, top - y, y - bottom])
    nearest = np.full((height, width), np.inf)
    for (x0, y0), (x1, y1) in zip(places, places[1:] or places, strict=False):
        length = max((x1 - x0) ** 2 + (y1 - y0) ** 2, 1e-12)
        share = np.clip(((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / length, 0, 1)
        nearest = np.minimum(nearest, np.hypot(x - x0 - share * (x1 - x0), y - y0 - share * (y1 - y0)))
    return nearest - stroke.size * min(height, width) / 1000 / 2


@pytest.mark.parametrize(("height", "width"), [(300, 400), (401, 211)])
def test_mask_covers_the_pixels_under_the_tools(height: int, width: int) -> None:
    strokes = parse_strokes(TEXT)
    found = strokes.mask(height, width)
    expected, doubtful = np.zeros((height, width), bool), np.zeros((height, width), bool)
    for stroke in strokes.strokes:
        distance = signed_distance(stroke, height, width)
        expected[distance < 0] = stroke.tool != "erase"
        if stroke.tool != "rectangle":  # those are exact
            doubtful |= np.abs(distance) < 1.5
    assert found.shape == (height, width)
    assert np.array_equal(found[~doubtful], expected[~doubtful])
    assert (found != expected).sum() < 0.3 * doubtful.sum()


def test_text_and_strokes_are_the_same() -> None:
    strokes = parse_strokes(TEXT)
    assert strokes.text() == TEXT
    assert [stroke.tool for stroke in strokes.strokes] == ["brush", "rectangle", "erase", "brush"]
    assert strokes.vectors()[3] == {"tool": "brush", "size": 0.04, "points": [[0.95, 0.95]]}
    assert Strokes().text() == ""
    assert not Strokes().mask(4, 5).any()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is written as strokes such as"),
        ("b80", "is written as strokes such as"),
        ("x80-1.1", "is written as strokes such as"),
        ("b80-1.1_", "is written as strokes such as"),
        ("b80-1.1 ", "is written as strokes such as"),
        ("b80-\u0661.\u0661", "is written as strokes such as"),
        ("<script>" * 9, "is written as strokes such as"),
        ("b80-1001.0", "are 0 to 1000"),
        ("e2000-1.1", "are 0 to 1000"),
        ("b-1.1", "a brush or an eraser a size"),
        ("r-1.1", "a rectangle has two corners"),
        ("r9-1.1-2.2", "a rectangle has two corners"),
        ("_".join(["b80-1.1"] * (STROKES_AT_MOST + 1)), "up to 100 strokes"),
        ("b80" + "-1.1" * (POINTS_AT_MOST + 1), "800 points"),
    ],
)
def test_one_line_for_bad_text(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refusal:
        parse_strokes(text)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 200
