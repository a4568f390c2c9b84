"""Charts for print: a Plotly figure drawn with matplotlib, as files need no browser then."""

import base64
import io
from typing import Any

import numpy as np
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, MultipleLocator
from PIL import Image

from swin_core.figures.matplotlib_page import FONT_POINTS
from swin_core.figures.sheet import POINTS_PER_PIXEL, css_colour

DASHES = {"solid": "-", "dash": "--", "dot": ":"}
LABELS = 0.5
"""Room for the labels of an axis, in inches."""
SMALL = FONT_POINTS - 1.5
"""Size of text in charts, in points."""


def draw_chart(figure: go.Figure, axes: Axes) -> None:
    """Draw the traces, shapes, notes and axes that this dashboard's figures have; what is invisible is left out."""
    layout = figure.layout
    if layout.xaxis.visible is not False:
        _make_room(axes)
    for name, axis in (("x", layout.xaxis), ("y", layout.yaxis)):
        if axis.type == "log":
            getattr(axes, f"set_{name}scale")("log")
    for trace in figure.data:
        _DRAW[trace.type](trace, axes)
    for shape in layout.shapes:
        _draw_shape(shape, axes)
    for note in layout.annotations:
        x = 10**note.x if layout.xaxis.type == "log" else note.x
        transform = axes.get_xaxis_transform() if note.yref == "paper" else axes.transData
        alignment: dict[str, Any] = {"ha": note.xanchor or "center", "va": note.yanchor or "center"}
        axes.text(x, note.y, note.text, fontsize=SMALL, transform=transform, parse_math=False, **alignment)
    for name, axis in (("x", layout.xaxis), ("y", layout.yaxis)):
        _set_axis(axes, name, axis)
    if layout.xaxis.visible is False:
        axes.set_axis_off()
    else:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=SMALL)
    if layout.yaxis.scaleanchor:
        axes.set_aspect("equal", anchor="NW")
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize=SMALL)


def _make_room(axes: Axes) -> None:
    """Leave room in the place of the axes for what stands beside them: labels, and a legend above."""
    box = axes.get_position()
    width, height = axes.bbox.width / axes.figure.dpi / box.width, axes.bbox.height / axes.figure.dpi / box.height
    left, below, right, above = LABELS / width, LABELS / height, 0.1 / width, 0.25 / height
    axes.set_position((box.x0 + left, box.y0 + below, box.width - left - right, box.height - below - above))


def _set_axis(axes: Axes, name: str, axis: Any) -> None:
    if axis.range is not None:
        limits = [10**value for value in axis.range] if axis.type == "log" else axis.range
        getattr(axes, f"set_{name}lim")(*limits)
    elif axis.autorange == "reversed":
        getattr(axes, f"invert_{name}axis")()
    if axis.title.text:
        getattr(axes, f"set_{name}label")(axis.title.text, fontsize=SMALL)
    of_axis = getattr(axes, f"{name}axis")
    if axis.tickvals is not None:
        limits = getattr(axes, f"get_{name}lim")()
        of_axis.set_ticks(list(axis.tickvals), labels=[f"{value:g}" for value in axis.tickvals])
        of_axis.set_ticks([], minor=True)
        getattr(axes, f"set_{name}lim")(*limits)
    elif axis.dtick is not None and axis.type != "log":
        of_axis.set_major_locator(MultipleLocator(axis.dtick))


def _draw_scatter(trace: Any, axes: Axes) -> None:
    if trace.marker.opacity == 0:  # targets of clicks
        return
    x, y = ([np.nan if value is None else value for value in values] for values in (trace.x, trace.y))
    if "text" in trace.mode:
        halo = [withStroke(linewidth=2, foreground="black")] if trace.textfont.shadow else []
        for left, top, text in zip(x, y, trace.text, strict=True):
            font: dict[str, Any] = {"color": trace.textfont.color or "black", "path_effects": halo}
            axes.text(left, top, text, ha="center", va="center", fontsize=SMALL, parse_math=False, **font)
    label = trace.name if trace.name and trace.showlegend is not False else None
    if "lines" in trace.mode:
        axes.plot(
            x,
            y,
            color=css_colour(trace.line.color),
            linewidth=(trace.line.width or 2) * POINTS_PER_PIXEL,
            linestyle=DASHES[trace.line.dash or "solid"],
            label=label,
        )
    if "markers" in trace.mode:
        size = (trace.marker.size * POINTS_PER_PIXEL) ** 2
        axes.scatter(x, y, size, color=css_colour(trace.marker.color), zorder=3)


def _draw_bars(trace: Any, axes: Axes) -> None:
    bars = axes.bar(list(trace.x), list(trace.y), 0.5, color=[css_colour(colour) for colour in trace.marker.color])
    axes.bar_label(bars, list(trace.text), fontsize=SMALL, padding=2)
    axes.axhline(0, color="0.5", linewidth=0.6)


def _draw_heatmap(trace: Any, axes: Axes) -> None:
    colours = LinearSegmentedColormap.from_list("chart", [tuple(stop) for stop in trace.colorscale])
    limits = {"vmin": trace.zmin, "vmax": trace.zmax}
    mesh = axes.pcolormesh(trace.x, trace.y, np.asarray(trace.z), cmap=colours, edgecolors="w", linewidth=0.4, **limits)
    bar = axes.figure.colorbar(mesh, ax=axes, shrink=0.6, anchor=(0, 1), pad=0.03)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:{trace.colorbar.tickformat or 'g'}}"))
    bar.ax.tick_params(labelsize=SMALL)
    bar.outline.set_visible(False)


def _draw_image(trace: Any, axes: Axes) -> None:
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(trace.source.partition(",")[2]))).convert("RGB"))
    left, top = trace.x0 - trace.dx / 2, trace.y0 - trace.dy / 2
    right, bottom = left + trace.dx * pixels.shape[1], top + trace.dy * pixels.shape[0]
    axes.imshow(pixels, extent=(left, right, bottom, top), interpolation="auto")


def _draw_shape(shape: Any, axes: Axes) -> None:
    line = {"color": css_colour(shape.line.color), "linewidth": shape.line.width * POINTS_PER_PIXEL}
    if shape.type == "line":
        transform = axes.get_xaxis_transform() if shape.yref == "paper" else axes.transData
        ends = [shape.x0, shape.x1], [shape.y0, shape.y1]
        axes.plot(*ends, transform=transform, linestyle=DASHES[shape.line.dash or "solid"], **line)
        return
    corner, size = (shape.x0, shape.y0), (shape.x1 - shape.x0, shape.y1 - shape.y0)
    axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=line["color"], linewidth=line["linewidth"], zorder=4))


_DRAW = {"scatter": _draw_scatter, "bar": _draw_bars, "heatmap": _draw_heatmap, "image": _draw_image}
