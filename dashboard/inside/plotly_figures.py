"""The Plotly figures of the Inside page: images with clickable tokens, stages, bias table, relevance and cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from dashboard.inside.drawing import HALO, MARK, Segments, enlarge, outline
from dashboard.shared.theme import DIVERGING_SCALE
from swin_core.anatomy.structure import Block
from swin_core.figures.palette import INK, SERIES
from swin_core.images.data_uri import image_uri
from swin_core.models.complexity import msa_complexity, window_msa_complexity
from swin_core.models.windows import Pair

CHOSEN, LINE = "#2F86C1", "#8A93A0"
BAR_PIXELS = 220
"""Height of a colour bar: less than that of a map on a phone."""
NO_MARGIN = {"l": 0, "r": 0, "t": 0, "b": 0}
CLICK_ONLY = {"showlegend": False, "dragmode": False, "hovermode": "closest", "hoverdistance": -1}


@dataclass(frozen=True)
class Lines:
    """Lines on an image: light over dark, so that they show on any background."""

    segments: Segments
    width: float = 1.6
    colour: str = "#FFFFFF"
    halo: float = 4.0

    def traces(self) -> list[dict[str, Any]]:
        """The dark line and the light one over it."""
        xs, ys = self.segments
        trace = {"type": "scatter", "mode": "lines", "x": xs, "y": ys, "hoverinfo": "skip", "showlegend": False}
        return [
            trace | {"line": {"color": HALO, "width": self.halo}},
            trace | {"line": {"color": self.colour, "width": self.width}},
        ]


def token_outline(cell: Pair, token: Pair, size: Pair) -> Lines:
    """The outline of the query token, at a row and column of tokens."""
    return Lines(outline(cell, token, size), 2.4, MARK, 5)


def image_figure(
    image: np.ndarray,
    size: Pair,
    lines: Sequence[Lines] = (),
    labels: Sequence[tuple[float, float, int]] = (),
    tokens: Pair | None = None,
    token_size: Pair = (1, 1),
    hover: Sequence[str] = (),
) -> go.Figure:
    """Draw an image with lines and numbers; its tokens can be clicked.

    Args:
        image: `(h, w, 3)` uint8.
        size: its height and width in the unit of the lines.
        lines: in drawing order.
        labels: x, y and a number from 0, which is drawn counted from 1.
        tokens: rows and columns of the tokens; None for an image that cannot be clicked.
        token_size: height and width of a token.
        hover: text of each token, row by row.
    """
    image = enlarge(image)
    dy, dx = size[0] / image.shape[0], size[1] / image.shape[1]
    traces: list[dict[str, Any]] = [
        {"type": "image", "source": image_uri(image), "hoverinfo": "skip"}
        | {"y0": dy / 2, "dy": dy, "x0": dx / 2, "dx": dx}
    ]
    for line in lines:
        traces += line.traces()
    if labels:
        xs, ys, numbers = zip(*labels, strict=True)
        font = {"color": "#FFFFFF", "size": 13, "weight": 700, "shadow": "0 0 3px #000, 0 0 3px #000, 0 0 2px #000"}
        text = [str(number + 1) for number in numbers]
        traces.append({"type": "scatter", "mode": "text", "x": xs, "y": ys, "text": text})
        traces[-1] |= {"textfont": font, "hoverinfo": "skip"}
    if tokens is not None:
        rows, columns = np.indices(tokens).reshape(2, -1)
        xs = np.minimum((columns + 0.5) * token_size[1], size[1])
        ys = np.minimum((rows + 0.5) * token_size[0], size[0])
        traces.append(_click_targets(xs, ys, np.stack([rows, columns], 1), hover, 8))
    axis = {"visible": False, "fixedrange": True, "constrain": "domain"}
    layout = {
        "xaxis": axis | {"range": [0, size[1]], "constraintoward": "left"},
        "yaxis": axis | {"range": [size[0], 0], "scaleanchor": "x", "constraintoward": "top"},
        "margin": NO_MARGIN | {"pad": 0},
    }
    return go.Figure({"data": traces, "layout": layout | CLICK_ONLY})


def _click_targets(xs: Any, ys: Any, customdata: Any, hover: Sequence[str], size: int) -> dict[str, Any]:
    """Return invisible points: Plotly selects points, but no cells of an image."""
    invisible = {"marker": {"opacity": 0}}
    return {
        "type": "scatter",
        "mode": "markers",
        "x": xs,
        "y": ys,
        "customdata": customdata,
        "text": list(hover),
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"opacity": 0, "size": size, "symbol": "square"},
        "selected": invisible,
        "unselected": invisible,
    }


def stages_figure(blocks: Sequence[Block], chosen: str) -> go.Figure:
    """Draw the blocks of a model by stage, each as a square with the windows of its feature map."""
    lefts = [i + 0.75 * (block.stage - blocks[0].stage) for i, block in enumerate(blocks)]
    xs: list[float | None] = []
    ys: list[float | None] = []
    shapes = []
    for left, block in zip(lefts, blocks, strict=True):
        is_chosen = block.title == chosen
        shapes.append(
            {"type": "rect", "layer": "below", "x0": left + 0.06, "x1": left + 0.94, "y0": 0.06, "y1": 0.94}
            | {"line": {"color": CHOSEN, "width": 3} if is_chosen else {"color": LINE, "width": 1}}
            | {"fillcolor": "rgba(47,134,193,0.35)" if is_chosen else "rgba(127,127,127,0.12)"}
        )
        for x0, x1, y0, y1 in _window_lines(block):
            xs += [left + 0.06 + 0.88 * x0, left + 0.06 + 0.88 * x1, None]
            ys += [0.06 + 0.88 * y0, 0.06 + 0.88 * y1, None]
    traces = [
        {"type": "scatter", "mode": "lines", "x": xs, "y": ys, "line": {"color": LINE, "width": 1}}
        | {"hoverinfo": "skip"},
        _click_targets(
            [left + 0.5 for left in lefts],
            [0.5] * len(blocks),
            [[block.title] for block in blocks],
            [_describe_block(block) for block in blocks],
            30,
        ),
    ]
    notes = []
    for stage in dict.fromkeys(block.stage for block in blocks):
        members = [(left, block) for left, block in zip(lefts, blocks, strict=True) if block.stage == stage]
        first = members[0][1]
        title = f"<b>Stage {stage}</b>" if first.windowed else f"<b>{len(members)} blocks</b>"
        text = f"{title}<br>{first.grid[0]} x {first.grid[1]} tokens<br>{first.channels} channels"
        middle = (members[0][0] + members[-1][0] + 1) / 2
        notes.append({"x": middle, "y": -0.06, "text": text, "showarrow": False, "yanchor": "top"})
        notes[-1] |= {"font": {"size": 12}}
    axis = {"visible": False, "fixedrange": True}
    layout = {
        "xaxis": axis | {"range": [lefts[0] - 0.3, lefts[-1] + 1.3]},
        "yaxis": axis | {"range": [-0.98, 1.06], "scaleanchor": "x", "constrain": "domain", "constraintoward": "top"},
        "shapes": shapes,
        "annotations": notes,
        "margin": NO_MARGIN,
    }
    return go.Figure({"data": traces, "layout": layout | CLICK_ONLY})


def _describe_block(block: Block) -> str:
    if not block.windowed:
        return block.title
    (height, width), shift = block.windows.window, block.windows.shift
    shifted = f"shifted by {shift[0]} x {shift[1]}" if block.shifted else "not shifted"
    return f"{block.title}: windows of {height} x {width} tokens, {shifted}"


def _window_lines(block: Block) -> list[tuple[float, float, float, float]]:
    """Return the borders of a block's windows as x0, x1, y0, y1 in a unit square with its origin at the bottom left."""
    lines: list[tuple[float, float, float, float]] = []
    for axis in (0, 1) if block.windowed else ():
        size, window, shift = block.grid[axis], block.windows.window[axis], block.windows.shift[axis]
        for token in range(shift or window, size, window):
            border = token / size
            lines.append((0, 1, 1 - border, 1 - border) if axis == 0 else (border, border, 0, 1))
    return lines


