"""The mean map of a class for each model: what they look at by habit, over many images."""

import logging
from collections.abc import Sequence

import streamlit as st

from dashboard.compare.measurements import MeanRequest, held_out_splits, mean_of_class, open_data_set
from dashboard.compare.timeline_section import ALONE
from dashboard.shared.cache import FUSED, STAGES, loaded_classifier
from dashboard.shared.comparison import Comparison
from dashboard.shared.theme import escape_markdown
from swin_core.attribution.overlay import Look
from swin_core.class_names import candidates
from swin_core.comparisons.class_mean import BORDER_AREA, ClassMean
from swin_core.errors import SwinError
from swin_core.figures.text import percent, shorten

__all__ = ["show_class_means"]

log = logging.getLogger(__name__)

COUNTS = (8, 16, 32, 64, 128)
SIDE = 320
EXPLAINED = (
    "The mean of a model's maps over images of one class that training held back, over the mean of these images. "
    "One image can mislead; a habit, such as a look at the border, shows in the mean."
)


def show_class_means(comparison: Comparison, likely: str, look: Look) -> None:
    """The section of mean maps; they are computed when it is opened.

    Args:
        comparison: the models, the method and the layer.
        likely: the class to start with, if the images have it.
        look: colours, opacity and threshold.
    """
    section = st.expander(
        "The mean map of a class", icon=":material/stacks:", key="means", on_change="rerun", bind="query-params"
    )
    if not section.open:
        return
    with section:
        st.caption(EXPLAINED if comparison.against is None else f"{EXPLAINED} {ALONE}")
        with st.container(horizontal=True):
            data = st.selectbox("Pictures", list(held_out_splits()), key="means_data", width=260, bind="query-params")
            try:
                classes = open_data_set(data).classes
            except SwinError as error:
                st.info(escape_markdown(str(error)), icon=":material/info:")
                return
            known = [name for name in classes if any(_knows(model, name) for model in comparison.models)]
            if not known:
                st.info("None of the models knows a class of these images.", icon=":material/info:")
                return
            name = st.selectbox(
                "Class",
                known,
                next(iter(candidates(known, likely)), 0),
                key="means_class",
                width=230,
                bind="query-params",
            )
            count = st.selectbox(
                "Images at most", COUNTS, COUNTS.index(32), key="means_count", width=150, bind="query-params"
            )
        layer = None if comparison.layer in (STAGES, *FUSED) else comparison.layer
        requests = [
            MeanRequest(model, data, name, count, comparison.method, layer)
            for model in comparison.models
            if _knows(model, name)
        ]
        _show(requests, look)
        unknown = [model for model in comparison.models if not _knows(model, name)]
        if unknown:
            st.caption(escape_markdown(f"Without this class: {', '.join(unknown)}."))


def _knows(model: str, name: str) -> bool:
    held = loaded_classifier(model)
    return held is not None and bool(candidates(held.labels, name))


def _show(requests: Sequence[MeanRequest], look: Look) -> None:
    """A column a model, filled one after the other."""
    columns = st.columns(max(len(requests), 2))
    places = []
    for column, request in zip(columns, requests, strict=False):
        with column:
            st.markdown(f"**{escape_markdown(shorten(request.model))}**")
            places.append(st.empty())
    for place, request in zip(places, requests, strict=True):
        found = _mean(place, request)
        if found is not None:
            with place.container():
                _show_mean(found, request, look)


def _mean(place: st.delta_generator.DeltaGenerator, request: MeanRequest) -> ClassMean | None:
    try:
        return mean_of_class(request, lambda done, count: _tell(place, done, count))
    except SwinError as error:
        place.caption(escape_markdown(str(error)))
    except Exception as error:
        log.exception("the mean map of %s failed", request.model)
        place.error(f"This failed unexpectedly ({type(error).__name__}); the server's log says more.")
    return None


def _tell(place: st.delta_generator.DeltaGenerator, done: int, count: int) -> None:
    place.progress(done / count, f"{done} of {count} images")


def _show_mean(found: ClassMean, request: MeanRequest, look: Look) -> None:
    mean, spread = found.draw(look, SIDE)
    empty = f", {found.empty} empty maps left out" if found.empty else ""
    left, right = st.columns(2, gap="small", wrap=False)
    for place, drawn, kind, values in ((left, mean, "mean", found.mean), (right, spread, "spread", found.spread)):
        words, alt = f"{kind}, 0 to {values.max():.2g}", f"{kind.capitalize()} of the maps of {found.label}"
        place.image(drawn, words, width="stretch", output_format="JPEG", alt=alt)
    border = f"{percent(found.border)} of its mass at the border, which is {percent(BORDER_AREA)} of the image"
    st.caption(
        escape_markdown(f"{found.count} images of {found.label}{empty}: {border}. On the scale 1 is an even share.")
    )
