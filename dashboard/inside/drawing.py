"""Windows, regions and attention laid over an image: arrays and line segments, no figure and no widget."""

import base64
import io

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import LinearSegmentedColormap
from PIL import Image

from dashboard.shared.theme import DIVERGING
from swin_core.anatomy.structure import PADDING, Places
from swin_core.figures.palette import SERIES
from swin_core.models.windows import Pair

__all__ = [
    "MARK",
    "TINTS",
    "colours_of",
    "edges",
    "enlarged",
    "heat",
    "label_places",
    "marked",
    "outline",
    "over_tokens",
    "pixel_uri",
    "rolled_view",
    "signed_colours",
    "tint_numbers",
    "tinted",
]

TINTS = (SERIES[0], SERIES[1], SERIES[2], SERIES[3], SERIES[4], SERIES[5])
"""Okabe and Ito's colours but for their yellow, which marks the token, and grey, which marks padding."""
MARK = SERIES[6]
"""The token that is looked at, in both themes and on any image, as its line has a dark one under it."""
TINT_WEIGHT = 0.34
PADDED = (127, 127, 127)
DIMMED = 0.42
"""What is left of the image's light where a token cannot look."""
MARKED_LEAST = 96
_SIGNED = LinearSegmentedColormap.from_list("signed", list(DIVERGING))

Segments = tuple[list[float | None], list[float | None]]
"""Horizontal and vertical positions of lines, with None between two of them."""


