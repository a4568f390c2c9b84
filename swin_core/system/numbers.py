"""Numbers of JSON files, which may hold anything, and durations as text."""

import math
from itertools import pairwise
from typing import TypeGuard

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def is_number(value: object) -> TypeGuard[float]:
    """Return whether a value is a finite int or float, and not a bool."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def duration(seconds: float) -> str:
    """Format a duration in its two largest units: "45 s", "3 min 20 s", "2 h 5 min"."""
    rest = round(seconds)
    for (unit, name), (smaller, smaller_name) in pairwise(_UNITS):
        if rest >= unit:
            more = rest % unit // smaller
            return f"{rest // unit} {name}" + (f" {more} {smaller_name}" if more else "")
    return f"{rest} s"
