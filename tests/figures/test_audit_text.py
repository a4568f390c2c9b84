"""Places in words, and shares with their intervals."""

from __future__ import annotations

import pytest

from swin_core.attribution.regions import Region
from swin_core.audit.bench import Estimate
from swin_core.figures.audit_text import place, with_interval


@pytest.mark.parametrize(
    ("region", "words"),
    [
        ((0.8, 0.8, 1.0, 1.0), "at the lower right corner"),
        ((0.0, 0.1, 0.2, 0.2), "at the upper left corner"),
        ((0.4, 0.4, 0.6, 0.6), "in the middle"),
        ((0.4, 0.8, 0.6, 0.9), "at the lower edge"),
        ((0.0, 0.9, 1.0, 1.0), "at the lower edge"),
        ((0.0, 0.0, 0.1, 1.0), "at the left edge"),
        ((0.0, 0.3, 1.0, 0.34), "across the image at 32\N{NO-BREAK SPACE}% of its height"),
        ((0.5, 0.0, 0.6, 1.0), "down the image at 55\N{NO-BREAK SPACE}% of its width"),
    ],
)
def test_a_region_has_a_place(region: Region, words: str) -> None:
    assert place(region) == words
    assert place((0.0, 0.0, 1.0, 1.0), frame=True) == "at the border"


def test_a_share_is_rounded_with_its_interval() -> None:
    assert with_interval(Estimate(0.834, 0.79, 0.866)) == "83 % (79 to 87 %)"
    assert with_interval(Estimate(-0.001, -0.004, 0.002)) == "0 % (0 to 0 %)"
    assert with_interval(None) == "not measured"
