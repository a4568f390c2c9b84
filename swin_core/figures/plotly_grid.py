"""The grid of heat maps as one Plotly figure, and the room it needs on a page.

Each cell is an image (a JPEG of some 30 KB) under a heat map of the attribution map's own few cells, which
the browser smooths: so a page stays light, and a change of opacity moves no pixels. All text that came from
outside is escaped, because Plotly reads a little HTML.
"""

import math
from dataclasses import dataclass, replace
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go

from swin_core.attribution.overlay import bar_colors, color_scale, data_uri
from swin_core.figures.grid import Cell, Grid, Row
from swin_core.figures.text import NO_BREAK, shorten, wrap

__all__ = ["CONFIG", "PageLayout", "escaped_lines", "page_layout", "plotly_figure"]

CONFIG = {"showSendToCloud": False, "displayModeBar": False}
"""Plotly's own settings, wherever the figure is shown: nothing is sent elsewhere, and no bar covers a title.

A drag over a cell zooms all of them, with the shift key it moves them, and a double click shows all again.
"""

CELL_PIXELS = 160
"""Least width of a cell: on a narrower page the grid scrolls."""
CAPTION_COLUMNS, FONT_PIXELS, LINE_PIXELS = 22, 13, 18
"""Captions: columns of text that fit into `CELL_PIXELS`, size of the letters, height of a line."""
TEXT_PIXELS, BADGE_GAP_PIXELS = 16.9, 2
"""Height that Plotly gives a line of a caption, and the room between an image and the first one."""
REASON_COLUMNS, REASON_FONT_PIXELS, REASON_LINE_PIXELS = 24, 11, 15
"""The same for the reason in a cell that failed, with its padding."""
PIXELS, LEVELS = 64, 127
"""A map of more places a side is one of single pixels: drawn in so many steps, which a byte holds, and read by the
pointer at fewer places."""
GAP = 0.014
"""Space between two cells, as a fraction of the figure's width."""
HEAD_PIXELS, CAPTION_GAP_PIXELS, PADDING_PIXELS = 10, 16, 9
FOOT_PIXELS = 40
"""As much as the bar of the scale needs: with less Plotly takes it from the rows, and badges are misplaced."""
BAR_PIXELS = 90
PANEL_COLOR = "rgba(128,128,128,0.14)"


Drawn = dict[str, Any]
"""A part of a Plotly figure."""


@dataclass(frozen=True)
class PageLayout:
    """The room that a grid needs on a page, in pixels."""

    rows: int
    columns: int
    """Columns of cells, that of the images included."""
    head: int
    """Height of the columns' titles."""
    caption: int
    """Height of the captions under one row."""

    def badge_place(self, row: int, column: int, headline: int) -> tuple[float, float, float]:
        """Where the free line of a cell is; see `Grid.badge_room`.

        Args:
            row: counted from 0.
            column: likewise; 0 holds the images.
            headline: lines of the caption's headline.

        Returns:
            Left side as a share of the figure's width; top in pixels, and what to add to it as a share of the width.
        """
        left = column * (self.cell_fraction + GAP)
        pixels = self.head + row * self.caption + BADGE_GAP_PIXELS + headline * TEXT_PIXELS
        return left, pixels, (row + 1) * self.cell_fraction

    @property
    def least_width(self) -> int:
        """Width below which captions would run into each other."""
        return round(CELL_PIXELS / self.cell_fraction)

    @property
    def cell_fraction(self) -> float:
        """Width of a cell as a fraction of the figure's width."""
        return (1 - GAP * (self.columns - 1)) / self.columns

    @property
    def fixed_height(self) -> int:
        """The part of the height that does not grow with the width."""
        return self.head + FOOT_PIXELS + self.rows * self.caption

    def height(self, width: float) -> float:
        """Height for square cells at a given width."""
        return self.fixed_height + self.rows * self.cell_fraction * width


