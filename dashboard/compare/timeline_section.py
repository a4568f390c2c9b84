"""The timeline of a run: heat maps of its checkpoints, and curves over the epochs."""

import logging

import jinja2
import numpy as np
import plotly.graph_objects as go
import streamlit as st

from dashboard.compare.measurements import TimelineRequest, cached_timeline, run_folder
from dashboard.shared.cache import DEPTHS, FUSED, STAGES
from dashboard.shared.charts import CONFIG
from dashboard.shared.comparison import Comparison, ImageAndClass
from dashboard.shared.formatting import unexpected
from dashboard.shared.theme import SERIES, escape_markdown
from swin_core.attribution.overlay import Look
from swin_core.comparisons.timeline import Timeline
from swin_core.errors import SwinError
from swin_core.figures.text import percent
from swin_core.images.data_uri import image_uri

log = logging.getLogger(__name__)

SMALL_PIXELS, LARGE_PIXELS = 96, 360
HEIGHT = 125
EXPLAINED = (
    "One image and one class, explained by the checkpoints of the run. Similarity is Spearman's rank correlation "
    "with the last map: 1 if both rank all positions alike."
)
WITHOUT_CONTRAST = "The contrast class is not used here."
MARK = "#2F86C1"
# The script scrolls the chosen epoch into view in a strip that is wider than the page.
STRIP = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""
<style>
.timeline { position: relative; display: flex; gap: 8px; overflow-x: auto; padding: 3px 3px 8px; }
.timeline figure { margin: 0; flex: 1 0 34px; max-width: 96px; text-align: center; font-size: 12px; line-height: 1.4; }
.timeline img { display: block; width: 100%; height: auto; margin-bottom: 4px; border-radius: 4px; }
.timeline img { outline: 3px solid transparent; }
.timeline figure.here img { outline-color: {{ mark }}; }
.timeline figure.here figcaption { font-weight: 650; }
@media (max-width: 640px) { .timeline figure { flex-basis: 64px; } }
</style>
<div class="timeline">
  {% for source, epoch, probability in maps %}
  <figure{% if loop.index0 == here %} class="here"{% endif %}>
    <img src="{{ source }}" alt="Heat map after epoch {{ epoch }}, {{ probability }}"
         width="{{ pixels }}" height="{{ pixels }}">
    <figcaption>{{ epoch }}<br>{{ probability }}</figcaption>
  </figure>
  {% endfor %}
</div>
<script>
for (const strip of document.querySelectorAll(".timeline")) {
  const here = strip.querySelector(".here");
  strip.scrollLeft = here.offsetLeft - (strip.clientWidth - here.offsetWidth) / 2;
}
</script>""")


def show_timeline(comparison: Comparison, line: ImageAndClass, look: Look) -> None:
    """Draw the section if one of the models is a run; compute the timeline when the section is opened."""
    runs = {model: folder for model in comparison.models if (folder := run_folder(model))}
    if not runs:
        return
    section = st.expander(
        "Heat maps over the epochs", icon=":material/timeline:", key="gaze", on_change="rerun", bind="query-params"
    )
    if not section.open:
        return
    with section:
        st.caption(EXPLAINED if comparison.against is None else f"{EXPLAINED} {WITHOUT_CONTRAST}")
        model = next(iter(runs))
        if len(runs) > 1:
            model = st.selectbox("Run", list(runs), key="gaze_run", width=330, bind="query-params")
        layer = None if comparison.layer in (STAGES, *FUSED, *DEPTHS) else comparison.layer
        request = TimelineRequest(runs[model], line.image, line.target, comparison.method, layer)
        slot = st.empty()

        def show_progress(done: int, count: int) -> None:
            slot.progress(done / count, f"Explaining checkpoint {done} of {count}")

        try:
            timeline = cached_timeline(request, show_progress)
        except SwinError as error:
            slot.info(escape_markdown(str(error)), icon=":material/info:")
            return
        except Exception as error:
            log.exception("the timeline of %s failed", model)
            slot.error(unexpected(error))
            return
        slot.empty()
        _show(timeline, line, look)


def _show(timeline: Timeline, line: ImageAndClass, look: Look) -> None:
    st.markdown(f"**{escape_markdown(timeline.label)}** in {escape_markdown(line.image.title)}")
    names = [f"epoch {epoch}" for epoch in timeline.epochs]
    name = st.select_slider("Epoch", names, names[-1], key="gaze_epoch", bind="query-params")
    here = names.index(name) if name in names else len(names) - 1
    sources = map(image_uri, timeline.draw(look, SMALL_PIXELS))
    probabilities = [percent(float(value)) for value in timeline.probabilities]
    maps = zip(sources, timeline.epochs, probabilities, strict=True)
    st.html(STRIP.render(maps=maps, here=here, pixels=SMALL_PIXELS, mark=MARK), unsafe_allow_javascript=True)
    left, right = st.columns([2, 3], gap="large")
    with left:
        caption = f"{names[here]}: {probabilities[here]}, similarity {timeline.similarity[here]:.2f}"
        image = timeline.draw(look, LARGE_PIXELS)[here]
        st.image(image, caption, output_format="JPEG", alt=f"Heat map after {names[here]}")
    with right:
        least = min(0.0, float(np.nanmin(timeline.similarity))) - 0.04
        for key, title, values, colour, low in (
            ("probability", "Probability of the class", timeline.probabilities, SERIES[0], -0.04),
            ("likeness", "Similarity to the last map", timeline.similarity, SERIES[5], least),
        ):
            st.caption(title)
            chart = _chart(timeline.epochs, values, colour, low, here)
            st.plotly_chart(chart, config=CONFIG, key=f"timeline_{key}", alt=f"{title} by epoch")


def _chart(epochs: tuple[int, ...], values: np.ndarray, colour: str, low: float, here: int) -> go.Figure:
    axis = {"fixedrange": True, "zeroline": False, "tickfont": {"size": 12}}
    line = {"type": "scatter", "mode": "lines+markers", "x": epochs, "y": values, "line": {"color": colour}}
    mark = {"type": "line", "x0": epochs[here], "x1": epochs[here], "y0": 0, "y1": 1, "yref": "paper"}
    layout = {
        "height": HEIGHT,
        "margin": {"l": 0, "r": 8, "t": 9, "b": 0},
        "showlegend": False,
        "dragmode": False,
        "hovermode": "x",
        "xaxis": axis | {"title": {"text": "epoch", "font": {"size": 12}}},
        "yaxis": axis | {"range": [low, 1.04], "dtick": 0.5},
        "shapes": [mark | {"line": {"color": MARK, "width": 2, "dash": "dot"}}],
    }
    return go.Figure({"data": [line | {"hovertemplate": "%{y:.2f}<extra></extra>"}], "layout": layout})
