"""Windows drawn on an image, against loops over pixels."""

from __future__ import annotations

import re

import numpy as np
import pytest

from dashboard.inside.drawing import (
    TINTS,
    edges,
    line_marks,
    outside_mark,
    over_tokens,
    rolled_view,
    tint_indices,
    window_labels,
)
from swin_core.anatomy.structure import PADDING, anatomy
from tests.anatomy.test_internals import classifier
from tests.fixtures.attention import token_numbers
from tests.fixtures.reference import small

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("size", [32, 30, 18])
def test_edges_separate_pixels_of_different_windows(size: int) -> None:
    for block in anatomy(classifier(small(), size)).blocks:
        token = (2 * block.stage, 2 * block.stage)
        numbers = block.positions().on_map(block.positions().windows)
        pixels = np.zeros((size, size), int)
        windows = token_numbers(block.grid, 4, 2 if block.number == 2 else 0, rolls_first=False)
        where = {one: number for number, tokens in enumerate(windows) for one in tokens if one is not None}
        for y, x in np.ndindex(size, size):
            pixels[y, x] = where[y // token[0] * block.grid[1] + x // token[1]]
        assert np.array_equal(over_tokens(numbers, token, (size, size)), pixels)
        expected = set()
        for y, x in np.ndindex(size, size):
            if x == 0 or pixels[y, x] != pixels[y, x - 1]:
                expected.add(("|", x, y))
            if y == 0 or pixels[y, x] != pixels[y - 1, x]:
                expected.add(("-", x, y))
        expected |= {("|", size, y) for y in range(size)} | {("-", x, size) for x in range(size)}
        xs, ys = edges(numbers, token, (size, size))
        drawn = set()
        for start in range(0, len(xs), 3):
            x0, x1, y0, y1 = (
                int(value) for value in (*xs[start : start + 2], *ys[start : start + 2]) if value is not None
            )
            assert (x0 == x1) != (y0 == y1)
            drawn |= {("|", x0, y) for y in range(y0, y1)} if x0 == x1 else {("-", x, y0) for x in range(x0, x1)}
        assert drawn == expected


@pytest.mark.parametrize("size", [32, 30, 56])
def test_neighbouring_windows_have_different_tints(size: int) -> None:
    block = anatomy(classifier(small(), size)).blocks[1]
    numbers = block.positions().on_map(block.positions().windows)
    # In another order of numbers more of them compete for one tint.
    numbers = np.random.default_rng(0).permutation(numbers.max() + 1)[numbers]
    tints = tint_indices(numbers)
    assert tints.max() < len(TINTS)
    for number in np.unique(numbers):
        assert len(np.unique(tints[numbers == number])) == 1
    for one, other in ((numbers[1:], numbers[:-1]), (numbers[:, 1:], numbers[:, :-1])):
        first, second = (tints[1:], tints[:-1]) if one.shape[1] == numbers.shape[1] else (tints[:, 1:], tints[:, :-1])
        assert not ((one != other) & (first == second)).any()
    labelled = window_labels(numbers, (2, 2))
    assert {number for _, _, number in labelled} == set(np.unique(numbers).tolist())
    for x, y, number in labelled:
        assert numbers[int((y - 0.5) // 2), int((x - 0.5) // 2)] == number


@pytest.mark.parametrize("size", [32, 30])
def test_the_rolled_view_equals_the_rolled_image(size: int) -> None:
    block = anatomy(classifier(small(), size)).blocks[1]
    positions = block.positions()
    view = np.random.default_rng(0).integers(0, 255, (size, size, 3), dtype=np.uint8)
    laid = rolled_view(view, positions, (2, 2))
    height, width = positions.tokens.shape
    assert laid.shape == (2 * height, 2 * width, 3)
    for y, x in np.ndindex(2 * height, 2 * width):
        row, column = (y // 2 + 2) % height, (x // 2 + 2) % width
        inside = row < size // 2 and column < size // 2
        assert inside == (positions.tokens[y // 2, x // 2] != PADDING)
        expected = view[2 * row + y % 2, 2 * column + x % 2] if inside else [127, 127, 127]
        assert np.array_equal(laid[y, x], expected)


@pytest.mark.parametrize("size", [32, 30])
def test_marks_cover_what_lies_outside_the_window_and_follow_its_lines(size: int) -> None:
    """The even-odd rule at the centre of each pixel, from the numbers of the path."""
    for block in anatomy(classifier(small(), size)).blocks[:2]:
        token = (2 * block.stage, 2 * block.stage)
        windows = block.positions().on_map(block.positions().windows)
        for number in np.unique(windows):
            own = windows == number
            path = outside_mark(own, token, (size, size)).path
            parts = [re.findall(r"[\d.]+", part) for part in path.removeprefix("M0 0H1V1H0Z").split("Z")[:-1]]
            outside = np.ones((size, size), bool)
            centres = (np.arange(size) + 0.5) / size
            for left, top, right, bottom, _ in np.array(parts, float):
                outside ^= np.outer((centres > top) & (centres < bottom), (centres > left) & (centres < right))
            assert np.array_equal(outside, ~over_tokens(own, token, (size, size)))
    segments = edges(windows, token, (size, size))
    ends = [(x, y) for x, y in zip(*segments, strict=True) if x is not None and y is not None]
    halo, line = line_marks(segments, (size, size))
    assert halo.path == line.path
    found = np.array(re.findall(r"([\d.]+) ([\d.]+)", line.path), float) * size
    np.testing.assert_allclose(found, ends, atol=1e-3)
    assert line.path.count("M") == line.path.count("L") == len(ends) // 2
