"""Plotly's figures of the Inside page: the image that can be clicked, the stages, a bias table, the cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from dashboard.inside.drawing import Segments, enlarged
from dashboard.shared.theme import DIVERGING
from swin_core.anatomy.structure import Block
from swin_core.attribution.overlay import data_uri
from swin_core.figures.palette import INK, SERIES
from swin_core.models.complexity import msa_complexity, window_msa_complexity
from swin_core.models.windows import Pair

__all__ = ["Lines", "bias_figure", "cost_figure", "picture_figure", "relevance_figure", "stages_figure"]

CHOSEN = "#2F86C1"
HIDDEN = {"marker": {"opacity": 0}}
HALO = "rgba(0,0,0,0.6)"


@dataclass(frozen=True)
class Lines:
    """Lines over an image: light over dark, so that they show on any ground."""

    segments: Segments
    width: float = 1.6
    colour: str = "#FFFFFF"
    halo: float = 4.0

    def traces(self) -> list[dict[str, Any]]:
        """The dark line and the light one over it."""
        xs, ys = self.segments
        drawn = {"type": "scatter", "mode": "lines", "x": xs, "y": ys, "hoverinfo": "skip", "showlegend": False}
        return [
            drawn | {"line": {"color": HALO, "width": self.halo}},
            drawn | {"line": {"color": self.colour, "width": self.width}},
        ]


def picture_figure(
    picture: np.ndarray,
    size: Pair,
    lines: Sequence[Lines] = (),
    labels: Sequence[tuple[float, float, int]] = (),
    tokens: Pair | None = None,
    token_size: Pair = (1, 1),
    hover: Sequence[str] = (),
) -> go.Figure:
    """An image with lines over it, whose tokens can be clicked.

    Args:
        image: `(h, w, 3)` uint8.
        size: height and width of what it shows, in the unit of the lines.
        lines: drawn in order.
        labels: x, y and the number to write there.
        tokens: rows and columns of tokens that can be clicked; None for an image that cannot.
        token_size: of one of them.
        hover: a line for each token, row by row.
    """
    picture = enlarged(picture)
    scale = size[0] / picture.shape[0], size[1] / picture.shape[1]
    image = {"type": "image", "source": data_uri(picture), "hoverinfo": "skip"}
    image |= {"y0": scale[0] / 2, "dy": scale[0], "x0": scale[1] / 2, "dx": scale[1]}
    traces: list[dict[str, Any]] = [image]
    for line in lines:
        traces += line.traces()
    if labels:
        traces.append(_labels(labels))
    if tokens is not None:
        traces.append(_points(size, tokens, token_size, hover))
    axis = {"visible": False, "fixedrange": True, "constrain": "domain"}
    layout = {
        "xaxis": axis | {"range": [0, size[1]], "constraintoward": "left"},
        "yaxis": axis | {"range": [size[0], 0], "scaleanchor": "x", "constraintoward": "top"},
        "margin": {"l": 0, "r": 0, "t": 0, "b": 0, "pad": 0},
        "showlegend": False,
        "dragmode": False,
        "hovermode": "closest",
        "hoverdistance": -1,
    }
    return go.Figure({"data": traces, "layout": layout})


def _labels(labels: Sequence[tuple[float, float, int]]) -> dict[str, Any]:
    """Numbers, counted from 1, light on a dark shadow."""
    xs, ys, numbers = zip(*labels, strict=True)
    font = {"color": "#FFFFFF", "size": 13, "weight": 700, "shadow": "0 0 3px #000, 0 0 3px #000, 0 0 2px #000"}
    text = [str(number + 1) for number in numbers]
    return {"type": "scatter", "mode": "text", "x": xs, "y": ys, "text": text, "textfont": font, "hoverinfo": "skip"}


def _points(size: Pair, tokens: Pair, token_size: Pair, hover: Sequence[str]) -> dict[str, Any]:
    """An invisible point in the middle of each token: Plotly lets points be clicked, but no cells of a heat map."""
    rows, columns = np.indices(tokens).reshape(2, -1)
    return {
        "type": "scatter",
        "mode": "markers",
        "x": np.minimum((columns + 0.5) * token_size[1], size[1]),
        "y": np.minimum((rows + 0.5) * token_size[0], size[0]),
        "customdata": np.stack([rows, columns], 1),
        "text": list(hover),
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"opacity": 0, "size": 8, "symbol": "square"},
        "selected": HIDDEN,
        "unselected": HIDDEN,
    }


def stages_figure(blocks: Sequence[Block], chosen: str) -> go.Figure:
    """The stages of a model: a square for each block, with its windows as they lie on its map."""
    placed, position, stage = [], 0.0, blocks[0].stage
    for block in blocks:
        position += 0.75 if block.stage != stage else 0.0
        stage = block.stage
        placed.append((position, block))
        position += 1.0
    shapes = [_square(left, block.title == chosen) for left, block in placed]
    xs: list[float | None] = []
    ys: list[float | None] = []
    for left, block in placed:
        for x, y in _window_lines(block):
            xs += [left + 0.06 + 0.88 * value if value is not None else None for value in x]
            ys += [0.06 + 0.88 * value if value is not None else None for value in y]
    lines = {"type": "scatter", "mode": "lines", "x": xs, "y": ys, "line": {"color": "#8A93A0", "width": 1}}
    points = {
        "type": "scatter",
        "mode": "markers",
        "x": [left + 0.5 for left, _ in placed],
        "y": [0.5] * len(placed),
        "customdata": [[block.title] for _, block in placed],
        "text": [_described(block) for _, block in placed],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"opacity": 0, "size": 30, "symbol": "square"},
        "selected": HIDDEN,
        "unselected": HIDDEN,
    }
    notes = []
    for number in dict.fromkeys(block.stage for block in blocks):
        here = [(left, block) for left, block in placed if block.stage == number]
        first = here[0][1]
        title = f"<b>Stage {number}</b>" if first.windowed else f"<b>{len(here)} blocks</b>"
        text = f"{title}<br>{first.grid[0]} x {first.grid[1]} tokens<br>{first.channels} channels"
        middle = (here[0][0] + here[-1][0] + 1) / 2
        notes.append(
            {"x": middle, "y": -0.06, "text": text, "showarrow": False, "yanchor": "top", "font": {"size": 12}}
        )
    axis = {"visible": False, "fixedrange": True}
    layout = {
        "xaxis": axis | {"range": [-0.3, position + 0.3]},
        "yaxis": axis | {"range": [-0.98, 1.06], "scaleanchor": "x", "constrain": "domain", "constraintoward": "top"},
        "shapes": shapes,
        "annotations": notes,
        "margin": {"l": 0, "r": 0, "t": 0, "b": 0},
        "showlegend": False,
        "dragmode": False,
        "hovermode": "closest",
        "hoverdistance": -1,
    }
    return go.Figure({"data": [lines | {"hoverinfo": "skip"}, points], "layout": layout})


def _described(block: Block) -> str:
    if not block.windowed:
        return block.title
    (high, wide), shift = block.windows.window, block.windows.shift
    moved = f", shifted by {shift[0]} x {shift[1]}" if block.shifted else ", not shifted"
    return f"{block.title}: windows of {high} x {wide} tokens{moved}"


def _square(left: float, chosen: bool) -> dict[str, Any]:
    colour = {"color": CHOSEN, "width": 3} if chosen else {"color": "#8A93A0", "width": 1}
    fill = "rgba(47,134,193,0.35)" if chosen else "rgba(127,127,127,0.12)"
    ends = {"x0": left + 0.06, "x1": left + 0.94, "y0": 0.06, "y1": 0.94}
    return {"type": "rect", "layer": "below", "line": colour, "fillcolor": fill, **ends}


def _window_lines(block: Block) -> list[Segments]:
    """The borders of the windows within a square of side 1, its origin at the bottom left."""
    lines: list[Segments] = []
    if not block.windowed:
        return lines
    for axis in (0, 1):
        size, window, shift = block.grid[axis], block.windows.window[axis], block.windows.shift[axis]
        for token in range(shift or window, size, window):
            place = token / size
            along: list[float | None] = [0.0, 1.0, None]
            lines.append((along, [1 - place, 1 - place, None]) if axis == 0 else ([place, place, None], along))
    return lines


BAR_PIXELS = 220
"""Height of a colour bar: less than that of a map on a phone."""


def bias_figure(values: np.ndarray) -> go.Figure:
    """A bias map, `(2 M_h - 1, 2 M_w - 1)`, around the token that looks; blue lowers the score, orange raises it."""
    high, wide = values.shape
    top = float(np.abs(values).max()) or 1.0
    rows, columns = np.arange(high) - high // 2, np.arange(wide) - wide // 2
    text = [[_offset(int(row), int(column)) for column in columns] for row in rows]
    trace = {
        "type": "heatmap",
        "z": values,
        "x": columns,
        "y": rows,
        "text": text,
        "hovertemplate": "%{text}: %{z:+.3f}<extra></extra>",
        "zmin": -top,
        "zmax": top,
        "colorscale": [list(stop) for stop in DIVERGING],
        # In pixels: the map is as high as the width allows, less than the figure, and the bar is to be no higher.
        "colorbar": {"thickness": 12, "outlinewidth": 0, "tickformat": "+.2g", "len": BAR_PIXELS, "lenmode": "pixels"}
        | {"y": 1, "yanchor": "top", "ypad": 0},
        "xgap": 1,
        "ygap": 1,
    }
    middle = {"type": "rect", "x0": -0.5, "x1": 0.5, "y0": -0.5, "y1": 0.5, "line": {"color": INK, "width": 2}}
    axis = {"fixedrange": True, "zeroline": False, "showgrid": False, "ticks": "", "constrain": "domain"}
    layout = {
        "xaxis": axis | {"title": {"text": "columns to the right"}, "dtick": 2},
        "yaxis": axis
        | {
            "title": {"text": "rows below"},
            "dtick": 2,
            "constraintoward": "top",
            "autorange": "reversed",
            "scaleanchor": "x",
        },
        "shapes": [middle],
        "margin": {"l": 0, "r": 0, "t": 6, "b": 0},
        "dragmode": False,
    }
    return go.Figure({"data": [trace], "layout": layout})


def _offset(down: int, right: int) -> str:
    """Where another token lies, in words."""
    if not down and not right:
        return "the token itself"
    vertical = f"{abs(down)} {'below' if down > 0 else 'above'}" if down else ""
    horizontal = f"{abs(right)} to the {'right' if right > 0 else 'left'}" if right else ""
    return ", ".join(filter(None, [vertical, horizontal]))


def relevance_figure(names: Sequence[str], sums: Sequence[float], logit: float) -> go.Figure:
    """The sums of the stages' relevance beside the logit."""
    values = [*sums, logit]
    trace = {
        "type": "bar",
        "x": [*names, "Logit"],
        "y": values,
        "text": [f"{value:+.2f}" for value in values],
        "textposition": "outside",
        "cliponaxis": False,
        "marker": {"color": [SERIES[4]] * len(sums) + [SERIES[1]]},
        "hoverinfo": "skip",
    }
    least, most = min(0.0, *values), max(0.0, *values)
    room = 0.16 * (most - least or 1.0)
    layout = {
        "height": 250,
        "bargap": 0.5,
        "margin": {"l": 0, "r": 0, "t": 4, "b": 0},
        "xaxis": {"fixedrange": True},
        "yaxis": {"fixedrange": True, "range": [least - (room if least else 0), most + room], "title": {"text": "sum"}},
        "dragmode": False,
    }
    return go.Figure({"data": [trace], "layout": layout})


