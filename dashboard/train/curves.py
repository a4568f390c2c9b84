"""Charts of training runs: from the rows of metrics to Plotly figures with a few hundred points per line."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dashboard.shared.charts import escaped_lines
from swin_core.figures.palette import SERIES
from swin_core.system.numbers import is_number

POINTS_AT_MOST = 400
"""Points of one line in the browser, about as many as it has pixels."""

_TIME_UNITS = ((86_400.0, "days"), (3_600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))
_NAME_COLUMNS = 40

Points = tuple[np.ndarray, np.ndarray]
"""Ascending positions, and values with NaN for gaps; both `(n,)` float64."""


@dataclass(frozen=True)
class Chart:
    """A chart and the metrics that it shows."""

    key: str
    title: str
    fields: tuple[tuple[str, str, str], ...]
    """Of each line: "steps" or "epochs", the metric, and a name that tells it from other lines of the run."""
    percent: bool = False


CHARTS = (
    Chart("loss", "Loss, lower is better", (("epochs", "loss", "validation"), ("steps", "loss", "training"))),
    Chart("top1", "Top-1 of the validation images, higher is better", (("epochs", "top1", ""),), percent=True),
    Chart("top5", "Top-5 of the validation images, higher is better", (("epochs", "top5", ""),), percent=True),
    Chart("balanced", "Balanced accuracy, higher is better", (("epochs", "balanced", ""),), percent=True),
    Chart("lr", "Learning rate", (("steps", "lr", ""),)),
)


@dataclass(frozen=True)
class RunCurves:
    """The metrics of one run."""

    name: str
    epochs: Sequence[Mapping[str, Any]]
    """Rows of `metrics.jsonl`."""
    steps: Sequence[Mapping[str, Any]]
    """Rows of `steps.jsonl`; `epochs` is used instead if there are none."""
    colour: str = SERIES[0]

    def line(self, source: str, field: str, position: str) -> Points:
        """Return the values of a metric by "epoch" or "elapsed"."""
        if source == "steps" and not self.steps:
            return points(self.epochs, position, "train_loss" if field == "loss" else field)
        return points(self.steps if source == "steps" else self.epochs, position, field)


def points(lines: Sequence[Mapping[str, Any]], position: str, field: str) -> Points:
    """Return the values of a metric over their positions; values that are not finite numbers are gaps."""
    x, y = _column(lines, position), _column(lines, field)
    return x[np.isfinite(x)], y[np.isfinite(x)]


def _column(lines: Sequence[Mapping[str, Any]], field: str) -> np.ndarray:
    # A page of many long runs has a hundred thousand values, and nearly all are floats.
    values = [line.get(field) for line in lines]
    column = np.array([value if type(value) is float else _number(value) for value in values], np.float64)
    column[np.isinf(column)] = np.nan
    return column


def _number(value: object) -> float:
    return float(value) if is_number(value) else math.nan


def smooth(x: np.ndarray, y: np.ndarray, width: float) -> np.ndarray:
    """Return the mean over a centred window of the given width; gaps stay gaps."""
    if width <= 0 or len(x) < 2:
        return y
    known = np.isfinite(y)
    sums = np.concatenate(([0.0], np.cumsum(np.where(known, y, 0.0))))
    counts = np.concatenate(([0], np.cumsum(known)))
    first, last = np.searchsorted(x, x - width / 2, "left"), np.searchsorted(x, x + width / 2, "right")
    means = (sums[last] - sums[first]) / np.maximum(counts[last] - counts[first], 1)
    return np.where(known, means, np.nan)


def decimate(x: np.ndarray, y: np.ndarray, at_most: int = POINTS_AT_MOST) -> Points:
    """Return at most `at_most` points: the least and greatest value of each stretch, which keeps spikes, and a gap."""
    if len(x) <= at_most:
        return x, y
    length = -(-len(x) // (at_most // 3))
    stretches = -(-len(x) // length)
    padded = np.full(stretches * length, np.nan)
    padded[: len(y)] = y
    table = padded.reshape(stretches, length)
    gaps = np.isnan(table)
    gaps[-1, length - (stretches * length - len(x)) :] = False  # the padding
    starts = np.arange(stretches) * length
    least = starts + np.where(np.isnan(table), np.inf, table).argmin(axis=1)
    greatest = starts + np.where(np.isnan(table), -np.inf, table).argmax(axis=1)
    missing = (starts + gaps.argmax(axis=1))[gaps.any(axis=1)]
    kept = np.unique(np.concatenate((least, greatest, missing)))
    return x[kept], y[kept]


def assign_colours(names: Sequence[str], before: Mapping[str, str]) -> dict[str, str]:
    """Return a colour for each of at most eight names; names in `before` keep theirs."""
    kept = {name: before[name] for name in names if name in before}
    free = [colour for colour in SERIES if colour not in kept.values()]
    fresh = iter(free)
    return {name: kept[name] if name in kept else next(fresh) for name in names}


def time_unit(curves: Sequence[RunCurves]) -> tuple[float, str]:
    """Return the unit of time that fits the longest run: its length in seconds, and its name."""
    longest = max((_number(line.get("elapsed")) for curve in curves for line in curve.epochs[-1:]), default=0.0)
    return next((unit for unit in _TIME_UNITS if longest >= 2 * unit[0]), _TIME_UNITS[-1])


def chart_figure(chart: Chart, curves: Sequence[RunCurves], position: str, smoothing: float) -> dict[str, Any]:
    """Return a chart as a Plotly figure.

    Args:
        chart: what to show.
        curves: the runs to draw.
        position: "epoch" or "elapsed".
        smoothing: width of the window of `smooth` as a share of each line's length; 0 for none.
    """
    unit, unit_name = (1.0, "epoch") if position == "epoch" else time_unit(curves)
    traces = []
    for curve in curves:
        for source, field, word in chart.fields:
            x, y = curve.line(source, field, position)
            if not np.isfinite(y).any():
                continue
            drawn = smooth(x, y, smoothing * (x[-1] - x[0]))
            if smoothing and len(x) > 2 and field != "lr":
                traces.append(_trace(curve, x, y, unit) | {"opacity": 0.3, "hoverinfo": "skip"})
            else:
                drawn = y
            trace = _trace(curve, x, drawn, unit)
            trace["line"]["width"] = 1 if word == "training" else 2.5
            trace["name"] = escaped_lines(f"{curve.name} {word}".strip(), _NAME_COLUMNS)
            trace["hovertemplate"] = f"%{{y:{'.2%' if chart.percent else '.4g'}}}"
            traces.append(trace)
    axis = {"automargin": True, "zeroline": False}
    layout = {
        "height": 270,
        "margin": {"l": 0, "r": 8, "t": 8, "b": 0},
        "showlegend": False,
        "hovermode": "x",
        "dragmode": "zoom",
        "xaxis": {**axis, "title": {"text": unit_name, "standoff": 6}, "rangemode": "tozero"},
        "yaxis": axis | ({"tickformat": ".4~%"} if chart.percent else {}) | _range(traces),
    }
    return {"data": traces, "layout": layout}


def _range(traces: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a range from 0 to twice the value if all points have the same one; Plotly would show 1 below and above."""
    values = {value for trace in traces for value in trace["y"] if value is not None}
    return {"range": [0, 2 * max(values)]} if len(values) == 1 and max(values) > 0 else {}


def _trace(curve: RunCurves, x: np.ndarray, y: np.ndarray, unit: float) -> dict[str, Any]:
    x, y = decimate(x, y)
    alone = np.isfinite(y).sum() == 1
    return {
        "type": "scatter",
        "mode": "markers" if alone else "lines",
        # Five digits are more than a chart shows and take half of the bytes.
        "x": [float(f"{value:.5g}") for value in x / unit],
        "y": [None if math.isnan(value) else float(f"{value:.5g}") for value in y],
        "line": {"color": curve.colour, "width": 1},
        "marker": {"color": curve.colour, "size": 7},
        "connectgaps": False,
    }


def describe(chart: Chart, curves: Sequence[RunCurves]) -> str:
    """Return a chart's text alternative."""
    words = []
    for curve in curves:
        source, field, _ = chart.fields[0]
        x, y = curve.line(source, field, "epoch")
        finite = np.flatnonzero(np.isfinite(y))
        if len(finite):
            words.append(f"{curve.name} {y[finite[-1]]:.4g} at epoch {x[finite[-1]]:.4g}")
    return f"{chart.title}: {'; '.join(words) or 'nothing yet'}"