def bias_figure(values: np.ndarray) -> go.Figure:
    """Draw a bias map, `(2 M_h - 1, 2 M_w - 1)`, around the query token: blue lowers the score, orange raises it."""
    height, width = values.shape
    top = float(np.abs(values).max()) or 1.0
    rows, columns = np.arange(height) - height // 2, np.arange(width) - width // 2
    trace = {
        "type": "heatmap",
        "z": values,
        "x": columns,
        "y": rows,
        "text": [[_describe_offset(int(row), int(column)) for column in columns] for row in rows],
        "hovertemplate": "%{text}: %{z:+.3f}<extra></extra>",
        "zmin": -top,
        "zmax": top,
        "colorscale": [list(stop) for stop in DIVERGING_SCALE],
        # In pixels: a bar relative to the figure would be higher than the map, which is only as high as it is wide.
        "colorbar": {"thickness": 12, "outlinewidth": 0, "tickformat": "+.2g", "len": BAR_PIXELS, "lenmode": "pixels"}
        | {"y": 1, "yanchor": "top", "ypad": 0},
        "xgap": 1,
        "ygap": 1,
    }
    axis = {"fixedrange": True, "zeroline": False, "showgrid": False, "ticks": "", "constrain": "domain", "dtick": 2}
    y_axis = {"constraintoward": "top", "autorange": "reversed", "scaleanchor": "x"}
    layout = {
        "xaxis": axis | {"title": {"text": "columns to the right"}},
        "yaxis": axis | {"title": {"text": "rows below"}} | y_axis,
        "shapes": [{"type": "rect", "x0": -0.5, "x1": 0.5, "y0": -0.5, "y1": 0.5, "line": {"color": INK, "width": 2}}],
        "margin": NO_MARGIN | {"t": 6},
        "dragmode": False,
    }
    return go.Figure({"data": [trace], "layout": layout})


