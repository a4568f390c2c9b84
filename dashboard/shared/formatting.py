"""Numbers and errors as short texts: durations, ages, sizes, shares and rates."""

import math
from itertools import pairwise

UNKNOWN = "-"
"""Text of an unknown number."""

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def _known(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def duration(seconds: float | None) -> str:
    """Format a duration in its two largest units: "45 s", "3 min 20 s", "2 h 5 min"."""
    if seconds is None or not _known(seconds) or seconds < 0:
        return UNKNOWN
    rest = round(seconds)
    for (unit, name), (smaller, smaller_name) in pairwise(_UNITS):
        if rest >= unit:
            more = rest % unit // smaller
            return f"{rest // unit} {name}" + (f" {more} {smaller_name}" if more else "")
    return f"{rest} s"


def ago(seconds: float | None) -> str:
    """Format an age in its largest unit: "12 s ago". Ages in the future count as 0."""
    if seconds is None or not _known(seconds):
        return UNKNOWN
    rest = max(0, round(seconds))
    unit, name = next((pair for pair in _UNITS if rest >= pair[0]), _UNITS[-1])
    return f"{rest // unit} {name} ago"


def size(count_of_bytes: float | None) -> str:
    """Format bytes in decimal units: "10.7 MB"."""
    if count_of_bytes is None or not _known(count_of_bytes) or count_of_bytes < 0:
        return UNKNOWN
    value, units = float(count_of_bytes), ["B", "kB", "MB", "GB"]
    while value >= 999.5 and units[1:]:
        value, units = value / 1000, units[1:]
    return f"{value:.0f} {units[0]}" if value >= 99.5 or units[0] == "B" else f"{value:.1f} {units[0]}"


def share(value: float | None) -> str:
    """Format a share in percent with two decimals, as accuracies are usually given."""
    return f"{100 * value:.2f} %" if value is not None and _known(value) else UNKNOWN


def rate(images_per_second: float | None) -> str:
    """Format a speed in images per second."""
    if images_per_second is None or not _known(images_per_second):
        return UNKNOWN
    return f"{images_per_second:.3g} images/s" if images_per_second < 100 else f"{images_per_second:,.0f} images/s"


def count(done: object, whole: object) -> str:
    """Format progress: "12 / 300"."""
    return f"{done if _known(done) else 0} / {whole if _known(whole) else UNKNOWN}"


def unexpected(error: Exception) -> str:
    """Return the message for an unexpected exception; the caller logs it."""
    return f"This failed unexpectedly ({type(error).__name__}); see the server's log."