def page_layout(grid: Grid) -> PageLayout:
    """The room that the grid needs: lines for its longest title and caption, and at least 3 under a row.

    The least, 4 where a line is left for badges, keeps the page still when a late cell gets its caption.
    """
    least = 4 if grid.badge_room else 3
    head = max((len(wrap(shorten(name), CAPTION_COLUMNS)) for name in grid.columns), default=1)
    lines = least
    for row in grid.rows:
        lines = max(lines, len(wrap(row.title, CAPTION_COLUMNS)))
        for cell in row.cells:
            headline, notes = _caption_lines(grid, row, cell)
            lines = max(lines, len(headline) + len(notes))
            # A long reason grows over the foot of its cell into the room for captions.
            reason = REASON_LINE_PIXELS * len(wrap(cell.error, REASON_COLUMNS)) + 2 * PADDING_PIXELS
            lines = max(lines, math.ceil((reason - CELL_PIXELS) / LINE_PIXELS))
    return PageLayout(
        rows=len(grid.rows),
        columns=len(grid.columns) + 1,
        head=HEAD_PIXELS + LINE_PIXELS * head,
        caption=CAPTION_GAP_PIXELS + LINE_PIXELS * lines,
    )


def plotly_figure(grid: Grid) -> go.Figure:
    """Draw the grid for a page: cells zoom together, and the pointer shows the values of the whole row.

    The page's theme sets the colours of text and background.
    """
    room = page_layout(grid)
    traces: list[Drawn] = []
    notes: list[Drawn] = []
    shapes: list[Drawn] = []
    axes: Drawn = {}
    for i, row in enumerate(grid.rows):
        for j in range(room.columns):
            count = i * room.columns + j
            name = str(count + 1) if count else ""
            axes |= _axes(name, i, j, room)
            if j == 0:
                traces += _picture(row.picture, name) + _values(grid, row, 0, name)
                notes.append(_below(name, escaped_lines(row.title, CAPTION_COLUMNS)))
                continue
            cell = row.cells[j - 1]
            if cell.explanation is None:
                shapes.append(_panel(name))
                notes.append(_inside(name, escaped_lines(cell.error, REASON_COLUMNS)))
            else:
                traces += _picture(cell.explanation.picture, name)
                notes.append(_below(name, _caption(grid, row, cell)))
            traces += _values(grid, row, j, name)
    if grid.greatest > 0:
        traces.append(_scale_bar(grid))
    layout = {
        **axes,
        "annotations": [*_heads(grid), *notes, _foot(grid)],
        "shapes": shapes,
        "font": {"size": FONT_PIXELS},
        "margin": {"l": 0, "r": 0, "t": room.head, "b": FOOT_PIXELS, "pad": 0},
        "height": round(room.height(1000)),
        "showlegend": False,
        "hoverlabel": {"align": "left"},
        # Keeps the zoom when only the look changes.
        "uirevision": f"{room.rows} x {room.columns}",
    }
    return go.Figure({"data": traces, "layout": layout})


def _axes(name: str, i: int, j: int, room: PageLayout) -> Drawn:
    """The two axes of cell (i, j): both from 0 to 1 over the crop, all cells of the grid moving together.

    The block of a cell is as high as image and caption; the square image takes its top, the caption the
    rest.
    """
    left = j * (room.cell_fraction + GAP)
    x: Drawn = {"anchor": f"y{name}", "range": [0, 1], "constrain": "domain", "constraintoward": "left"}
    y: Drawn = {"anchor": f"x{name}", "range": [1, 0], "constrain": "domain", "constraintoward": "top"}
    x |= {"visible": False, "domain": [left, min(1.0, left + room.cell_fraction)]}
    y |= {"visible": False, "domain": [1 - (i + 1) / room.rows, 1 - i / room.rows]}
    if name:
        x["matches"], y["matches"] = "x", "y"
    else:
        # The others match these two, and so take their shape.
        y["scaleanchor"] = "x"
    return {f"xaxis{name}": x, f"yaxis{name}": y}