def _describe_offset(down: int, right: int) -> str:
    vertical = f"{abs(down)} {'below' if down > 0 else 'above'}" if down else ""
    horizontal = f"{abs(right)} to the {'right' if right > 0 else 'left'}" if right else ""
    return ", ".join(filter(None, [vertical, horizontal])) or "the token itself"


def relevance_figure(names: Sequence[str], sums: Sequence[float], logit: float) -> go.Figure:
    """Draw the sums of the stages' relevance beside the logit."""
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
        "margin": NO_MARGIN | {"t": 4},
        "xaxis": {"fixedrange": True},
        "yaxis": {"fixedrange": True, "range": [least - (room if least else 0), most + room], "title": {"text": "sum"}},
        "dragmode": False,
    }
    return go.Figure({"data": [trace], "layout": layout})


def cost_figure(block: Block, token: int, window: int, marks: Sequence[tuple[int, str]]) -> go.Figure:
    """Plot equations 1 and 2 of the paper against the side of a square image, both axes logarithmic.

    Args:
        block: whose number of channels is taken.
        token: side of a token in pixels.
        window: side M of a window in tokens.
        marks: sides of images in pixels to mark, with their labels.
    """
    most = max(2048, 2 * max(side for side, _ in marks))
    grids = np.unique(np.geomspace(max(1, 16 // token), most // token, 48).astype(int))
    curves = (
        ("Global attention, eq. 1", lambda grid: msa_complexity(grid, block.channels), SERIES[5], "dash"),
        (
            f"Windows of {window} x {window}, eq. 2",
            lambda grid: window_msa_complexity(grid, block.channels, window),
            SERIES[0],
            "solid",
        ),
    )
    traces: list[dict[str, Any]] = []
    for name, cost, colour, dash in curves:
        billions = [cost((int(grid), int(grid))) / 1e9 for grid in grids]
        line = {"type": "scatter", "mode": "lines", "x": grids * token, "y": billions, "name": name}
        line |= {"line": {"color": colour, "width": 2.5, "dash": dash}}
        traces.append(line | {"hovertemplate": "%{x} px: %{y:.3g} billion<extra></extra>"})
        dots = {"type": "scatter", "mode": "markers", "x": [side for side, _ in marks], "showlegend": False}
        dots |= {"y": [cost((max(1, -(-side // token)),) * 2) / 1e9 for side, _ in marks]}
        traces.append(dots | {"marker": {"color": colour, "size": 9}, "hoverinfo": "skip"})
    shapes, notes = [], []
    for i, (side, text) in enumerate(marks):
        shapes.append({"type": "line", "x0": side, "x1": side, "y0": 0, "y1": 1, "yref": "paper"})
        shapes[-1] |= {"line": {"color": LINE, "width": 1.5, "dash": "dot"}}
        notes.append(
            {"x": float(np.log10(side)), "y": 1, "yref": "paper", "text": f" {text}, {side} px ", "showarrow": False}
            | {"xanchor": "left" if i else "right", "yanchor": "top", "font": {"size": 12}}
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
