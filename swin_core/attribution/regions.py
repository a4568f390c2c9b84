"""Regions of images and maps: resizing part of a map, and what two crops have in common."""

import numpy as np

Region = tuple[float, float, float, float]
"""Left, top, right and bottom."""

WHOLE = (0.0, 0.0, 1.0, 1.0)
"""The region that covers a whole map, as fractions of its sides."""


def bilinear(values: np.ndarray, height: int, width: int, part: Region = WHOLE) -> np.ndarray:
    """Return a map `(h, w)`, or a part of it, resized to `(height, width)`, float32.

    Cell centres keep their values, and edges are extended. Equals `F.interpolate(mode="bilinear",
    align_corners=False)` when it enlarges, and the browser's smooth heat map, so that pages and exports agree.
    """
    rows, row_weight = _neighbours(values.shape[0], height, part[1], part[3])
    columns, column_weight = _neighbours(values.shape[1], width, part[0], part[2])
    values = values.astype(np.float32)
    blended = values[rows[0]] * (1 - row_weight)[:, None] + values[rows[1]] * row_weight[:, None]
    return blended[:, columns[0]] * (1 - column_weight) + blended[:, columns[1]] * column_weight


def _neighbours(
    source: int, target: int, start: float, stop: float
) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Return the two nearest of `source` cell centres for each of `target` samples, and the second's weight."""
    sample = start + (np.arange(target) + 0.5) * (stop - start) / target
    position = np.clip(sample * source - 0.5, 0, source - 1)
    first = np.floor(position).astype(int)
    second = np.minimum(first + 1, source - 1)
    return (first, second), (position - first).astype(np.float32)


def common_parts(first: Region, second: Region) -> tuple[Region, Region] | None:
    """Return the intersection of two regions as fractions of each, or None if they do not overlap."""
    left, top = max(first[0], second[0]), max(first[1], second[1])
    right, bottom = min(first[2], second[2]), min(first[3], second[3])
    if left >= right or top >= bottom:
        return None

    def fractions(region: Region) -> Region:
        x, y, width, height = region[0], region[1], region[2] - region[0], region[3] - region[1]
        return (left - x) / width, (top - y) / height, (right - x) / width, (bottom - y) / height

    return fractions(first), fractions(second)
