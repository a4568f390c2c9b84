"""The mean map of a class for each model, over many images."""

import logging

import streamlit as st

from dashboard.compare.measurements import MeanRequest, cached_class_mean, held_out_splits, open_data_set
from dashboard.compare.timeline_section import WITHOUT_CONTRAST
from dashboard.shared.cache import FUSED, STAGES, loaded_classifier
from dashboard.shared.comparison import Comparison
from dashboard.shared.formatting import unexpected
from dashboard.shared.theme import escape_markdown
from swin_core.attribution.overlay import Look
from swin_core.class_names import candidates
from swin_core.comparisons.class_mean import BORDER_AREA, ClassMean
from swin_core.errors import SwinError
from swin_core.figures.text import percent, shorten

log = logging.getLogger(__name__)

COUNTS = (8, 16, 32, 64, 128)
SIDE = 320
EXPLAINED = (
    "The mean of a model's maps over images of one class that training did not use, on the mean of these images. "
    "It shows habits, such as attention to the border, that one image cannot show."
)


def show_class_means(comparison: Comparison, likely: str, look: Look) -> None:
    """Draw the section; compute the mean maps when it is opened.

    Args:
        comparison: its models, method and layer are used.
        likely: the class to start with, if the images have it.
        look: colour map, opacity and threshold.
    """
    section = st.expander(
        "The mean map of a class", icon=":material/stacks:", key="means", on_change="rerun", bind="query-params"
    )
    if not section.open:
        return
    with section:
        st.caption(EXPLAINED if comparison.against is None else f"{EXPLAINED} {WITHOUT_CONTRAST}")
        with st.container(horizontal=True):
            data = st.selectbox("Data set", list(held_out_splits()), key="means_data", width=260, bind="query-params")
            try:
                classes = open_data_set(data).classes
            except SwinError as error:
                st.info(escape_markdown(str(error)), icon=":material/info:")
                return
            known = [name for name in classes if any(_knows(model, name) for model in comparison.models)]
            if not known:
                st.info("None of the models has a class of these images.", icon=":material/info:")
                return
            start = next(iter(candidates(known, likely)), 0)
            name = st.selectbox("Class", known, start, key="means_class", width=230, bind="query-params")
            count = st.selectbox(
                "Images at most", COUNTS, COUNTS.index(32), key="means_count", width=150, bind="query-params"
            )
        layer = None if comparison.layer in (STAGES, *FUSED) else comparison.layer
        models = [model for model in comparison.models if _knows(model, name)]
        slots = []
        for column, model in zip(st.columns(max(len(models), 2)), models, strict=False):
            column.markdown(f"**{escape_markdown(shorten(model))}**")
            slots.append(column.empty())
        for slot, model in zip(slots, models, strict=True):
            _show(slot, MeanRequest(model, data, name, count, comparison.method, layer), look)
        if unknown := [model for model in comparison.models if model not in models]:
            st.caption(escape_markdown(f"Without this class: {', '.join(unknown)}."))


def _knows(model: str, name: str) -> bool:
    classifier = loaded_classifier(model)
    return classifier is not None and bool(candidates(classifier.labels, name))


def _show(slot: st.delta_generator.DeltaGenerator, request: MeanRequest, look: Look) -> None:
    def show_progress(done: int, count: int) -> None:
        slot.progress(done / count, f"{done} of {count} images")

    try:
        mean = cached_class_mean(request, show_progress)
    except SwinError as error:
        slot.caption(escape_markdown(str(error)))
    except Exception as error:
        log.exception("the mean map of %s failed", request.model)
        slot.error(unexpected(error))
    else:
        with slot.container():
            _show_mean(mean, look)


def _show_mean(mean: ClassMean, look: Look) -> None:
    columns = st.columns(2, gap="small", wrap=False)
    images, values = mean.draw(look, SIDE), (mean.mean, mean.spread)
    for column, kind, image, shown in zip(columns, ("mean", "spread"), images, values, strict=True):
        caption, alt = f"{kind}, 0 to {shown.max():.2g}", f"{kind.capitalize()} of the maps of {mean.label}"
        column.image(image, caption, width="stretch", output_format="JPEG", alt=alt)
    empty = f", {mean.empty} empty maps left out" if mean.empty else ""
    st.caption(
        escape_markdown(
            f"{mean.count} images of {mean.label}{empty}. The border is {percent(BORDER_AREA)} of the image and "
            f"has {percent(mean.border)} of the map's total. A value of 1 is the average of a map."
        )
    )
