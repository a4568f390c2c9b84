"""Agreement between the maps of one row, and each model's top classes."""

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from dashboard.shared.charts import CONFIG, escaped_lines
from dashboard.shared.theme import DIVERGING_SCALE, INK, escape_markdown
from swin_core.figures.grid import Row
from swin_core.figures.text import shorten, value_text

NAME_COLUMNS = 22


def show_agreement(matrix: np.ndarray, models: tuple[str, ...]) -> None:
    """Draw Spearman's rank correlations between the maps of one row, `(C, C)`.

    The names of the models label the rows; numbers that stand for them label the columns.
    """
    shown = [index for index in range(len(models)) if not np.isnan(matrix[index, index])]
    if len(shown) < 2:
        st.caption("There are no two maps to compare.")
        return
    names = [f"<b>{index + 1}</b>  {escaped_lines(shorten(models[index]), NAME_COLUMNS)}" for index in shown]
    others = np.where(np.eye(len(models), dtype=bool), np.nan, matrix)[np.ix_(shown, shown)]
    axis = {"tickmode": "array", "tickvals": list(range(len(shown))), "fixedrange": True, "automargin": True}
    axis |= {"showgrid": False, "zeroline": False, "ticks": "", "tickfont": {"size": 13}}
    trace = {
        "type": "heatmap",
        "z": others,
        "text": [["" if np.isnan(value) else f"{value:.2f}" for value in values] for values in others],
        "texttemplate": "%{text}",
        "textfont": {"size": 14, "color": INK},
        "zmin": -1,
        "zmax": 1,
        "colorscale": [list(stop) for stop in DIVERGING_SCALE],
        "showscale": False,
        "xgap": 3,
        "ygap": 3,
        "hoverinfo": "skip",
    }
    most_lines = max(name.count("<br>") + 1 for name in names)
    layout = {
        "xaxis": {**axis, "ticktext": [f"<b>{index + 1}</b>" for index in shown], "side": "top"},
        "yaxis": {**axis, "ticktext": names, "autorange": "reversed"},
        "margin": {"l": 0, "r": 0, "t": 0, "b": 0},
        "height": 28 + max(44, 18 * most_lines + 10) * len(shown),
        "dragmode": False,
    }
    pairs = [f"{models[j]} and {models[i]} {matrix[i, j]:.2f}" for i in shown for j in shown if j < i]
    st.plotly_chart(
        go.Figure({"data": [trace], "layout": layout}),
        config=CONFIG,
        alt=f"Agreement of the maps: {'; '.join(pairs)}",
    )


def show_top_classes(row: Row, models: tuple[str, ...]) -> None:
    """Draw each model's top classes with their probabilities, one column per model."""
    for column, name, cell in zip(st.columns(len(models)), models, row.cells, strict=True):
        with column:
            st.markdown(f"**{escape_markdown(shorten(name))}**")
            if cell.explanation is None:
                st.caption(escape_markdown(cell.error))
                continue
            activation = cell.explanation.activation
            for label, value in cell.explanation.top_classes():
                text = escape_markdown(f"{label} · {value_text(value, activation)}")
                if activation == "none":  # no share of anything, so no bar
                    st.markdown(text)
                else:
                    st.progress(min(value, 1.0), text)
