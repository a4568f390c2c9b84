"""The pixels of a grid's images and cells as the viewer shows them, for files."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import cv2
import numpy as np
from PIL import Image

from swin_core.attribution.overlay import Look, enlarged, grey, overlay
from swin_core.attribution.regions import WHOLE, Region
from swin_core.figures.grid import Cell, Grid, MapCell, MapGrid, MapRow, Row

AnyCell = TypeVar("AnyCell", Cell, MapCell)
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
    if not look.wipe:
        return drawn
    bare = _without_map(cell.explanation.image, grid.is_almost_empty(cell), look)
    if look.wipe == "image":
        return _wiped(drawn, bare, look.split)
    other = _wiped_to(look, row.cells)
    if other is None or other.explanation is None:
        return drawn
    pixels = _drawn(grid, other, replace(look, contours=()))
    return _wiped(drawn, _over(bare, cell.explanation.region, pixels, other.explanation.region), look.split)


def map_overlay(grid: MapGrid, row: MapRow, cell: MapCell) -> np.ndarray:
    """Draw a map that is no explanation, as `cell_overlay`; the cell must have an image and a map."""
    assert cell.image is not None
    look, drawn = grid.look, _drawn_map(grid, cell, grid.look)
    if not look.wipe:
        return drawn
    bare = _without_map(cell.image, cell.is_empty, look)
    if look.wipe == "image":
        return _wiped(drawn, bare, look.split)
    other = _wiped_to(look, row.cells)
    if other is None:
        return drawn
    pixels = _drawn_map(grid, other, replace(look, contours=()))
    return _wiped(drawn, _over(bare, WHOLE, pixels, WHOLE), look.split)


def _wiped_to(look: Look, cells: Sequence[AnyCell]) -> AnyCell | None:
    """Return the cell that the wipe shows right of its line; None if there is none, or it has no map."""
    if not look.wipe.isdigit() or int(look.wipe) >= len(cells):
        return None
    other = cells[int(look.wipe)]
    return None if other.map is None else other


def _wiped(drawn: np.ndarray, right: np.ndarray, split: float) -> np.ndarray:
    """Return an image with another one of its size right of the wipe's line."""
    place = split * drawn.shape[1]
    wiped = np.concatenate([drawn[:, : round(place)], right[:, round(place) :]], axis=1)
    wiped[:, max(0, round(place - 1)) : round(place + 1)] = 255  # the line
    return wiped


def _drawn(grid: Grid, cell: Cell, look: Look) -> np.ndarray:
    assert cell.explanation is not None
    assert cell.map is not None
    if grid.is_almost_empty(cell):
        return _without_map(cell.explanation.image, True, look)
    return overlay(enlarged(cell.explanation.image), cell.map, grid.top(cell), look, grid.signed)


def _drawn_map(grid: MapGrid, cell: MapCell, look: Look) -> np.ndarray:
    assert cell.image is not None
    assert cell.map is not None
    if cell.is_empty:
        return _without_map(cell.image, True, look)
    image, values = enlarged(cell.image), cell.map
    if cell.nearest:  # `overlay` resizes smoothly what has another size than the image
        (height, width), (down, across) = image.shape[:2], values.shape
        values = values[np.arange(height) * down // height][:, np.arange(width) * across // width]
    return overlay(image, values, grid.top(cell), look, grid.signed)


def _without_map(image: np.ndarray, is_empty: bool, look: Look) -> np.ndarray:
    image = enlarged(image)
    if not look.image:
        return np.full_like(image, 255)
    return grey(image) if is_empty else image


def _over(image: np.ndarray, region: Region, pixels: np.ndarray, other: Region) -> np.ndarray:
    """Lay pixels of the region `other` of the photo, where they are in `region`, over an image of that region."""
    height, width = pixels.shape[:2]
    left, top, right, bottom = other
    across, down = width / (right - left), height / (bottom - top)
    box = (region[0] - left) * across, (region[1] - top) * down, (region[2] - left) * across, (region[3] - top) * down
    size, extent = image.shape[1::-1], Image.Transform.EXTENT
    laid = Image.fromarray(pixels).transform(size, extent, box, Image.Resampling.BILINEAR)
    seen = Image.new("1", (width, height), 1).transform(size, extent, box)
    return np.where(np.asarray(seen)[..., None], np.asarray(laid), image)
