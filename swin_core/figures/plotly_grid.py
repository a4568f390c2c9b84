"""The grid of heat maps as one Plotly figure, and its layout on a page.

Each cell is an image (a JPEG of about 30 KB) under a heat map with the attribution map's own few values, which the
browser interpolates. So a page stays light, and changing the opacity transfers no pixels. All text from outside is
escaped, because Plotly reads a little HTML.
"""

import math
from dataclasses import dataclass, replace
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go

from swin_core.attribution.overlay import bar_colors, color_scale
from swin_core.figures.grid import Cell, Grid, Row
from swin_core.figures.text import NO_BREAK, shorten, wrap
from swin_core.images.data_uri import image_uri

CONFIG = {"showSendToCloud": False, "displayModeBar": False}
"""Plotly settings of every figure: no upload to Plotly's cloud, and no tool bar over the titles.

Dragging over a cell zooms all cells, dragging with the shift key moves them, and a double click resets the view.
"""

CELL_PIXELS = 160
"""Minimum width of a cell: on a narrower page the grid scrolls."""
CAPTION_COLUMNS, FONT_PIXELS, LINE_PIXELS = 22, 13, 18
"""Captions: columns of text that fit into `CELL_PIXELS`, font size, and height reserved for a line."""
TEXT_PIXELS, BADGE_GAP_PIXELS = 16.9, 2
"""Height that Plotly gives a caption's line, and the gap between an image and its caption."""
REASON_COLUMNS, REASON_FONT_PIXELS, REASON_LINE_PIXELS = 24, 11, 15
"""The same as `CAPTION_COLUMNS`, `FONT_PIXELS` and `LINE_PIXELS`, for the reason in a cell without a map."""
POINTER_CELLS, LEVELS = 64, 127
"""Maps larger than 64 x 64 are quantised to 8 bits; hover values come from a 64 x 64 grid."""
GAP = 0.014
"""Space between two cells, as a fraction of the figure's width."""
HEAD_PIXELS, CAPTION_GAP_PIXELS, PADDING_PIXELS = 10, 16, 9
FOOT_PIXELS = 40
"""Height of the colour bar: with less, Plotly shrinks the rows and badges are misplaced."""
BAR_PIXELS = 90
PANEL_COLOR = "rgba(128,128,128,0.14)"

Spec = dict[str, Any]
"""Part of a Plotly figure as plain data."""

LEFT_ALIGNED: Spec = {"x": 0, "xanchor": "left", "align": "left", "showarrow": False}
"""What all annotations have in common."""


@dataclass(frozen=True)
class PageLayout:
    """Size of a grid on a page, in pixels."""

    rows: int
    columns: int
    """Columns of cells, including the one with the images."""
    head: int
    """Height of the column titles."""
    caption: int
    """Height of the captions under one row."""

    def badge_position(self, row: int, column: int, headline: int) -> tuple[float, float, float]:
        """Return the position of a cell's badge, in the line that `Grid.badge_room` leaves free.

        Args:
            row: index of the row.
            column: index of the column; 0 holds the images.
            headline: lines of the caption's headline.

        Returns:
            Left side as a fraction of the figure's width, then the top as a sum: pixels, and a fraction of the width.
        """
        left = column * (self.cell_fraction + GAP)
        pixels = self.head + row * self.caption + BADGE_GAP_PIXELS + headline * TEXT_PIXELS
        return left, pixels, (row + 1) * self.cell_fraction

    @property
    def least_width(self) -> int:
        """Width below which captions would overlap."""
        return round(CELL_PIXELS / self.cell_fraction)

    @property
    def cell_fraction(self) -> float:
        """Width of a cell as a fraction of the figure's width."""
        return (1 - GAP * (self.columns - 1)) / self.columns

    @property
    def fixed_height(self) -> int:
        """Part of the height that does not depend on the width."""
        return self.head + FOOT_PIXELS + self.rows * self.caption

    def height(self, width: float) -> float:
        """Return the height at which cells are square for a given width."""
        return self.fixed_height + self.rows * self.cell_fraction * width


def page_layout(grid: Grid) -> PageLayout:
    """Return the grid's size on a page, with room for its longest title and caption.

    Each row has room for at least 3 lines (4 with badges), so that the page does not jump when a caption arrives late.
    """
    lines = 4 if grid.badge_room else 3
    for row in grid.rows:
        lines = max(lines, len(wrap(row.title, CAPTION_COLUMNS)))
        for cell in row.cells:
            headline, notes = _caption_lines(grid, row, cell)
            # A long reason continues below its cell, into the room for captions.
            reason = REASON_LINE_PIXELS * len(wrap(cell.error, REASON_COLUMNS)) + 2 * PADDING_PIXELS
            lines = max(lines, len(headline) + len(notes), math.ceil((reason - CELL_PIXELS) / LINE_PIXELS))
    head = max((len(wrap(shorten(name), CAPTION_COLUMNS)) for name in grid.columns), default=1)
    return PageLayout(
        rows=len(grid.rows),
        columns=len(grid.columns) + 1,
        head=HEAD_PIXELS + LINE_PIXELS * head,
        caption=CAPTION_GAP_PIXELS + LINE_PIXELS * lines,
    )