def _picture(picture: np.ndarray, name: str) -> list[Drawn]:
    height, width = picture.shape[:2]
    place = {"xaxis": f"x{name}", "yaxis": f"y{name}", **_spread("x", width), **_spread("y", height)}
    return [{"type": "image", "source": data_uri(picture), "hoverinfo": "skip", **place}]


def _values(grid: Grid, row: Row, j: int, name: str) -> list[Drawn]:
    """The heat map of column j; over the image itself (j = 0) an invisible one with the same values."""
    axes = {"xaxis": f"x{name}", "yaxis": f"y{name}"}
    shown = [cell for cell in (row.cells[j - 1 : j] if j else row.cells) if cell.map is not None][:1]
    if not shown or shown[0].map is None:
        # Without a trace a cell's axes are not drawn, and what is placed by them would be lost.
        return [{"type": "scatter", "x": [0.5], "y": [0.5], "opacity": 0, "hoverinfo": "skip", **axes}]
    values = shown[0].map
    height, width = (min(side, PIXELS) for side in values.shape)
    pointer = {
        "customdata": _values_of_row(row, height, width),
        "hovertemplate": _hover_text(grid.columns, row, j),
    }
    top = grid.top(shown[0]) or 1
    drawn = {"showscale": False, "colorscale": color_scale(grid.look, signed=grid.signed), "type": "heatmap"} | axes
    drawn |= {"zmin": -top if grid.signed else 0, "zmax": top}
    coarse = drawn | {"zsmooth": "best", **_spread("x", width), **_spread("y", height), **pointer}
    if (height, width) == values.shape:
        return [coarse | {"z": values} | ({} if j else {"opacity": 0})]
    # A map of the pixels: a byte each is enough for the eye, and the pointer reads them through fewer places.
    steps = np.rint(np.clip(values / top, -1, 1) * LEVELS).astype(np.int8)
    fine = drawn | {"z": steps, "zmin": -LEVELS if grid.signed else 0, "zmax": LEVELS, "hoverinfo": "skip"}
    fine |= {**_spread("x", values.shape[1]), **_spread("y", values.shape[0])}
    read = coarse | {"z": np.zeros((height, width), np.int8), "opacity": 0}
    return [fine, read] if j else [read]


def _spread(axis: str, count: int) -> Drawn:
    """Lay `count` pixels or cells side by side from 0 to 1."""
    return {f"{axis}0": 0.5 / count, f"d{axis}": 1 / count}


def _values_of_row(row: Row, height: int, width: int) -> np.ndarray:
    """Each column's value at the places of a `(height, width)` grid, `(height, width, C)`, float32."""
    values = np.full((height, width, len(row.cells)), np.nan, np.float32)
    for k, cell in enumerate(row.cells):
        if cell.map is not None:
            y = ((np.arange(height) + 0.5) * cell.map.shape[0] / height).astype(int)
            x = ((np.arange(width) + 0.5) * cell.map.shape[1] / width).astype(int)
            values[:, :, k] = cell.map[np.ix_(y, x)]
    return values


def _hover_text(columns: tuple[str, ...], row: Row, j: int) -> str:
    """One line a column with its value under the pointer; the pointed one, j counted from 1, in bold."""
    values = ["no map" if cell.map is None else f"%{{customdata[{k}]:.3g}}" for k, cell in enumerate(row.cells)]
    lines = [f"{_safe(shorten(column))}: {value}" for column, value in zip(columns, values, strict=True)]
    if j:
        lines[j - 1] = f"<b>{lines[j - 1]}</b>"
    return "<br>".join(lines) + "<extra></extra>"


def _safe(text: str) -> str:
    """Text that Plotly shows as it is: no HTML, and no %{...}, which a hover text would fill with data."""
    return escape(text).replace("%", "&#37;")


