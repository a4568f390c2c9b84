"""The confusion matrix as a Plotly figure whose cells can be clicked."""

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from swin_core.figures.palette import SERIES
from swin_core.figures.text import percent, shorten

__all__ = ["confusion_figure", "scale_words"]

LETTER_PIXELS = 7.5
"""Room for a letter of the names of classes."""
NAMES_AT_MOST, LONG_NAMES_AT_MOST = 20, 30
"""Letters of a name; more in a matrix of few classes, which may be super-classes."""
_STOPS = (0.0, 0.02, 0.1, 0.3, 1.0)
_WEIGHTS = (0.12, 0.3, 0.5, 0.75, 1.0)


def confusion_figure(matrix: np.ndarray, names: Sequence[str], totals: np.ndarray, diagonal: bool) -> dict[str, Any]:
    """Counts by right class (down) and predicted class (across).

    Colours are one hue each for mistakes and for what is right, by weight, so that they work on both grounds and in
    grey. Heat maps cannot be clicked in a selection: what is clicked is a mark that nobody sees, one in each cell.

    Args:
        matrix: `(n, m)` counts; the first n columns are the classes of the rows.
        names: of the columns, m.
        totals: `(n,)` images of each row's class, in all columns.
        diagonal: whether what is right is drawn too.
    """
    shown = matrix.astype(float)
    right = np.full_like(shown, np.nan)
    np.fill_diagonal(right, np.diag(matrix))
    np.fill_diagonal(shown, np.nan)
    for layer in (shown, right):
        layer[layer == 0] = np.nan
    layers = [_layer(shown, SERIES[5])] + ([_layer(right, SERIES[0])] if diagonal else [])
    rows, columns = np.nonzero(matrix)
    kept = np.ones(len(rows), bool) if diagonal else rows != columns
    cells = list(zip(rows[kept].tolist(), columns[kept].tolist(), strict=True))
    side = 26 if len(matrix) <= 25 else 18 if len(matrix) <= 45 else 11
    marks = {
        "type": "scatter",
        "mode": "markers",
        "x": [column for _, column in cells],
        "y": [row for row, _ in cells],
        "text": [_words(matrix, names, totals, row, column) for row, column in cells],
        "hovertemplate": "%{text}<extra></extra>",
        # Not 0, which Plotly leaves out of what can be clicked.
        "marker": {"symbol": "square", "size": side - 1, "opacity": 0.004, "color": SERIES[7]},
        "unselected": {"marker": {"opacity": 0.004}},
        "selected": {"marker": {"opacity": 0.004}},
        "showlegend": False,
    }
    letters = LONG_NAMES_AT_MOST if side == 26 else NAMES_AT_MOST
    ticks = [escape(shorten(name.replace("_", " "), letters)) for name in names]
    axis = {"tickmode": "array", "automargin": True, "zeroline": False, "ticks": "", "showgrid": False}
    axis |= {"tickfont": {"size": 13 if side > 20 else 11 if side > 12 else 9}}
    across = {"tickvals": list(range(len(names))), "ticktext": ticks, "side": "top", "tickangle": -90}
    down = {"tickvals": list(range(len(matrix))), "ticktext": ticks[: len(matrix)]}
    return {
        "data": [*layers, marks],
        "layout": {
            "xaxis": axis | across | {"range": [-0.5, len(names) - 0.5]},
            "yaxis": axis | down | {"range": [len(matrix) - 0.5, -0.5]},
            "height": side * len(matrix) + round(LETTER_PIXELS * max(map(len, ticks))),
            "margin": {"l": 0, "r": 0, "t": 0, "b": 0},
            "dragmode": "zoom",
            "hovermode": "closest",
            "hoverdistance": side,
            "clickmode": "event+select",
        },
    }


def scale_words(matrix: np.ndarray, diagonal: bool) -> str:
    """What the colours of a matrix `(n, m)` stand for."""
    off = matrix.copy()
    np.fill_diagonal(off, 0)
    words = f"The darker, the more images: orange are mistakes, up to {off.max(initial=0):,} in a cell"
    return f"{words}; blue is right, up to {np.diag(matrix).max(initial=0):,}." if diagonal else f"{words}."


def _layer(values: np.ndarray, colour: str) -> dict[str, Any]:
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    scale = [[stop, f"rgba({red},{green},{blue},{alpha})"] for stop, alpha in zip(_STOPS, _WEIGHTS, strict=True)]
    top = float(np.nanmax(values)) if np.isfinite(values).any() else 1.0
    return {
        "type": "heatmap",
        "z": [[None if np.isnan(value) else int(value) for value in line] for line in values],
        "zmin": 0,
        "zmax": top,
        "colorscale": scale,
        "showscale": False,
        "xgap": 1,
        "ygap": 1,
        "hoverinfo": "skip",
    }


def _words(matrix: np.ndarray, names: Sequence[str], totals: np.ndarray, row: int, column: int) -> str:
    count, share = int(matrix[row, column]), matrix[row, column] / max(1, int(totals[row]))
    truth, predicted = (escape(names[place].replace("_", " ")) for place in (row, column))
    what = f"{truth}, right" if row == column else f"{truth} taken for {predicted}"
    return f"{what}: {count} of {int(totals[row])} ({percent(float(share))})"
