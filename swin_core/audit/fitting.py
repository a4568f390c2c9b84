"""Fit the rectangle of a finding to its mark, by how far its removal lowers the class's probability."""

from collections.abc import Callable
from functools import cache

import numpy as np

from swin_core.audit.maps import GRID

REACH = 3
"""Cells by which a rectangle may grow on each side at first."""
FINEST = 4
"""Steps in a cell, if the image has as many pixels there: 64ths of the image's side."""
DENSE = 3
"""A strip of a rectangle must hold this many times its share of the image in the fall of p(class). A mark is far
denser; the object around it, whose removal lowers p(class) too, is not."""

Edges = tuple[int, int, int, int]
"""Left, top, right and bottom, in steps."""


def fitted_mask(mask: np.ndarray, side: int, fall: Callable[[np.ndarray], float]) -> np.ndarray:
    """Return a rectangle that fits a mark, `(n, n)` bool; n is `GRID` times the steps in a cell.

    Where no removal lowers p(class), it is `mask` itself.

    A part of a mark may be enough to turn other images, but the class's own images still have the rest of it, and the
    fill of a region restores a mark that lies around it. So the rectangle first grows on all sides at once. Then each
    side moves in and out, in smaller and smaller steps. The best rectangle has the largest fall for its area: the
    fall, as a share of the largest one of all rectangles that were tried so far, less `DENSE` times the area. If only
    the first rectangles counted, and held no mark, area would cost next to nothing, and the best one would be the whole
    image.

    Args:
        mask: the rectangle at first, `(GRID, GRID)` bool.
        side: side of the images in pixels; no step is smaller than one.
        fall: returns how far the removal of a mask lowers p(class).
    """
    steps = min(FINEST, max(1, side // GRID))
    count = GRID * steps
    rows, columns = np.flatnonzero(mask.any(1)).tolist(), np.flatnonzero(mask.any(0)).tolist()

    @cache
    def fall_of(edges: Edges) -> float:
        return fall(rectangle(edges, count))

    def grow(cells: int) -> Edges:
        left, top = max(0, columns[0] - cells), max(0, rows[0] - cells)
        right, bottom = min(GRID, columns[-1] + 1 + cells), min(GRID, rows[-1] + 1 + cells)
        return left * steps, top * steps, right * steps, bottom * steps

    grown = [grow(cells) for cells in range(REACH + 1)]
    most = max(map(fall_of, grown))
    if most <= 0:
        return mask

    def worth(edges: Edges) -> float:
        left, top, right, bottom = edges
        return fall_of(edges) - DENSE * most * (right - left) * (bottom - top) / count**2

    best = max(grown, key=worth)
    # A side that starts beyond the object must pass it in one step, since each part of an object counts a little.
    step = (REACH + 1) * steps
    while step:
        before = best, most
        for edge in range(4):
            for by in (-step, step):
                while (moved := _moved(best, edge, by, count)) is not None:
                    most = max(most, fall_of(moved))
                    if worth(moved) <= worth(best):
                        break
                    best = moved
        if (best, most) == before:
            step //= 2
    return rectangle(best, count)


def rectangle(edges: Edges, count: int) -> np.ndarray:
    """Return a rectangle as a mask, `(count, count)` bool."""
    left, top, right, bottom = edges
    mask = np.zeros((count, count), bool)
    mask[top:bottom, left:right] = True
    return mask


def _moved(edges: Edges, edge: int, by: int, count: int) -> Edges | None:
    """Return edges with one of them moved; None where nothing would be left, or beyond the image."""
    moved = list(edges)
    moved[edge] += by
    left, top, right, bottom = moved
    return (left, top, right, bottom) if 0 <= left < right <= count and 0 <= top < bottom <= count else None
