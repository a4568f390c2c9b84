"""The confusion matrix as a Plotly figure whose cells can be clicked."""

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from dashboard.browse.tiles import spaced
from swin_core.figures.palette import SERIES
from swin_core.figures.text import percent, shorten

LETTER_PIXELS = 7.5
"""Width of a letter of the class names."""
NAME_LETTERS, LONG_NAME_LETTERS = 20, 30
"""Letters shown of a class name; more in a small matrix."""
_STOPS = (0.0, 0.02, 0.1, 0.3, 1.0)
_ALPHAS = (0.12, 0.3, 0.5, 0.75, 1.0)


def confusion_figure(matrix: np.ndarray, names: Sequence[str], totals: np.ndarray, diagonal: bool) -> dict[str, Any]:
    """Draw the counts by true class (rows) and predicted class (columns).

    Mistakes have one hue and correct predictions another; the opacity grows with the count, which works in both themes
    and in grey. Plotly does not select cells of a heat map, so each cell has an invisible marker that can be clicked.

    Args:
        matrix: `(n, m)` counts; the first n columns are the classes of the rows.
        names: class names of the m columns.
        totals: `(n,)` images of each true class over all columns.
        diagonal: whether correct predictions are drawn too.
    """
    off_diagonal = _off_diagonal(matrix)
    heat_maps = [_heat_map(matrix, off_diagonal, SERIES[5])]
    if diagonal:
        heat_maps.append(_heat_map(matrix, ~off_diagonal, SERIES[0]))
    rows, columns = np.nonzero(matrix if diagonal else matrix * off_diagonal)
    side = 26 if len(matrix) <= 25 else 18 if len(matrix) <= 45 else 11
    markers = {
        "type": "scatter",
        "mode": "markers",
        "x": columns.tolist(),
        "y": rows.tolist(),
        "text": [
            _describe_cell(matrix, names, totals, *cell) for cell in zip(rows.tolist(), columns.tolist(), strict=True)
        ],
        "hovertemplate": "%{text}<extra></extra>",
        # Not fully transparent: Plotly ignores clicks on those.
        "marker": {"symbol": "square", "size": side - 1, "opacity": 0.004, "color": SERIES[7]},
        "unselected": {"marker": {"opacity": 0.004}},
        "selected": {"marker": {"opacity": 0.004}},
        "showlegend": False,
    }
    letters = LONG_NAME_LETTERS if side == 26 else NAME_LETTERS
    ticks = [escape(shorten(spaced(name), letters)) for name in names]
    axis = {"tickmode": "array", "automargin": True, "zeroline": False, "ticks": "", "showgrid": False}
    axis |= {"tickfont": {"size": 13 if side > 20 else 11 if side > 12 else 9}}
    x_ticks = {"tickvals": list(range(len(names))), "ticktext": ticks, "side": "top", "tickangle": -90}
    y_ticks = {"tickvals": list(range(len(matrix))), "ticktext": ticks[: len(matrix)]}
    return {
        "data": [*heat_maps, markers],
        "layout": {
            "xaxis": axis | x_ticks | {"range": [-0.5, len(names) - 0.5]},
            "yaxis": axis | y_ticks | {"range": [len(matrix) - 0.5, -0.5]},
            "height": side * len(matrix) + round(LETTER_PIXELS * max(map(len, ticks))),
            "margin": {"l": 0, "r": 0, "t": 0, "b": 0},
            "dragmode": "zoom",
            "hovermode": "closest",
            "hoverdistance": side,
            "clickmode": "event+select",
        },
    }


def _off_diagonal(matrix: np.ndarray) -> np.ndarray:
    return np.not_equal.outer(np.arange(matrix.shape[0]), np.arange(matrix.shape[1]))


def describe_colours(matrix: np.ndarray, diagonal: bool) -> str:
    """Explain the colours of a matrix `(n, m)`."""
    mistakes = (matrix * _off_diagonal(matrix)).max(initial=0)
    text = f"Darker cells hold more images: orange for mistakes, up to {mistakes:,} a cell"
    return (
        f"{text}; blue for correct predictions, up to {np.diag(matrix).max(initial=0):,}." if diagonal else f"{text}."
    )


def _heat_map(matrix: np.ndarray, cells: np.ndarray, colour: str) -> dict[str, Any]:
    """Draw the non-zero counts among some cells, `(n, m)` bool, in one hue."""
    counts = matrix * cells
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return {
        "type": "heatmap",
        "z": [[count or None for count in row] for row in counts.tolist()],
        "zmin": 0,
        "zmax": int(counts.max(initial=0)) or 1,
        "colorscale": [
            [stop, f"rgba({red},{green},{blue},{alpha})"] for stop, alpha in zip(_STOPS, _ALPHAS, strict=True)
        ],
        "showscale": False,
        "xgap": 1,
        "ygap": 1,
        "hoverinfo": "skip",
    }


def _describe_cell(matrix: np.ndarray, names: Sequence[str], totals: np.ndarray, row: int, column: int) -> str:
    truth, predicted = escape(spaced(names[row])), escape(spaced(names[column]))
    what = f"{truth}, right" if row == column else f"{truth} taken for {predicted}"
    share = percent(float(matrix[row, column] / max(1, totals[row])))
    return f"{what}: {matrix[row, column]} of {totals[row]} ({share})"
