"""The controls above the grid: the rows, the class and what it is set against, the method and the layer."""

from contextlib import suppress

import streamlit as st

from dashboard.shared.cache import FUSED, STAGES, InputImage, loaded_classifier, stages
from dashboard.shared.comparison import Line, top_classes
from dashboard.shared.model_names import MAX_IMAGES, unique
from dashboard.shared.theme import escape_markdown
from dashboard.shared.url_state import unknown_values
from swin_core.attribution.layers import offered_layers
from swin_core.attribution.methods import METHOD_FACTS, METHODS, NOT_OFFERED
from swin_core.attribution.stages import has_stages
from swin_core.attribution.targets import RUNNER_UP
from swin_core.class_names import candidates
from swin_core.errors import LayerError

__all__ = [
    "BEST_TITLE",
    "ROWS",
    "choose_against",
    "choose_classes",
    "choose_layer",
    "choose_method",
    "choose_rows",
    "ignored_classes",
    "name_classes",
]

ROWS = {
    "top": "Images, each model's own first choice",
    "named": "Images, one class for each",
    "classes": "Classes of one image",
}
OWN_LAYER = "default"
LAYERS = {
    OWN_LAYER: "Each model's default",
    STAGES: "All stages, side by side",
    "*mean": "All stages, fused by mean",
    "*max": "All stages, fused by maximum",
}
BEST_METHOD = "best"
BEST_TITLE = "Each model's best measured"
NO_OTHER = "none"
OTHERS = {NO_OTHER: "No other class", RUNNER_UP: "Its strongest rival"}


def choose_rows() -> str:
    """What a row is and which class it explains: "top", "named" or "classes"."""
    return st.selectbox("Rows", list(ROWS), format_func=ROWS.__getitem__, key="rows", width=300, bind="query-params")


def choose_method() -> str | None:
    """The attribution method, or None for the best one measured for each model."""
    chosen = st.selectbox(
        "Method",
        [BEST_METHOD, *METHODS],
        format_func=lambda name: METHODS.get(name, BEST_TITLE),
        help="\n".join(["What is not offered, and why:", *(f"- {reason}" for reason in NOT_OFFERED.values())]),
        key="method",
        width=230,
        bind="query-params",
    )
    return None if chosen == BEST_METHOD else chosen


def choose_against(models: list[str], method: str | None) -> str | None:
    """The class rather than which the targets are explained, by its name or `RUNNER_UP`; None for no other class."""
    if method and not METHOD_FACTS[method].by_class:
        help_text = f"{METHODS[method]} is the same for every class, so that there is nothing to compare."
        st.selectbox("Rather than", [OTHERS[NO_OTHER]], disabled=True, key="no_other", width=190, help=help_text)
        return None
    chosen = st.selectbox(
        "Rather than",
        [*OTHERS, *_labels(models)],
        format_func=lambda name: OTHERS.get(name, name),
        help="Asks what speaks for the class rather than for this one: the likeliest of the others, or one by name.",
        key="against",
        width=190,
        bind="query-params",
    )
    return None if chosen == NO_OTHER else chosen


def choose_layer(models: list[str], method: str | None) -> str | None:
    """A target layer for all models, all stages or what is fused of them, or None for each model's own default."""
    facts = METHOD_FACTS[method] if method else None
    at_layer = facts is None or facts.kind == "layer"
    if at_layer:
        offered = [OWN_LAYER, STAGES, *FUSED, *unique(map(_layers, models))]
    elif facts is not None and has_stages(facts.name):
        offered = [OWN_LAYER, STAGES, *unique(stages(name, facts.name)[1:] for name in models)]  # the pixels come first
    else:
        help_text = "This method has one map for the whole model: there is no layer to choose."
        st.selectbox("Layer", ["None to choose"], disabled=True, key="no_layer", width=230, help=help_text)
        return None
    names = LAYERS if at_layer else LAYERS | {OWN_LAYER: "The pixels"}
    chosen = st.selectbox(
        "Layer",
        offered,
        format_func=lambda name: names.get(name, name),
        key="layer",
        width=230,
        bind="query-params",
    )
    return None if chosen == OWN_LAYER else chosen


def name_classes(pictures: list[InputImage], models: list[str]) -> list[Line]:
    """One row for each image, with one class by name."""
    labels = _labels(models)
    if not labels:
        return [Line(picture) for picture in pictures]
    lines = []
    with st.container(horizontal=True):
        for number, picture in enumerate(pictures, 1):
            likely = labels[next(iter(candidates(labels, picture.truth)), 0)]
            name = st.selectbox(
                escape_markdown(picture.title),
                labels,
                labels.index(likely),
                key=f"class{number}",
                width=210,
                bind="query-params",
            )
            lines.append(Line(picture, name))
    return lines


def choose_classes(pictures: list[InputImage], models: list[str], method: str | None) -> list[Line]:
    """One row for each chosen class of one image; the models' own first choices until one is chosen."""
    titles = [picture.title for picture in pictures]
    which, what = st.columns([1, 3])
    title = which.selectbox("Picture", titles, key="picture", bind="query-params")
    picture = pictures[titles.index(title)]
    chosen = what.multiselect(
        "Classes, one a row",
        _labels(models),
        max_selections=MAX_IMAGES,
        placeholder="The models' own first choices",
        select_all=False,
        key="classes",
        bind="query-params",
    )
    names = chosen or top_classes(picture, models, method)
    return [Line(picture, name, name) for name in names[:MAX_IMAGES]] or [Line(picture)]


def ignored_classes(rows: str, pictures: list[InputImage], models: list[str]) -> list[str]:
    """A line for each widget of classes that the address gives a class no model has; see `not_offered`."""
    keys = {"top": [], "classes": ["classes"], "named": [f"class{number + 1}" for number in range(len(pictures))]}
    labels = _labels(models)
    return [line for key in keys[rows] for line in unknown_values(key, labels)] if labels else []


def _labels(models: list[str]) -> list[str]:
    loaded = map(loaded_classifier, models)
    return unique(model.labels for model in loaded if model is not None)


def _layers(name: str) -> tuple[str, ...]:
    model = loaded_classifier(name)
    # A model without any grid of places says so in its cells.
    with suppress(LayerError):
        return offered_layers(model) if model is not None else ()
    return ()
