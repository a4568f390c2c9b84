"""Agreement between the maps of one row, and each model's likeliest classes."""

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from dashboard.shared.theme import DIVERGING, escape_markdown
from swin_core.figures.grid import Row
from swin_core.figures.palette import INK
from swin_core.figures.plotly_grid import CONFIG, escaped_lines
from swin_core.figures.text import percent, shorten

TOP = 5
NAME_COLUMNS = 22


def show_agreement(matrix: np.ndarray, models: tuple[str, ...]) -> None:
    """Spearman's rank correlation between the maps of one row, as a small matrix with its numbers.

    The models' names stand before the rows only, with a number that stands for them over the columns.
    """
    # A map agrees with itself, which needs no number; a model without a map needs no place.
    there = [index for index in range(len(models)) if not np.isnan(matrix[index, index])]
    if len(there) < 2:
        st.caption("There are no two maps to compare.")
        return
    numbers = [f"<b>{index + 1}</b>" for index in there]
    names = [f"<b>{index + 1}</b>  {escaped_lines(shorten(models[index]), NAME_COLUMNS)}" for index in there]
    shown = np.where(np.eye(len(models), dtype=bool), np.nan, matrix)[np.ix_(there, there)]
    places = list(range(len(there)))
    axis = {"tickmode": "array", "tickvals": places, "fixedrange": True, "automargin": True}
    axis |= {"showgrid": False, "zeroline": False, "ticks": "", "tickfont": {"size": 13}}
    trace = {
        "type": "heatmap",
        "z": shown,
        "text": [["" if np.isnan(value) else f"{value:.2f}" for value in line] for line in shown],
        "texttemplate": "%{text}",
        "textfont": {"size": 14, "color": INK},
        "zmin": -1,
        "zmax": 1,
        "colorscale": [list(stop) for stop in DIVERGING],
        "showscale": False,
        "xgap": 3,
        "ygap": 3,
        "hoverinfo": "skip",
    }
    longest = max(name.count("<br>") + 1 for name in names)
    layout = {
        "xaxis": {**axis, "ticktext": numbers, "side": "top"},
        "yaxis": {**axis, "ticktext": names, "autorange": "reversed"},
        "margin": {"l": 0, "r": 0, "t": 0, "b": 0},
        "height": 28 + max(44, 18 * longest + 10) * len(there),
        "dragmode": False,
    }
    words = [f"{models[j]} and {models[i]} {matrix[i, j]:.2f}" for i in there for j in there if j < i]
    st.plotly_chart(
        go.Figure({"data": [trace], "layout": layout}),
        config=CONFIG,
        alt=f"Agreement of the maps: {'; '.join(words)}",
    )


def show_top_classes(row: Row, models: tuple[str, ...]) -> None:
    """Each model's first choices with their probabilities, one column a model, in the grid's order."""
    for column, name, cell in zip(st.columns(len(models)), models, row.cells, strict=True):
        with column:
            st.markdown(f"**{escape_markdown(shorten(name))}**")
            if cell.explanation is None:
                st.caption(escape_markdown(cell.error))
                continue
            probabilities = cell.explanation.probabilities
            for index in np.argsort(-probabilities, kind="stable")[:TOP]:
                value = float(probabilities[index])
                label = cell.explanation.labels[index]
                st.progress(min(value, 1.0), escape_markdown(f"{label} · {percent(value)}"))
