"""How a run's gaze formed: the maps of its checkpoints as a strip with a slider, and two curves over the epochs."""

import logging
from html import escape

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from dashboard.compare.measurements import TimelineRequest, run_folder, timeline_of
from dashboard.shared.cache import FUSED, STAGES
from dashboard.shared.comparison import Comparison, Line
from dashboard.shared.theme import escape_markdown
from swin_core.attribution.overlay import Look, data_uri
from swin_core.comparisons.timeline import Timeline
from swin_core.errors import SwinError
from swin_core.figures.palette import SERIES
from swin_core.figures.plotly_grid import CONFIG
from swin_core.figures.text import percent

__all__ = ["ALONE", "show_gaze"]

log = logging.getLogger(__name__)

SMALL_PIXELS, LARGE_PIXELS = 96, 360
HEIGHT = 250
EXPLAINED = (
    "One image and one class, explained by the weights that the run kept on its way. Likeness is Spearman's rank "
    "correlation with the last map: 1 is the same order of bright and dark."
)
ALONE = "The class is explained by itself here, not rather than another one."
STYLE = """<style>
.gaze { position: relative; display: flex; gap: 8px; overflow-x: auto; padding: 3px 3px 8px; }
.gaze figure { margin: 0; flex: 1 0 34px; max-width: 96px; text-align: center; font-size: 12px; line-height: 1.4; }
.gaze img { display: block; width: 100%; height: auto; margin-bottom: 4px; border-radius: 4px; }
.gaze img { outline: 3px solid transparent; }
.gaze figure.here img { outline-color: #2F86C1; }
.gaze figure.here figcaption { font-weight: 650; }
@media (max-width: 640px) { .gaze figure { flex-basis: 64px; } }
</style>"""
SCROLL = """<script>
for (const strip of document.querySelectorAll(".gaze")) {
  const here = strip.querySelector(".here");
  strip.scrollLeft = here.offsetLeft - (strip.clientWidth - here.offsetWidth) / 2;
}
</script>"""
"""Brings the chosen epoch into the middle of a strip that is wider than the page."""


def show_gaze(comparison: Comparison, line: Line, look: Look) -> None:
    """The section of the timeline, if a run is among the models; it is computed when it is opened."""
    runs = {model: folder for model in comparison.models if (folder := run_folder(model))}
    if not runs:
        return
    section = st.expander(
        "How the gaze formed over the epochs",
        icon=":material/timeline:",
        key="gaze",
        on_change="rerun",
        bind="query-params",
    )
    if not section.open:
        return
    with section:
        st.caption(EXPLAINED if comparison.against is None else f"{EXPLAINED} {ALONE}")
        model = next(iter(runs))
        if len(runs) > 1:
            model = st.selectbox("Run", list(runs), key="gaze_run", width=330, bind="query-params")
        layer = None if comparison.layer in (STAGES, *FUSED) else comparison.layer
        request = TimelineRequest(runs[model], line.picture, line.target, comparison.method, layer)
        place = st.empty()
        try:
            found = timeline_of(request, lambda done, count: _tell(place, done, count))
        except SwinError as error:
            place.info(escape_markdown(str(error)), icon=":material/info:")
            return
        except Exception as error:
            log.exception("the timeline of %s failed", model)
            place.error(f"This failed unexpectedly ({type(error).__name__}); the server's log says more.")
            return
        place.empty()
        _show(found, line, look)


def _tell(place: st.delta_generator.DeltaGenerator, done: int, count: int) -> None:
    place.progress(done / count, f"Explaining checkpoint {done} of {count}")


def _show(found: Timeline, line: Line, look: Look) -> None:
    st.markdown(f"**{escape_markdown(found.label)}** in {escape_markdown(line.picture.title)}")
    names = [f"epoch {epoch}" for epoch in found.epochs]
    name = st.select_slider("Epoch", names, names[-1], key="gaze_epoch", bind="query-params")
    here = names.index(name) if name in names else len(names) - 1
    st.html(STYLE + _strip(found, look, here) + SCROLL, unsafe_allow_javascript=True)
    left, right = st.columns([2, 3], gap="large")
    large = found.draw(look, LARGE_PIXELS)[here]
    sure = percent(float(found.probabilities[here]))
    with left:
        words = f"{names[here]}: {sure}, likeness {found.similarity[here]:.2f}"
        st.image(large, words, output_format="JPEG", alt=f"Heat map after {names[here]}")
    with right:
        least = min(0.0, float(np.nanmin(found.similarity))) - 0.04
        curves = (
            ("Probability of the class", found.probabilities, SERIES[0], [-0.04, 1.04]),
            ("Likeness to the last map", found.similarity, SERIES[5], [least, 1.04]),
        )
        for title, values, color, span in curves:
            st.caption(title)
            chart = _curve(found, values, color, span, here)
            st.plotly_chart(chart, config=CONFIG, key=f"gaze_{title.split()[0].lower()}", alt=f"{title} by epoch")


def _strip(found: Timeline, look: Look, here: int) -> str:
    figures = []
    for place, (picture, epoch) in enumerate(zip(found.draw(look, SMALL_PIXELS), found.epochs, strict=True)):
        sure = percent(float(found.probabilities[place]))
        words, size = escape(f"Heat map after epoch {epoch}, {sure}"), f'width="{SMALL_PIXELS}" height="{SMALL_PIXELS}"'
        figures.append(
            f'<figure{" class=here" if place == here else ""}><img src="{data_uri(picture)}" alt="{words}" '
            f"{size}><figcaption>{epoch}<br>{escape(sure)}</figcaption></figure>"
        )
    return f'<div class="gaze">{"".join(figures)}</div>'


def _curve(found: Timeline, values: object, color: str, span: list[float], here: int) -> go.Figure:
    axis = {"fixedrange": True, "zeroline": False, "tickfont": {"size": 12}}
    line = {"type": "scatter", "mode": "lines+markers", "x": found.epochs, "y": values, "line": {"color": color}}
    mark = {"type": "line", "x0": found.epochs[here], "x1": found.epochs[here], "y0": 0, "y1": 1, "yref": "paper"}
    layout = {
        "height": HEIGHT // 2,
        "margin": {"l": 0, "r": 8, "t": 9, "b": 0},
        "showlegend": False,
        "dragmode": False,
        "hovermode": "x",
        "xaxis": axis | {"title": {"text": "epoch", "font": {"size": 12}}},
        "yaxis": axis | {"range": span, "dtick": 0.5},
        "shapes": [mark | {"line": {"color": "#2F86C1", "width": 2, "dash": "dot"}}],
    }
    return go.Figure({"data": [line | {"hovertemplate": "%{y:.2f}<extra></extra>"}], "layout": layout})
