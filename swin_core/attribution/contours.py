"""Contour lines of attribution maps, as the browser's viewer draws them."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from swin_core.attribution.regions import bilinear

FIELD = 96
"""Maps of fewer values a side are enlarged to this before lines are searched."""
WIDTH = 1.5
"""Width of a line in pixels."""
_FINER = 8
"""Lines are drawn so many times larger, and reduced, for smooth edges."""


def contour_lines(values: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """Return the lines where a map `(h, w)` crosses the levels, by marching squares.

    Returns:
        Start and end of each piece, `(pieces, 2, 2)`: x and y in fractions of the map's width and height.
    """
    height, width = (max(side, FIELD) for side in values.shape)
    field = bilinear(values, height, width).astype(float)
    a, b, c, d = field[:-1, :-1], field[:-1, 1:], field[1:, 1:], field[1:, :-1]  # clockwise from the upper left
    y, x = np.mgrid[: height - 1, : width - 1]
    pieces = []
    for level in levels:
        above = np.stack([a, b, c, d]) >= level
        crossed = above != np.roll(above, -1, axis=0)  # upper, right, lower and left edge of each square

        def share(start: np.ndarray, end: np.ndarray, level: float = level) -> np.ndarray:
            with np.errstate(divide="ignore", invalid="ignore"):  # of edges that are not crossed
                return (level - start) / (end - start)

        upper, right = (x + share(a, b), y), (x + 1, y + share(b, c))
        lower, left = (x + share(d, c), y + 1), (x, y + share(a, d))
        points = np.stack([np.stack(np.broadcast_arrays(*edge), -1) for edge in (upper, right, lower, left)])
        # A square has two crossed edges or all four; the first two are joined, and the last two.
        order = np.argsort(~crossed, axis=0, kind="stable")
        ordered = np.take_along_axis(points, order[..., None], axis=0)
        for first, count in ((0, 2), (2, 4)):
            found = crossed.sum(0) >= count
            pieces.append(np.stack([ordered[first][found], ordered[first + 1][found]], axis=1))
    if not pieces:
        return np.zeros((0, 2, 2))
    return (np.concatenate(pieces) + 0.5) / (width, height)


def with_lines(image: np.ndarray, lines: np.ndarray) -> np.ndarray:
    """Return an image, `(H, W, 3)` uint8, with white lines as of `contour_lines`; a soft shadow lies around them."""
    if not len(lines):
        return image
    height, width = image.shape[:2]
    large = Image.new("L", (_FINER * width, _FINER * height))
    draw = ImageDraw.Draw(large)
    # Pillow counts from the centre of the first pixel, and the points from its corner.
    for start, end in (lines * large.size - 0.5).tolist():
        draw.line((*start, *end), fill=255, width=round(_FINER * WIDTH))
    line = large.reduce(_FINER)
    shadow = line.filter(ImageFilter.GaussianBlur(1))
    light, dark = (np.asarray(each, float)[..., None] / 255 for each in (line, shadow))
    return np.rint(image * (1 - dark) * (1 - light) + 255 * light).astype(np.uint8)
