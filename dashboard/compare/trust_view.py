"""The dialog behind a badge: the deletion and insertion curves of a map and of its baselines."""

from typing import Any

import plotly.graph_objects as go
import streamlit as st

from dashboard.shared.charts import CONFIG
from dashboard.shared.legend import show_legend
from dashboard.shared.model_names import model_title
from dashboard.shared.theme import SERIES, escape_markdown
from swin_core.attribution.methods import METHODS
from swin_core.figures.grid import Cell
from swin_core.figures.reading_guide import TRUST
from swin_core.trust.assess import Measures, ProbabilityCurve, Trust

# Colour, and the line's style in Plotly and in CSS.
STYLES = {
    "this map": (SERIES[0], "solid", "solid"),
    "random maps": (SERIES[7], "dot", "dotted"),
    "middle of the image": (SERIES[1], "dash", "dashed"),
}
CAPTIONS = {
    "deletion": "Deletion: pixels with the highest values are removed first. A fast fall is good.",
    "retention": "Reverse deletion: pixels with the lowest values are removed first. A late fall is good.",
    "insertion": "Insertion: pixels with the highest values are inserted first, into a blurred image. "
    "A fast rise is good.",
}


@st.dialog("Does this map beat the baselines?", width="large")
def show_trust(cell: Cell, model: str, trust: Trust) -> None:
    """Show the conclusion, the curves and the metrics of one map."""
    explanation = cell.explanation
    if explanation is None:
        return
    layer = "" if explanation.layers[cell.layer] == "input" else f" at {explanation.layers[cell.layer]}"
    method, label = METHODS[explanation.method].title, explanation.labels[trust.target]
    st.caption(escape_markdown(f"{model_title(model)}: {method}{layer}, for {label}"))
    st.markdown(escape_markdown(trust.sentence))
    show_legend([(name, colour, css) for name, (colour, _, css) in STYLES.items()])
    measures: list[Measures] = [trust, trust.random, trust.centred]
    for column, (name, caption) in zip(st.columns(3), CAPTIONS.items(), strict=True):
        with column:
            chart = _chart([getattr(measure, name) for measure in measures], explanation.activation)
            st.plotly_chart(chart, config=CONFIG, key=f"curve_{name}", alt=caption)
            st.caption(caption)
    table = {
        "": list(STYLES),
        # The sentence compares with what random maps reach by chance, not with their mean, which is near 0.
        "SRG ↑": [f"{trust.srg:+.2f}", f"±{trust.chance:.2f}", f"{trust.centred.srg:+.2f}"],
        "ROAD ↑": [f"{measure.road:+.2f}" for measure in measures],
        "Deletion ↓": [f"{measure.deletion.area:.2f}" for measure in measures],
        "Insertion ↑": [f"{measure.insertion.area:.2f}" for measure in measures],
    }
    st.table(table, border="horizontal")
    st.caption(TRUST)
    if explanation.completeness is not None:
        error = float(explanation.completeness[cell.target])
        st.caption(f"Completeness: the sum of the map differs by {error:.2g} from the value in theory; 0 is exact.")


def _chart(curves: list[ProbabilityCurve], activation: str) -> go.Figure:
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [100 * share for share in curve.shares],
            "y": curve.probabilities,
            "name": name,
            "line": {"color": colour, "dash": dash, "width": 2.5 if dash == "solid" else 2},
            "hovertemplate": "%{y:.2f}",
        }
        for curve, (name, (colour, dash, _)) in zip(curves, STYLES.items(), strict=True)
    ]
    axis = {"fixedrange": True, "zeroline": False, "tickfont": {"size": 12}}
    probability = {"title": {"text": "probability", "font": {"size": 12}}, "range": [0, 1.02]}
    layout = {
        "height": 230,
        "margin": {"l": 0, "r": 14, "t": 6, "b": 0},
        "showlegend": False,
        "hovermode": "x unified",
        "dragmode": False,
        "xaxis": axis | {"title": {"text": "pixels changed, %", "font": {"size": 12}}, "range": [0, 101], "dtick": 50},
        "yaxis": axis | ({"title": {"text": "output", "font": {"size": 12}}} if activation == "none" else probability),
    }
    return go.Figure({"data": traces, "layout": layout})
