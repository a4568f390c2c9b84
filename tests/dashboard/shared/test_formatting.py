"""Numbers as short texts."""

from __future__ import annotations

import math
from typing import Any

import pytest

from dashboard.shared.formatting import UNKNOWN, ago, count, duration, percent, rate, share, size


@pytest.mark.parametrize("words", [duration, ago, size, share, rate])
@pytest.mark.parametrize("value", [None, math.nan, math.inf, "x"])
def test_what_is_not_known_is_a_dash(words: Any, value: Any) -> None:
    assert words(value) == UNKNOWN


def test_other_quantities() -> None:
    assert (ago(-5), ago(61), ago(7300)) == ("0 s ago", "1 min ago", "2 h ago")
    assert (size(10_712_345), size(999), size(8e9), size(1e6)) == ("10.7 MB", "999 B", "8.0 GB", "1.0 MB")
    assert (share(0.64601), rate(412.3), rate(7.5)) == ("64.60 %", "412 images/s", "7.5 images/s")
    assert (duration(7500), duration(-1)) == ("2 h 5 min", UNKNOWN)
    assert (percent(0.5), percent(None), percent(math.nan)) == (50, None, None)
    assert (count(3, 16), count(None, math.nan)) == ("3 / 16", f"0 / {UNKNOWN}")