def enlarged(view: np.ndarray, least: int = 384) -> np.ndarray:
    """A view of few pixels with each of them as a square of several, so that no browser blurs it."""
    factor = max(1, -(-least // max(view.shape[:2])))
    return view.repeat(factor, 0).repeat(factor, 1)


def over_tokens(values: np.ndarray, token: Pair, size: Pair) -> np.ndarray:
    """Values of tokens, `(H, W, ...)`, for each pixel of an image of `size`, `(height, width, ...)`.

    Args:
        values: one for each token.
        token: pixels of a token, `(height, width)`.
        size: of the image in pixels; the last tokens may reach beyond it.
    """
    rows, columns = np.arange(size[0]) // token[0], np.arange(size[1]) // token[1]
    return values[np.minimum(rows, len(values) - 1)][:, np.minimum(columns, values.shape[1] - 1)]


def rolled_view(view: np.ndarray, places: Places, token: Pair) -> np.ndarray:
    """The image as the block lays it before windows are cut: rolled and padded, `(H' t_h, W' t_w, 3)` uint8."""
    high, wide = places.grid
    canvas = np.zeros((high * token[0], wide * token[1], 3), np.uint8)
    shown = view[: canvas.shape[0], : canvas.shape[1]]
    canvas[: shown.shape[0], : shown.shape[1]] = shown  # a last token may reach beyond the image
    tiles = canvas.reshape(high, token[0], wide, token[1], 3).swapaxes(1, 2).reshape(high * wide, *token, 3)
    laid = tiles[places.tokens]
    laid[places.tokens == PADDING] = PADDED
    rows, columns = places.tokens.shape
    return laid.swapaxes(1, 2).reshape(rows * token[0], columns * token[1], 3)


def tint_numbers(windows: np.ndarray) -> np.ndarray:
    """A number below `len(TINTS)` for each token, equal within a window, unequal where two windows meet.

    Args:
        windows: the number of the window of each token, `(H, W)`.
    """
    meet: dict[int, set[int]] = {int(number): set() for number in np.unique(windows)}
    for one, other in ((windows[1:], windows[:-1]), (windows[:, 1:], windows[:, :-1])):
        for first, second in np.unique(np.stack([one.ravel(), other.ravel()]), axis=1).T:
            if first != second:
                meet[int(first)].add(int(second))
                meet[int(second)].add(int(first))
    tint: dict[int, int] = {}
    for number in sorted(meet):
        # At most the four sides of a window meet others, so that five tints suffice.
        taken = {tint[other] for other in meet[number] if other in tint}
        start = (number + number // max(1, len(TINTS) - 1)) % len(TINTS)
        free = [(start + step) % len(TINTS) for step in range(len(TINTS))]
        tint[number] = next((one for one in free if one not in taken), start)
    return np.vectorize(tint.__getitem__, otypes=[int])(windows)


def tinted(picture: np.ndarray, tints: np.ndarray, keep: np.ndarray | None = None) -> np.ndarray:
    """An image, `(h, w, 3)` uint8, under the tint of each pixel, `(h, w)`; plain where `keep` is False."""
    palette = np.array([[int(tint[place : place + 2], 16) for place in (1, 3, 5)] for tint in TINTS], float)
    weight = np.full(picture.shape[:2], TINT_WEIGHT)
    if keep is not None:
        weight[~keep] = 0
    return np.rint(picture * (1 - weight[..., None]) + palette[tints] * weight[..., None]).astype(np.uint8)


def heat(picture: np.ndarray, values: np.ndarray, top: float, seen: np.ndarray | None = None) -> np.ndarray:
    """An image, `(h, w, 3)` uint8, under a heat map of its pixels, dark where a token cannot look.

    Args:
        image: what lies below.
        values: `(h, w)`, non-negative.
        top: the value at the top of the scale.
        seen: where the token can look, `(h, w)` bool; None for everywhere.
    """
    fraction = np.clip(values / top, 0, 1) if top > 0 else np.zeros(values.shape)
    weight = (0.15 + 0.75 * np.sqrt(fraction))[..., None]
    mixed = picture * (1 - weight) + 255 * colormaps["viridis"](fraction)[..., :3] * weight
    if seen is not None:
        mixed = np.where(seen[..., None], mixed, picture * DIMMED)
    return np.rint(mixed).astype(np.uint8)


def edges(numbers: np.ndarray, token: Pair, size: Pair) -> Segments:
    """The lines between tokens whose numbers differ, and around the image; positions in pixels.

    Args:
        numbers: `(H, W)`.
        token: pixels of a token, `(height, width)`.
        size: of the image, beyond which no line is drawn.
    """
    xs: list[float | None] = []
    ys: list[float | None] = []
    for across in (False, True):
        table = numbers.T if across else numbers
        (step, along), (end, stop) = (token, size) if across else (token[::-1], size[::-1])
        # A column that is no number in the table lies before the first and behind the last.
        differs = np.ones((table.shape[0], table.shape[1] + 1), bool)
        differs[:, 1:-1] = table[:, 1:] != table[:, :-1]
        for column in range(differs.shape[1]):
            for first, last in _runs(differs[:, column]):
                place = float(min(column * step, end))
                span = [float(min(first * along, stop)), float(min(last * along, stop))]
                (ys if across else xs).extend([place, place, None])
                (xs if across else ys).extend([*span, None])
    return xs, ys


def _runs(flags: np.ndarray) -> list[Pair]:
    """Where runs of True begin and end."""
    turns = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(int)))
    return [(int(first), int(last)) for first, last in zip(turns[::2], turns[1::2], strict=True)]


def outline(place: Pair, token: Pair, size: Pair) -> Segments:
    """The outline of one token."""
    top, left = place[0] * token[0], place[1] * token[1]
    bottom, right = min(top + token[0], size[0]), min(left + token[1], size[1])
    return [left, right, right, left, left], [top, top, bottom, bottom, top]


def label_places(numbers: np.ndarray, token: Pair) -> list[tuple[float, float, int]]:
    """The middle of each connected part of equal numbers, in pixels, x and y, with its number."""
    left_over = numbers.copy()
    found = []
    for row, column in np.ndindex(*numbers.shape):
        number = int(left_over[row, column])
        if number == PADDING:
            continue
        # Parts of windows are rectangles: as far as the number goes on to the right and down.
        right, bottom = column, row
        while right + 1 < numbers.shape[1] and left_over[row, right + 1] == number:
            right += 1
        while bottom + 1 < numbers.shape[0] and left_over[bottom + 1, column] == number:
            bottom += 1
        left_over[row : bottom + 1, column : right + 1] = PADDING
        found.append(((column + right + 1) / 2 * token[1], (row + bottom + 1) / 2 * token[0], number))
    return found


def pixel_uri(picture: np.ndarray) -> str:
    """A small image, `(h, w, 3)` uint8, as a PNG data URI: a page enlarges its pixels, and none may be lost."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def colours_of(values: np.ndarray, top: float) -> np.ndarray:
    """Values from 0 to `top` as colours, `(..., 3)` uint8."""
    fraction = np.clip(values / top, 0, 1) if top > 0 else np.zeros(values.shape)
    return np.rint(255 * colormaps["viridis"](fraction)[..., :3]).astype(np.uint8)


def signed_colours(values: np.ndarray) -> np.ndarray:
    """Values of both signs as colours, 0 in the middle of the scale, `(..., 3)` uint8."""
    top = float(np.abs(values).max()) or 1.0
    return np.rint(255 * _SIGNED((values / top + 1) / 2)[..., :3]).astype(np.uint8)


def marked(picture: np.ndarray, cell: Pair) -> np.ndarray:
    """A small image with its cells as squares, one of them framed."""
    side = max(4, -(-MARKED_LEAST // max(picture.shape[:2])))
    large = picture.repeat(side, 0).repeat(side, 1)
    top, left = cell[0] * side, cell[1] * side
    own = large[top : top + side, left : left + side]
    width = max(1, side // 6)
    inner = own[width:-width, width:-width].copy()
    own[:] = [int(MARK[place : place + 2], 16) for place in (1, 3, 5)]
    own[width:-width, width:-width] = inner
    return large