def plotly_figure(grid: Grid) -> go.Figure:
    """Draw the grid for a page: all cells zoom together, and the pointer shows the values of the whole row.

    The page's theme sets the colours of text and background.
    """
    page = page_layout(grid)
    traces: list[Spec] = []
    annotations = _column_titles(grid)
    shapes: list[Spec] = []
    axes: Spec = {}
    for i, row in enumerate(grid.rows):
        for j in range(page.columns):
            index = i * page.columns + j
            name = str(index + 1) if index else ""  # Plotly's first axes have no number
            axes |= _axes(name, i, j, page)
            domain = {"xref": f"x{name} domain", "yref": f"y{name} domain"}
            below = LEFT_ALIGNED | domain | {"y": 0, "yanchor": "top", "xshift": -1, "yshift": -3}
            cell = row.cells[j - 1] if j else None
            if cell is None:
                traces.append(_image_trace(row.thumbnail, name))
                annotations.append(below | {"text": escaped_lines(row.title, CAPTION_COLUMNS)})
            elif cell.explanation is None:
                corners = {"x0": 0, "x1": 1, "y0": 0, "y1": 1, "fillcolor": PANEL_COLOR, "line": {"width": 0}}
                shapes.append({"type": "rect", "layer": "below"} | corners | domain)
                inside = {"y": 1, "yanchor": "top", "xshift": PADDING_PIXELS, "yshift": -PADDING_PIXELS}
                inside |= {"font": {"size": REASON_FONT_PIXELS}, "text": escaped_lines(cell.error, REASON_COLUMNS)}
                annotations.append(LEFT_ALIGNED | domain | inside)
            else:
                traces.append(_image_trace(cell.explanation.image, name))
                headline, notes = _caption_lines(grid, row, cell)
                lines = [f"<b>{_escaped(line)}</b>" for line in headline] + [_escaped(line) for line in notes]
                annotations.append(below | {"text": "<br>".join(lines)})
            traces += _map_traces(grid, row, j, name)
    if grid.shared_top > 0:
        traces.append(_color_bar(grid))
    foot = {"xref": "paper", "yref": "paper", "y": 0, "yanchor": "top", "text": _escaped(grid.scale_name)}
    annotations.append(LEFT_ALIGNED | foot | {"xshift": BAR_PIXELS + 8 if grid.shared_top > 0 else -1, "yshift": -8})
    layout = {
        **axes,
        "annotations": annotations,
        "shapes": shapes,
        "font": {"size": FONT_PIXELS},
        "margin": {"l": 0, "r": 0, "t": page.head, "b": FOOT_PIXELS, "pad": 0},
        "height": round(page.height(1000)),
        "showlegend": False,
        "hoverlabel": {"align": "left"},
        # Keeps the zoom when only the look changes.
        "uirevision": f"{page.rows} x {page.columns}",
    }
    return go.Figure({"data": traces, "layout": layout})


def _axes(name: str, i: int, j: int, page: PageLayout) -> Spec:
    """Return the axes of cell (i, j), both from 0 to 1 over the crop; all cells of the grid zoom together.

    A cell's block holds the square image at its top and the caption below.
    """
    left = j * (page.cell_fraction + GAP)
    x: Spec = {"anchor": f"y{name}", "range": [0, 1], "constrain": "domain", "constraintoward": "left"}
    y: Spec = {"anchor": f"x{name}", "range": [1, 0], "constrain": "domain", "constraintoward": "top"}
    x |= {"visible": False, "domain": [left, min(1.0, left + page.cell_fraction)]}
    y |= {"visible": False, "domain": [1 - (i + 1) / page.rows, 1 - i / page.rows]}
    if name:
        x["matches"], y["matches"] = "x", "y"
    else:
        # The other axes match these two, and so take their aspect ratio.
        y["scaleanchor"] = "x"
    return {f"xaxis{name}": x, f"yaxis{name}": y}


def _image_trace(image: np.ndarray, name: str) -> Spec:
    trace = {"type": "image", "source": image_uri(image), "hoverinfo": "skip", "xaxis": f"x{name}", "yaxis": f"y{name}"}
    return trace | _pixels(*image.shape[:2])


def _pixels(height: int, width: int) -> Spec:
    """Return the origin and step of a trace with so many rows and columns over axes from 0 to 1."""
    return {"x0": 0.5 / width, "dx": 1 / width, "y0": 0.5 / height, "dy": 1 / height}


