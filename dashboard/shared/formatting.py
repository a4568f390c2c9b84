"""Numbers and errors as short texts: durations, ages, sizes, shares and rates."""

from swin_core.system import numbers
from swin_core.system.numbers import is_number

UNKNOWN = "-"
"""Text of an unknown number."""

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def duration(seconds: float | None) -> str:
    """Format a duration in its two largest units, as `numbers.duration` does."""
    return numbers.duration(seconds) if is_number(seconds) and seconds >= 0 else UNKNOWN


def ago(seconds: float | None) -> str:
    """Format an age in its largest unit: "12 s ago". Ages in the future count as 0."""
    if not is_number(seconds):
        return UNKNOWN
    rest = max(0, round(seconds))
    unit, name = next((pair for pair in _UNITS if rest >= pair[0]), _UNITS[-1])
    return f"{rest // unit} {name} ago"


def size(count_of_bytes: float | None) -> str:
    """Format bytes in decimal units: "10.7 MB"."""
    if not is_number(count_of_bytes) or count_of_bytes < 0:
        return UNKNOWN
    value, units = float(count_of_bytes), ["B", "kB", "MB", "GB"]
    while value >= 999.5 and units[1:]:
        value, units = value / 1000, units[1:]
    return f"{value:.0f} {units[0]}" if value >= 99.5 or units[0] == "B" else f"{value:.1f} {units[0]}"


def share(value: float | None) -> str:
    """Format a share in percent with two decimals, as accuracies are usually given."""
    return f"{100 * value:.2f} %" if is_number(value) else UNKNOWN


def percent(value: object) -> float | None:
    """Return a share in percent, for the columns of a table; None if it is unknown."""
    return 100 * value if is_number(value) else None


def rate(images_per_second: float | None) -> str:
    """Format a speed in images per second."""
    if not is_number(images_per_second):
        return UNKNOWN
    return f"{images_per_second:.3g} images/s" if images_per_second < 100 else f"{images_per_second:,.0f} images/s"


def count(done: object, whole: object) -> str:
    """Format progress: "12 / 300"."""
    return f"{done if is_number(done) else 0} / {whole if is_number(whole) else UNKNOWN}"


def unexpected(error: Exception) -> str:
    """Return the message for an unexpected exception; the caller logs it."""
    return f"This failed unexpectedly ({type(error).__name__}); see the server's log."