def escaped_lines(text: str, columns: int) -> str:
    """Text from outside as lines of at most `columns` columns, for any text of a Plotly figure."""
    return "<br>".join(_safe(line) for line in wrap(text, columns))


def _caption_lines(grid: Grid, row: Row, cell: Cell) -> tuple[list[str], list[str]]:
    """Headline and what follows it, in lines; with room for a badge the first of these is left free."""
    caption = grid.caption(row, cell)
    if not grid.badge_room or cell.explanation is None:
        return caption.lines(CAPTION_COLUMNS)
    headline, notes = replace(caption, badge="").lines(CAPTION_COLUMNS)
    return headline, [NO_BREAK, *notes]


def _caption(grid: Grid, row: Row, cell: Cell) -> str:
    headline, notes = _caption_lines(grid, row, cell)
    return "<br>".join([f"<b>{_safe(line)}</b>" for line in headline] + [_safe(line) for line in notes])


def _below(name: str, text: str) -> Drawn:
    place = {"xref": f"x{name} domain", "yref": f"y{name} domain", "x": 0, "y": 0, "xshift": -1, "yshift": -3}
    return {**place, "xanchor": "left", "yanchor": "top", "align": "left", "showarrow": False, "text": text}


def _inside(name: str, text: str) -> Drawn:
    place = {"xref": f"x{name} domain", "yref": f"y{name} domain", "x": 0, "y": 1}
    place |= {"xshift": PADDING_PIXELS, "yshift": -PADDING_PIXELS, "xanchor": "left", "yanchor": "top"}
    font = {"size": REASON_FONT_PIXELS}
    return {**place, "align": "left", "showarrow": False, "font": font, "text": text}


def _panel(name: str) -> Drawn:
    corners = {"x0": 0, "x1": 1, "y0": 0, "y1": 1, "xref": f"x{name} domain", "yref": f"y{name} domain"}
    return {"type": "rect", "layer": "below", "line": {"width": 0}, "fillcolor": PANEL_COLOR, **corners}


def _heads(grid: Grid) -> list[Drawn]:
    """The columns' titles, over the first row."""
    place = {
        "yref": "paper",
        "y": 1,
        "yshift": 2,
        "x": 0,
        "xshift": -1,
        "xanchor": "left",
        "yanchor": "bottom",
    }
    place |= {"align": "left", "showarrow": False}
    titles = ["Picture", *map(shorten, grid.columns)] if grid.rows else []
    return [
        place | {"xref": f"x{j + 1 if j else ''} domain", "text": f"<b>{escaped_lines(title, CAPTION_COLUMNS)}</b>"}
        for j, title in enumerate(titles)
    ]


def _scale_bar(grid: Grid) -> Drawn:
    """The colours of the scale, at the foot; the trace itself shows nothing."""
    bar = {"orientation": "h", "x": 0, "xanchor": "left", "xpad": 0, "y": 0, "yanchor": "top", "ypad": 14}
    bar |= {
        "lenmode": "pixels",
        "len": BAR_PIXELS,
        "thickness": 10,
        "outlinewidth": 0,
        "showticklabels": False,
    }
    scale = [(stop / 15, f"rgb({r},{g},{b})") for stop, (r, g, b) in enumerate(bar_colors(grid.look, 16, grid.signed))]
    return {"type": "heatmap", "z": [[0]], "x": [2], "y": [2], "zmin": 0, "zmax": 1} | {
        "colorscale": scale,
        "colorbar": bar,
        "hoverinfo": "skip",
    }


def _foot(grid: Grid) -> Drawn:
    place = {"xref": "paper", "yref": "paper", "x": 0, "y": 0, "xanchor": "left", "yanchor": "top"}
    shift = BAR_PIXELS + 8 if grid.greatest > 0 else -1
    return {**place, "xshift": shift, "yshift": -8, "showarrow": False, "text": _safe(grid.scale_name)}
