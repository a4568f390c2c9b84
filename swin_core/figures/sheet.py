"""A sheet for print: maps over images, small images and charts, with words below them."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from swin_core.attribution.overlay import bar_colors, enlarged
from swin_core.figures.cell_image import map_overlay
from swin_core.figures.fonts import fonts_for
from swin_core.figures.grid import MapGrid, Mark
from swin_core.figures.matplotlib_page import CAPTION_COLUMNS, CELL, GAP, LINE, MARGIN, Page
from swin_core.figures.text import wrap

INNER = 4 * CELL + 3 * GAP
"""Width of a sheet without its margins, in inches; what does not fit stands in a further row."""
POINTS_PER_PIXEL = 0.45
"""Width of a line in print, in points, for each pixel of its width on the screen, where images are larger."""

_RGB = re.compile(r"rgba?\(([^)]*)\)")
_PATH = re.compile(r"([MLHVZ])|([-+]?[0-9.]+)")


@dataclass(frozen=True)
class Tile:
    """An image or a chart, with words below it."""

    title: str
    image: np.ndarray | None = None
    """`(H, W, 3)` uint8, or None for a chart, or for a tile of words."""
    notes: tuple[str, ...] = ()
    marks: tuple[Mark, ...] = ()
    """Lines and areas over the image."""
    chart: Callable[[Axes], None] | None = None
    """Draws a chart into empty axes."""
    width: float = CELL
    """In inches."""
    height: float = CELL
    """Of a chart, in inches; an image keeps its proportions."""


Part = MapGrid | tuple[Tile, ...]
"""What stands in a row of its own."""


def sheet_figure(title: str, notes: Sequence[str], parts: Sequence[Part]) -> Figure:
    """Draw a sheet.

    Args:
        title: its heading.
        notes: sentences below the heading.
        parts: from top to bottom.
    """
    columns = int(INNER / CELL * CAPTION_COLUMNS)
    head = [wrap(title, columns), [line for note in notes for line in wrap(note, columns)]]
    grids = [part for part in parts if isinstance(part, MapGrid)]
    foot = wrap(_legend(grids[0]), columns - CAPTION_COLUMNS // 2) if grids else []
    rows = [row for part in parts for row in _rows(_tiles(part) if isinstance(part, MapGrid) else part)]
    tops, y = [], MARGIN + LINE * (len(head[0]) + len(head[1]) + 0.8)
    for row in rows:
        tops.append(y)
        lines = max(sum(map(len, _words(tile))) for tile in row)
        y += max(map(_height, row)) + LINE * (lines + 1)
    texts = [title, *notes, *foot, *(text for row in rows for tile in row for text in (tile.title, *tile.notes))]
    size = (2 * MARGIN + INNER, y + LINE * len(foot) + MARGIN)
    page = Page(Figure(figsize=size, facecolor="white"), fonts_for(texts))
    page.text(MARGIN, MARGIN, head[0], bold=True)
    page.text(MARGIN, MARGIN + LINE * len(head[0]), head[1])
    for row, top in zip(rows, tops, strict=True):
        x = MARGIN
        for tile in row:
            _draw(page, tile, x, top)
            x += tile.width + GAP
    if grids:
        page.image(MARGIN, y, bar_colors(grids[0].look, 256, grids[0].signed)[None], width=CELL / 2, height=0.1)
        page.text(MARGIN + CELL / 2 + 0.1, y - 0.02, foot)
    return page.figure


def _rows(tiles: Sequence[Tile]) -> Iterator[list[Tile]]:
    """Spread tiles over rows that fit the sheet."""
    row: list[Tile] = []
    for tile in tiles:
        if row and sum(each.width + GAP for each in row) + tile.width > INNER + 1e-6:
            yield row
            row = []
        row.append(tile)
    if row:
        yield row


def _height(tile: Tile) -> float:
    return tile.height if tile.image is None else tile.width * tile.image.shape[0] / tile.image.shape[1]


def _words(tile: Tile) -> tuple[list[str], list[str]]:
    """Return the lines of the title and of the notes."""
    columns = int(CAPTION_COLUMNS * tile.width / CELL)
    return wrap(tile.title, columns), [line for note in tile.notes for line in wrap(note, columns)]


def _draw(page: Page, tile: Tile, x: float, y: float) -> None:
    height = _height(tile)
    if tile.image is not None:
        image = enlarged(tile.image)
        for mark in tile.marks:
            image = _filled(image, mark)
        axes = page.axes(x, y, tile.width, height)
        # In fractions of the image, as marks are.
        axes.imshow(image, aspect="auto", interpolation="auto", extent=(0, 1, 1, 0))
        for mark in tile.marks:
            for line in _polylines(mark.path) if mark.stroke else []:
                width = mark.width * POINTS_PER_PIXEL
                axes.plot(*zip(*line, strict=True), color=css_colour(mark.stroke), linewidth=width)
        axes.set(xlim=(0, 1), ylim=(1, 0))
        axes.set_axis_off()
    elif tile.chart is not None:
        tile.chart(page.axes(x, y, tile.width, height))
    title, notes = _words(tile)
    below = y + height + LINE * 0.3
    page.text(x, below, title, bold=True)
    page.text(x, below + LINE * len(title), notes)


def css_colour(text: str) -> tuple[float, float, float, float]:
    """Return a colour of CSS, such as "#0072B2" or "rgb(0 0 0 / 0.5)", as red, green, blue and opacity in [0, 1]."""
    if match := _RGB.fullmatch(text):
        red, green, blue, *opacity = map(float, re.findall(r"[0-9.]+", match[1]))
        return red / 255, green / 255, blue / 255, opacity[0] if opacity else 1.0
    return to_rgba(text)


def _polylines(path: str) -> list[list[tuple[float, float]]]:
    """Return the lines of an SVG path of M, L, H, V and Z."""
    lines: list[list[tuple[float, float]]] = []
    command, numbers = "", list[float]()
    for letter, number in _PATH.findall(path):
        if letter:
            command, numbers = letter, []
            if letter == "Z":
                lines[-1].append(lines[-1][0])
            continue
        numbers.append(float(number))
        if command in "HV":
            x, y = lines[-1][-1]
            lines[-1].append((numbers[0], y) if command == "H" else (x, numbers[0]))
            numbers = []
        elif len(numbers) == 2:
            if command == "M":
                lines.append([])
            lines[-1].append((numbers[0], numbers[1]))
            numbers = []
    return lines


def _filled(image: np.ndarray, mark: Mark) -> np.ndarray:
    """Lay the area of a mark over an image, by the even-odd rule."""
    if not mark.fill:
        return image
    height, width = image.shape[:2]
    area = np.zeros((height, width), bool)
    for line in _polylines(mark.path):
        polygon = Image.new("1", (width, height))
        # Pillow counts from the centre of the first pixel, and the points from its corner.
        ImageDraw.Draw(polygon).polygon([(x * width - 0.5, y * height - 0.5) for x, y in line], fill=1)
        area ^= np.asarray(polygon)
    *colour, opacity = css_colour(mark.fill)
    blended = image * (1 - opacity) + 255 * np.array(colour) * opacity
    return np.where(area[..., None], np.rint(blended).astype(np.uint8), image)


def _tiles(grid: MapGrid) -> list[Tile]:
    """Return the images and the maps of a grid as the viewer draws them."""
    tiles = []
    for row in grid.rows:
        if row.image is not None:
            tiles.append(Tile(row.title, row.image, marks=row.marks))
        for title, cell in zip(grid.columns, row.cells, strict=True):
            if cell.image is None or cell.map is None:
                tiles.append(Tile(title, notes=(cell.error,)))
                continue
            notes = (cell.headline, cell.magnitude_text if grid.look.raw else "", *cell.notes)
            tiles.append(Tile(title, map_overlay(grid, row, cell), tuple(filter(None, notes)), cell.marks))
    return tiles


def _legend(grid: MapGrid) -> str:
    """Return the scale, the colours, the opacity and the lines over the maps as text."""
    look = grid.look
    scale = "one scale for all maps" if look.scale == "shared" else "each map on a scale of its own"
    colours = "blue to orange, orange for, blue against" if grid.signed else look.colormap
    threshold = f"; transparent below {100 * look.threshold:.0f} %" if look.threshold else ""
    lines = f"; {grid.lines_name}" if grid.lines_name else ""
    return f"{colours}; {scale}; opacity {look.opacity:g}{threshold}{lines}"
