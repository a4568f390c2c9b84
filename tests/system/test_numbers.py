"""Numbers of JSON files, and durations as text."""

from __future__ import annotations

import math

import pytest

from swin_core.system.numbers import duration, is_number


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (86_400 * 2, "2 d")],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_only_finite_ints_and_floats_are_numbers() -> None:
    assert all(map(is_number, [0, -1, 2.5]))
    assert not any(map(is_number, [None, True, math.nan, -math.inf, "1", [1]]))