def _map_traces(grid: Grid, row: Row, j: int, name: str) -> list[Spec]:
    """Return the heat map of column j; over the image itself (j = 0) an invisible one with the same values."""
    axes = {"xaxis": f"x{name}", "yaxis": f"y{name}"}
    cell = next((cell for cell in (row.cells[j - 1 : j] if j else row.cells) if cell.map is not None), None)
    if cell is None or cell.map is None:
        # Plotly draws no axes without a trace, and annotations that refer to them would be lost.
        return [{"type": "scatter", "x": [0.5], "y": [0.5], "opacity": 0, "hoverinfo": "skip", **axes}]
    values, top = cell.map, grid.top(cell) or 1
    height, width = (min(side, POINTER_CELLS) for side in values.shape)
    trace = {"type": "heatmap", "showscale": False, "colorscale": color_scale(grid.look, signed=grid.signed)} | axes
    trace |= {"zmin": -top if grid.signed else 0, "zmax": top}
    pointer = {"customdata": _hover_values(row, height, width), "hovertemplate": _hover_text(grid.columns, row, j)}
    coarse = trace | pointer | {"zsmooth": "best"} | _pixels(height, width)
    if (height, width) == values.shape:
        return [coarse | {"z": values} | ({} if j else {"opacity": 0})]
    # One byte per value is enough for the eye; an invisible coarse trace answers the pointer.
    quantised = np.rint(np.clip(values / top, -1, 1) * LEVELS).astype(np.int8)
    fine = trace | {"z": quantised, "zmin": -LEVELS if grid.signed else 0, "zmax": LEVELS, "hoverinfo": "skip"}
    fine |= _pixels(*values.shape)
    invisible = coarse | {"z": np.zeros((height, width), np.int8), "opacity": 0}
    return [fine, invisible] if j else [invisible]


def _hover_values(row: Row, height: int, width: int) -> np.ndarray:
    """Sample each column's map on a `(height, width)` grid: `(height, width, C)`, float32, NaN without a map."""
    sampled = np.full((height, width, len(row.cells)), np.nan, np.float32)
    for k, cell in enumerate(row.cells):
        if cell.map is not None:
            y = ((np.arange(height) + 0.5) * cell.map.shape[0] / height).astype(int)
            x = ((np.arange(width) + 0.5) * cell.map.shape[1] / width).astype(int)
            sampled[:, :, k] = cell.map[np.ix_(y, x)]
    return sampled


def _hover_text(columns: tuple[str, ...], row: Row, j: int) -> str:
    """Return one line for each column with its value under the pointer; column j, counted from 1, is bold."""
    values = ["no map" if cell.map is None else f"%{{customdata[{k}]:.3g}}" for k, cell in enumerate(row.cells)]
    lines = [f"{_escaped(shorten(column))}: {value}" for column, value in zip(columns, values, strict=True)]
    if j:
        lines[j - 1] = f"<b>{lines[j - 1]}</b>"
    return "<br>".join(lines) + "<extra></extra>"


def _escaped(text: str) -> str:
    """Escape HTML, and `%` because Plotly replaces %{...} in hover texts by data."""
    return escape(text).replace("%", "&#37;")


def escaped_lines(text: str, columns: int) -> str:
    """Escape text from outside for a Plotly figure, wrapped to lines of at most `columns` columns."""
    return "<br>".join(_escaped(line) for line in wrap(text, columns))


def _caption_lines(grid: Grid, row: Row, cell: Cell) -> tuple[list[str], list[str]]:
    """Return the lines of a caption's headline and of the rest, which begins with a free line if badges have room."""
    caption = grid.caption(row, cell)
    if not grid.badge_room or cell.explanation is None:
        return caption.lines(CAPTION_COLUMNS)
    headline, notes = replace(caption, badge="").lines(CAPTION_COLUMNS)
    return headline, [NO_BREAK, *notes]


def _column_titles(grid: Grid) -> list[Spec]:
    position = LEFT_ALIGNED | {"yref": "paper", "y": 1, "yanchor": "bottom", "xshift": -1, "yshift": 2}
    titles = ["Image", *map(shorten, grid.columns)] if grid.rows else []
    return [
        position | {"xref": f"x{j + 1 if j else ''} domain", "text": f"<b>{escaped_lines(title, CAPTION_COLUMNS)}</b>"}
        for j, title in enumerate(titles)
    ]


def _color_bar(grid: Grid) -> Spec:
    """Return an invisible trace whose colour bar, at the foot of the figure, shows the scale."""
    bar = {"orientation": "h", "x": 0, "xanchor": "left", "xpad": 0, "y": 0, "yanchor": "top", "ypad": 14}
    bar |= {"lenmode": "pixels", "len": BAR_PIXELS, "thickness": 10, "outlinewidth": 0, "showticklabels": False}
    colors = [(stop / 15, f"rgb({r},{g},{b})") for stop, (r, g, b) in enumerate(bar_colors(grid.look, 16, grid.signed))]
    trace = {"type": "heatmap", "z": [[0]], "x": [2], "y": [2], "zmin": 0, "zmax": 1, "hoverinfo": "skip"}
    return trace | {"colorscale": colors, "colorbar": bar}
