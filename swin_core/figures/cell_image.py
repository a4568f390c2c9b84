"""The pixels of a grid's images and cells as the viewer shows them, for files."""

from dataclasses import replace

import cv2
import numpy as np
from PIL import Image

from swin_core.attribution.explanation import Explanation
from swin_core.attribution.overlay import Look, enlarged, grey, overlay
from swin_core.figures.grid import Cell, Grid, Row

_SIDE = 256
"""Side of an image at which the outline of a region is one pixel black and one white."""


def row_image(row: Row) -> np.ndarray:
    """Return a row's image, `(H, W, 3)` uint8, with the outline of the region that was replaced in it."""
    image = enlarged(row.thumbnail)
    if row.edit is None:
        return image
    side = min(image.shape[:2])
    width, height = row.image.size if row.image is not None else (side, side)
    scale = side / min(width, height)
    width, height = round(width * scale), round(height * scale)
    left, top = (width - side) // 2, (height - side) // 2
    mask = row.edit.strokes.mask(height, width)[top : top + side, left : left + side].astype(np.uint8)
    reach = max(1, round(side / _SIDE))
    near, far = (cv2.dilate(mask, _disc(steps * reach)) > mask for steps in (1, 2))
    image = np.where(far[..., None], np.uint8(255), image)
    return np.where(near[..., None], np.uint8(0), image)


def _disc(radius: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))


def cell_overlay(grid: Grid, row: Row, cell: Cell) -> np.ndarray:
    """Draw a cell, which must have a map, on the grid's scale and in its look, `(H, W, 3)` uint8."""
    assert cell.explanation is not None
    look, drawn = grid.look, _drawn(grid, cell, grid.look)
    if look.wipe == "image":
        right = _without_map(grid, cell, look)
    elif look.wipe and int(look.wipe) < len(row.cells) and row.cells[int(look.wipe)].explanation is not None:
        right = _over(_without_map(grid, cell, look), cell.explanation.region, grid, row.cells[int(look.wipe)])
    else:
        return drawn
    place = look.split * drawn.shape[1]
    wiped = np.concatenate([drawn[:, : round(place)], right[:, round(place) :]], axis=1)
    wiped[:, max(0, round(place - 1)) : round(place + 1)] = 255  # the line
    return wiped


def _drawn(grid: Grid, cell: Cell, look: Look) -> np.ndarray:
    if cell.explanation is None or cell.map is None or grid.is_almost_empty(cell):
        return _without_map(grid, cell, look)
    return overlay(enlarged(cell.explanation.image), cell.map, grid.top(cell), look, grid.signed)


def _without_map(grid: Grid, cell: Cell, look: Look) -> np.ndarray:
    assert cell.explanation is not None
    image = enlarged(cell.explanation.image)
    if not look.image:
        return np.full_like(image, 255)
    return grey(image) if grid.is_almost_empty(cell) else image


def _over(image: np.ndarray, region: tuple[float, float, float, float], grid: Grid, other: Cell) -> np.ndarray:
    """Lay another cell, where it shows the same part of the photo, over an image of a region of the photo."""
    explanation: Explanation | None = other.explanation
    assert explanation is not None
    pixels = _drawn(grid, other, replace(grid.look, contours=()))
    height, width = pixels.shape[:2]
    left, top, right, bottom = explanation.region
    across, down = width / (right - left), height / (bottom - top)
    box = (region[0] - left) * across, (region[1] - top) * down, (region[2] - left) * across, (region[3] - top) * down
    size, extent = image.shape[1::-1], Image.Transform.EXTENT
    laid = Image.fromarray(pixels).transform(size, extent, box, Image.Resampling.BILINEAR)
    seen = Image.new("1", (width, height), 1).transform(size, extent, box)
    return np.where(np.asarray(seen)[..., None], np.asarray(laid), image)
