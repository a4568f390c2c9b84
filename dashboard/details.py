"""What stands around the grid: agreement of the maps, each model's first choices, link and exports."""

from collections.abc import Callable
from functools import partial
from urllib.parse import urlencode

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from dashboard.theme import DIVERGING, INK, plain
from swin_core.explain.browser import CONFIG, escaped_lines
from swin_core.explain.export import KINDS, encode
from swin_core.explain.grid import Grid, Row
from swin_core.explain.render import percent, shorten
from swin_core.explain.report import too_large

__all__ = ["show_agreement", "show_exports", "show_link", "show_top_classes"]

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
            st.markdown(f"**{plain(shorten(name))}**")
            if cell.explanation is None:
                st.caption(plain(cell.error))
                continue
            probabilities = cell.explanation.probabilities
            for index in np.argsort(-probabilities, kind="stable")[:TOP]:
                value = float(probabilities[index])
                label = cell.explanation.labels[index]
                st.progress(min(value, 1.0), plain(f"{label} · {percent(value)}"))


def show_link(uploads: bool) -> None:
    """The address that leads back to this view."""
    with st.popover("Link", icon=":material/link:"):
        st.markdown("This address leads back to this view: it holds pictures, models and look.")
        query = urlencode([(name, value) for name in st.query_params for value in st.query_params.get_all(name)])
        st.code(f"{st.context.url or ''}{'?' if query else ''}{query}", language=None, wrap_lines=True)
        if uploads:
            st.caption("Your own pictures are not in it: they stay on this machine; choose them again.")


def show_exports(grid: Grid, latest: Callable[[], Grid]) -> None:
    """Buttons that save the grid as a file.

    Args:
        grid: what is shown.
        latest: the grid with what is known when a button is clicked, which is when the file is written.
    """
    names = {
        "png": "Picture (PNG)",
        "pdf": "Page (PDF)",
        "html": "Report (HTML)",
        "json": "Report to compute again (JSON)",
        "npz": "Raw arrays (NPZ)",
    }
    with st.popover("Export", icon=":material/download:", disabled=not grid.rows):
        fault = too_large(grid)
        for kind, name in names.items():
            st.download_button(
                name,
                partial(_encoded, latest, kind),
                file_name=f"swinlens.{kind}",
                mime=KINDS[kind],
                on_click="ignore",
                width="stretch",
                key=f"export_{kind}",
                disabled=kind == "json" and bool(fault),
            )
        if fault:  # when the button is clicked it is too late: Streamlit would not show the reason
            st.caption(f"Without JSON: {fault}")


def _encoded(latest: Callable[[], Grid], kind: str) -> bytes:
    return encode(latest(), kind)
