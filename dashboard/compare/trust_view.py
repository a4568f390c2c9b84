"""Why a map can be believed or not: its curves beside those of maps that know nothing, on a click on its badge."""

from typing import Any

import plotly.graph_objects as go
import streamlit as st

from dashboard.shared.theme import escape_markdown
from swin_core.attribution.methods import METHODS
from swin_core.figures.grid import Cell
from swin_core.figures.palette import SERIES
from swin_core.figures.plotly_grid import CONFIG
from swin_core.trust.assess import Curve, Measures, Trust

__all__ = ["show_trust"]

NAMES = {"this map": SERIES[0], "random maps": SERIES[7], "middle of the image": SERIES[1]}
DASHES = ("solid", "dot", "dash")
HEIGHT = 230

DELETION = "Deletion: what the map marks most goes first. A fast fall is good."
RETENTION = "Deletion in reverse: what the map marks least goes first. A late fall is good."
INSERTION = "Insertion: what the map marks most comes first into a blurred image. A fast rise is good."
SRG = (
    "SRG, the symmetric relevance gain, is the area between the first two curves: 0 for a map that knows nothing, "
    "higher is better. The badge says believe if the map's SRG is above that of the random maps and of a blob in the "
    "middle."
)


@st.dialog("Can this map be believed?", width="large")
def show_trust(cell: Cell, model: str, trust: Trust) -> None:
    """A sentence, the curves, and the figures of one map."""
    found = cell.explanation
    if found is None:
        return
    layer = "" if found.layers[cell.layer] == "input" else f" at {found.layers[cell.layer]}"
    st.caption(escape_markdown(f"{model}: {METHODS[found.method]}{layer}, for {found.labels[trust.target]}"))
    st.markdown(escape_markdown(trust.sentence))
    st.html(_legend())
    parts = {"this map": trust, "random maps": trust.random, "middle of the image": trust.centred}
    for column, (name, words) in zip(
        st.columns(3), {"deletion": DELETION, "retention": RETENTION, "insertion": INSERTION}.items(), strict=True
    ):
        with column:
            curves = [getattr(part, name) for part in parts.values()]
            st.plotly_chart(_figure(curves), config=CONFIG, key=f"curve_{name}", alt=words)
            st.caption(words)
    st.table(_figures(parts), border="horizontal")
    st.caption(SRG)
    if found.completeness is not None:
        rest = float(found.completeness[cell.target])
        st.caption(f"Completeness: the map's sum is {rest:.2g} away from what theory says it is; 0 is exact.")


def _figures(parts: dict[str, Measures]) -> dict[str, list[str]]:
    """The figures as a table, a line for each map."""
    return {
        "": list(parts),
        "SRG ↑": [f"{part.srg:+.2f}" for part in parts.values()],
        "ROAD ↑": [f"{part.road:+.2f}" for part in parts.values()],
        "Deletion ↓": [f"{part.deletion.area:.2f}" for part in parts.values()],
        "Insertion ↑": [f"{part.insertion.area:.2f}" for part in parts.values()],
    }


def _figure(curves: list[Curve]) -> go.Figure:
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [100 * share for share in curve.shares],
            "y": curve.probabilities,
            "name": name,
            "line": {"color": color, "dash": dash, "width": 2.5 if dash == "solid" else 2},
            "hovertemplate": "%{y:.2f}",
        }
        for curve, (name, color), dash in zip(curves, NAMES.items(), DASHES, strict=True)
    ]
    axis = {"fixedrange": True, "zeroline": False, "tickfont": {"size": 12}, "title": {"font": {"size": 12}}}
    layout = {
        "height": HEIGHT,
        "margin": {"l": 0, "r": 14, "t": 6, "b": 0},
        "showlegend": False,
        "hovermode": "x unified",
        "dragmode": False,
        "xaxis": axis | {"title": {"text": "pixels changed, %", "font": {"size": 12}}, "range": [0, 101], "dtick": 50},
        "yaxis": axis | {"title": {"text": "probability", "font": {"size": 12}}, "range": [0, 1.02]},
    }
    return go.Figure({"data": traces, "layout": layout})


def _legend() -> str:
    """One legend for all charts: a line in each colour and dash, with its name."""
    styles = {"solid": "solid", "dot": "dotted", "dash": "dashed"}
    entries = [
        f'<span style="display:inline-flex;align-items:center;gap:8px;margin-right:22px;font-size:13px">'
        f'<span style="width:26px;border-top:3px {styles[dash]} {color}"></span>{name}</span>'
        for (name, color), dash in zip(NAMES.items(), DASHES, strict=True)
    ]
    return f"<div>{''.join(entries)}</div>"