def cost_figure(block: Block, token: int, window: int, marks: Sequence[tuple[int, str]]) -> go.Figure:
    """Equations 1 and 2 against the side of a square image, both axes logarithmic.

    Args:
        block: whose width is taken.
        token: pixels of a token.
        window: side M of a window in tokens.
        marks: sides in pixels to mark, with what each is.
    """
    most = max(2048, 2 * max(side for side, _ in marks))
    grids = np.unique(np.geomspace(max(1, 16 // token), most // token, 48).astype(int))
    sides = grids * token
    traces: list[dict[str, Any]] = []
    for name, cost, colour, dash in (
        ("Global attention, eq. 1", lambda grid: msa_complexity(grid, block.channels) / 1e9, SERIES[5], "dash"),
        (
            f"Windows of {window} x {window}, eq. 2",
            lambda grid: window_msa_complexity(grid, block.channels, window) / 1e9,
            SERIES[0],
            "solid",
        ),
    ):
        values = [cost((int(grid), int(grid))) for grid in grids]
        line = {"type": "scatter", "mode": "lines", "x": sides, "y": values, "name": name}
        line |= {"line": {"color": colour, "width": 2.5, "dash": dash}}
        traces.append(line | {"hovertemplate": "%{x} px: %{y:.3g} billion<extra></extra>"})
        at = [(side, cost((max(1, -(-side // token)),) * 2)) for side, _ in marks]
        dots = {"type": "scatter", "mode": "markers", "x": [side for side, _ in at], "y": [value for _, value in at]}
        traces.append(dots | {"marker": {"color": colour, "size": 9}, "hoverinfo": "skip", "showlegend": False})
    shapes, notes = [], []
    for place, (side, text) in enumerate(marks):
        shapes.append({"type": "line", "x0": side, "x1": side, "y0": 0, "y1": 1, "yref": "paper"})
        shapes[-1] |= {"line": {"color": "#8A93A0", "width": 1.5, "dash": "dot"}}
        notes.append(
            {"x": float(np.log10(side)), "y": 1, "yref": "paper", "text": f" {text}, {side} px ", "showarrow": False}
            | {"xanchor": "left" if place else "right", "yanchor": "top", "font": {"size": 12}}
        )
    axis = {"type": "log", "fixedrange": True, "zeroline": False}
    layout = {
        "xaxis": axis | {"title": {"text": "side of the image in pixels"}, "tickvals": [2**k for k in range(4, 14)]},
        "yaxis": axis | {"title": {"text": "billion multiply-adds"}, "dtick": 1, "exponentformat": "power"},
        "shapes": shapes,
        "annotations": notes,
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "xanchor": "left"},
        "margin": {"l": 0, "r": 8, "t": 8, "b": 0},
        "height": 420,
        "dragmode": False,
        "hovermode": "x",
    }
    return go.Figure({"data": traces, "layout": layout})
