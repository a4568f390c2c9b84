"""Windows, regions and attention drawn on an image: arrays and line segments only.

Sizes are `(height, width)`; a position is `(x, y)` in pixels of the model's input.
"""

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, to_rgb

from dashboard.shared.theme import DIVERGING_SCALE
from swin_core.anatomy.structure import PADDING, WindowPositions
from swin_core.attribution.overlay import Look, colors
from swin_core.figures.grid import Mark
from swin_core.figures.palette import SERIES
from swin_core.models.windows import Pair

TINTS = SERIES[:6]
"""Okabe and Ito's colours without yellow, which marks the query token, and grey, which marks padding."""
MARK = SERIES[6]
"""Colour of the query token's outline."""
HALO = "rgba(0,0,0,0.6)"
"""Colour under a light line."""
TINT_WEIGHT = 0.34
PADDED = (127, 127, 127)
DIMMED = "rgb(0 0 0 / 0.58)"
"""Laid over the image outside the token's window."""
LEAST_CELL_IMAGE = 96
_SIGNED = LinearSegmentedColormap.from_list("signed", list(DIVERGING_SCALE))

Segments = tuple[list[float | None], list[float | None]]
"""x and y of lines, with None between two lines."""


def enlarge(image: np.ndarray, least: int = 384) -> np.ndarray:
    """Repeat the pixels of a small image until its longer side has at least `least`, so that no browser blurs it."""
    factor = max(1, -(-least // max(image.shape[:2])))
    return image.repeat(factor, 0).repeat(factor, 1)


def over_tokens(values: np.ndarray, token: Pair, size: Pair, scale: int = 1) -> np.ndarray:
    """Repeat the value of each token over its pixels.

    Args:
        values: `(H, W, ...)`.
        token: size of a token in pixels.
        size: size of the image in pixels; the last tokens may reach beyond it.
        scale: factor by which the image is enlarged.

    Returns:
        `(scale * height, scale * width, ...)`.
    """
    rows = np.arange(scale * size[0]) // (scale * token[0])
    columns = np.arange(scale * size[1]) // (scale * token[1])
    return values[np.minimum(rows, len(values) - 1)][:, np.minimum(columns, values.shape[1] - 1)]


def rolled_view(view: np.ndarray, positions: WindowPositions, token: Pair) -> np.ndarray:
    """Roll and pad the image as the block does before it cuts windows: `(H' t_h, W' t_w, 3)` uint8."""
    height, width = positions.grid
    canvas = np.zeros((height * token[0], width * token[1], 3), np.uint8)
    cropped = view[: canvas.shape[0], : canvas.shape[1]]
    canvas[: cropped.shape[0], : cropped.shape[1]] = cropped  # the last tokens may reach beyond the image
    tiles = canvas.reshape(height, token[0], width, token[1], 3).swapaxes(1, 2).reshape(height * width, *token, 3)
    rolled = tiles[positions.tokens]  # (H', W', t_h, t_w, 3)
    rolled[positions.tokens == PADDING] = PADDED
    rows, columns = positions.tokens.shape
    return rolled.swapaxes(1, 2).reshape(rows * token[0], columns * token[1], 3)


def tint_indices(windows: np.ndarray) -> np.ndarray:
    """Assign each window an index into `TINTS` that differs from those of its neighbours.

    Args:
        windows: the window of each token, `(H, W)`.

    Returns:
        `(H, W)`.
    """
    neighbours: dict[int, set[int]] = {int(window): set() for window in np.unique(windows)}
    for one, other in ((windows[1:], windows[:-1]), (windows[:, 1:], windows[:, :-1])):
        for first, second in np.unique(np.stack([one.ravel(), other.ravel()]), axis=1).T:
            if first != second:
                neighbours[int(first)].add(int(second))
                neighbours[int(second)].add(int(first))
    index: dict[int, int] = {}
    for window in sorted(neighbours):
        # A window has at most four neighbours, so there is a free tint among five.
        taken = {index[other] for other in neighbours[window] if other in index}
        start = window + window // (len(TINTS) - 1)
        candidates = [(start + step) % len(TINTS) for step in range(len(TINTS))]
        index[window] = next((i for i in candidates if i not in taken), candidates[0])
    return np.vectorize(index.__getitem__, otypes=[int])(windows)


def tint(image: np.ndarray, indices: np.ndarray, keep: np.ndarray | None = None) -> np.ndarray:
    """Blend each pixel of an image, `(h, w, 3)` uint8, with its tint, `(h, w)`; not where `keep` is False."""
    palette = 255 * np.array([to_rgb(colour) for colour in TINTS])
    weight = np.full((*image.shape[:2], 1), TINT_WEIGHT)
    if keep is not None:
        weight[~keep] = 0
    return np.rint(image * (1 - weight) + palette[indices] * weight).astype(np.uint8)


def edges(windows: np.ndarray, token: Pair, size: Pair) -> Segments:
    """Return the lines between tokens of different windows, and around the image.

    Args:
        windows: the window of each token, `(H, W)`.
        token: size of a token in pixels.
        size: size of the image in pixels; lines end there.
    """
    xs: list[float | None] = []
    ys: list[float | None] = []
    for horizontal in (False, True):
        table = windows.T if horizontal else windows
        (step, along), (end, stop) = (token, size) if horizontal else (token[::-1], size[::-1])
        differs = np.ones((table.shape[0], table.shape[1] + 1), bool)  # the outer borders always differ
        differs[:, 1:-1] = table[:, 1:] != table[:, :-1]
        for column in range(differs.shape[1]):
            position = float(min(column * step, end))
            changes = np.flatnonzero(np.diff(differs[:, column].astype(int), prepend=0, append=0))
            for first, last in changes.reshape(-1, 2).tolist():  # runs of tokens along the line
                span = [float(min(first * along, stop)), float(min(last * along, stop))]
                (ys if horizontal else xs).extend([position, position, None])
                (xs if horizontal else ys).extend([*span, None])
    return xs, ys


def line_marks(segments: Segments, size: Pair, width: float = 1.6, colour: str = "#FFFFFF") -> tuple[Mark, Mark]:
    """Return segments as marks of the viewer: light over dark, so that they show on any image."""
    parts, begins = [], True
    for x, y in zip(*segments, strict=True):
        if x is not None and y is not None:
            parts.append(f"{'M' if begins else 'L'}{x / size[1]:.5f} {y / size[0]:.5f}")
        begins = x is None
    path = "".join(parts)
    return Mark(path, HALO, width + 2.4), Mark(path, colour, width)


def outside_mark(own: np.ndarray, token: Pair, size: Pair) -> Mark:
    """Return a mark that dims the image outside the tokens of a window, `(H, W)` bool, whose parts are rectangles."""
    path = "M0 0H1V1H0Z"
    rows, columns = (
        np.flatnonzero(np.diff(own.any(axis).astype(int), prepend=0, append=0)).reshape(-1, 2) for axis in (1, 0)
    )
    for top, bottom in np.minimum(rows * token[0] / size[0], 1):
        for left, right in np.minimum(columns * token[1] / size[1], 1):
            path += f"M{left:.5f} {top:.5f}H{right:.5f}V{bottom:.5f}H{left:.5f}Z"
    return Mark(path, fill=DIMMED)


def outline(cell: Pair, token: Pair, size: Pair) -> Segments:
    """Return the outline of the token at a row and column."""
    top, left = cell[0] * token[0], cell[1] * token[1]
    bottom, right = min(top + token[0], size[0]), min(left + token[1], size[1])
    return [left, right, right, left, left], [top, top, bottom, bottom, top]


def window_labels(windows: np.ndarray, token: Pair) -> list[tuple[float, float, int]]:
    """Return x and y of the centre of each connected part of a window, and the window's number."""
    remaining = windows.copy()
    labels = []
    for row, column in np.ndindex(*windows.shape):
        window = int(remaining[row, column])
        if window == PADDING:
            continue
        # Parts of windows are rectangles.
        right, bottom = column, row
        while right + 1 < windows.shape[1] and remaining[row, right + 1] == window:
            right += 1
        while bottom + 1 < windows.shape[0] and remaining[bottom + 1, column] == window:
            bottom += 1
        remaining[row : bottom + 1, column : right + 1] = PADDING
        labels.append(((column + right + 1) / 2 * token[1], (row + bottom + 1) / 2 * token[0], window))
    return labels


def sequential_colours(values: np.ndarray, top: float) -> np.ndarray:
    """Map values from 0 to `top` to colours, `(..., 3)` uint8."""
    fraction = np.clip(values / top, 0, 1) if top > 0 else np.zeros(values.shape)
    return np.rint(255 * colors(Look(), fraction, signed=False)).astype(np.uint8)


def signed_colours(values: np.ndarray) -> np.ndarray:
    """Map signed values to a diverging scale around 0, `(..., 3)` uint8."""
    top = float(np.abs(values).max()) or 1.0
    return np.rint(255 * _SIGNED((values / top + 1) / 2)[..., :3]).astype(np.uint8)


def mark_cell(image: np.ndarray, cell: Pair) -> np.ndarray:
    """Enlarge a small image, one pixel for each token, and frame the pixel at a row and column."""
    side = max(4, -(-LEAST_CELL_IMAGE // max(image.shape[:2])))
    large = image.repeat(side, 0).repeat(side, 1)
    top, left = cell[0] * side, cell[1] * side
    square = large[top : top + side, left : left + side]
    width = max(1, side // 6)
    inner = square[width:-width, width:-width].copy()
    square[:] = np.rint(255 * np.array(to_rgb(MARK)))
    square[width:-width, width:-width] = inner
    return large
