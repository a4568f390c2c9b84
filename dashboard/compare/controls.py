"""The controls above the grid: rows, method, layer, classes, contrast class and map checks."""

from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard.shared.cache import DEPTHS, FUSED, STAGES, InputImage, loaded_classifier, stages
from dashboard.shared.comparison import ImageAndClass, top_classes
from dashboard.shared.formatting import size
from dashboard.shared.model_names import MAX_IMAGES, unique
from dashboard.shared.theme import escape_markdown
from dashboard.shared.url_state import choose_from_list, follows_back, unknown_link_values
from swin_core.attribution.layers import offered_layers
from swin_core.attribution.methods import METHODS, NOT_OFFERED
from swin_core.attribution.stages import has_stages
from swin_core.attribution.targets import RUNNER_UP
from swin_core.class_names import candidates
from swin_core.errors import LayerError
from swin_core.figures.text import shorten
from swin_core.system.cache import MOST_BYTES, cached_bytes

ROWS = {
    "top": "One row per image (top-1 class)",
    "named": "One row per image (chosen class)",
    "classes": "One row per class of an image",
}
SHORT_ROWS = {
    "top": "likeliest",
    "named": "chosen",
    "classes": "several",
    **dict(zip(ROWS.values(), ("likeliest", "chosen", "several"), strict=True)),
}
"""By key and by the words of the URL."""
LIKELIEST = "Likeliest class of each model"
"""Choice of a class for an image."""
DEFAULT_LAYER = "default"
LAYERS = {
    DEFAULT_LAYER: "Each model's default",
    **{name: f"{words.capitalize()} stage" for name, words in DEPTHS.items()},
    STAGES: "All stages, side by side",
    "*mean": "All stages, fused by mean",
    "*max": "All stages, fused by maximum",
}
BEST_METHOD = "best"
BEST_TITLE = "Best measured for each model"
LABEL_COLUMNS = 28
NO_CONTRAST = "none"
CONTRASTS = {NO_CONTRAST: "No class", RUNNER_UP: "Runner-up"}


STYLE = """<style>
.st-key-options { flex-wrap: nowrap; overflow-x: auto; scrollbar-width: thin; }
.st-key-options > * { flex: none; width: auto; }
@media (max-width: 640px) { /* one line above the maps */
  .st-key-choices { flex-wrap: nowrap; overflow-x: auto; scrollbar-width: thin; }
  .st-key-choices > *, .st-key-choices :is(.st-key-models, .st-key-options) {
    flex: none; width: auto; max-width: none; overflow: visible;
  }
}
.st-key-options [data-testid="stPopover"] button { min-height: 32px; padding: 2px 10px; }
</style>"""


class OptionBoxes(NamedTuple):
    """The folded controls, each behind a button that says what is chosen."""

    rows: DeltaGenerator
    method: DeltaGenerator
    layer: DeltaGenerator
    against: DeltaGenerator
    more: DeltaGenerator


def option_boxes() -> OptionBoxes:
    """Draw the buttons; return what they open."""
    methods = {name: method.title for name, method in METHODS.items()}
    best = dict.fromkeys((BEST_METHOD, BEST_TITLE), "best for each model")
    default = dict.fromkeys((DEFAULT_LAYER, LAYERS[DEFAULT_LAYER]), "default")
    no_contrast = dict.fromkeys((NO_CONTRAST, CONTRASTS[NO_CONTRAST]), "none")
    st.html(STYLE)
    with st.container(horizontal=True, gap="xsmall", width="content", key="options"):
        return OptionBoxes(
            _option_box("Class", "rows", SHORT_ROWS, "top"),
            _option_box("Method", "method", methods | best, BEST_METHOD),
            _option_box("Layer", "layer", LAYERS | default, DEFAULT_LAYER),
            _option_box("Contrast", "against", CONTRASTS | no_contrast, NO_CONTRAST),
            st.popover("More", icon=":material/tune:", key="more_box"),
        )


def _option_box(name: str, key: str, words: Mapping[str, str], usual: str) -> DeltaGenerator:
    """Draw a button with what is chosen; return what it opens."""
    value = _chosen(key) or usual
    text = f"{name}: {shorten(words.get(value, value), LABEL_COLUMNS)}"
    return st.popover(escape_markdown(text), key=f"{key}_box")


def _chosen(key: str) -> str:
    """Return what a widget will hold once it is drawn, as its option or as the URL says it; empty for the default."""
    in_url = str(st.query_params.get(key, ""))
    if follows_back():
        return in_url  # while the key still holds the value of before
    return str(st.session_state.get(key) or in_url)


def choose_rows() -> str:
    """Draw the choice of rows; return a key of `ROWS`."""
    return st.selectbox("Rows", list(ROWS), format_func=ROWS.__getitem__, key="rows", width=300, bind="query-params")


def choose_method() -> str | None:
    """Draw the choice of the attribution method; return it, or None for the best one measured for each model."""
    method = st.selectbox(
        "Method",
        [BEST_METHOD, *METHODS],
        format_func=lambda name: METHODS[name].title if name in METHODS else BEST_TITLE,
        help="\n".join(["Methods that are not offered, and why:", *(f"- {reason}" for reason in NOT_OFFERED.values())]),
        key="method",
        width=230,
        bind="query-params",
    )
    return None if method == BEST_METHOD else method


def choose_against(models: list[str], method: str | None, ignored: list[str]) -> str | None:
    """Draw the choice of the contrast class; return its name, `RUNNER_UP`, or None.

    `ignored` receives a warning about a class in the URL that no model has.
    """
    if method and not METHODS[method].by_class:
        reason = f"{METHODS[method].title} gives the same map for every class."
        st.selectbox("Contrast with", [CONTRASTS[NO_CONTRAST]], disabled=True, key="no_other", width=190, help=reason)
        return None
    ignored += unknown_link_values("against", [*CONTRASTS.values(), *_labels(models)])
    against = st.selectbox(
        "Contrast with",
        [*CONTRASTS, *_labels(models)],
        format_func=lambda name: CONTRASTS.get(name, name),
        help="Shows what speaks for the class and against this one: the class with the next highest probability, "
        "or a chosen class.",
        key="against",
        width=190,
        bind="query-params",
    )
    return None if against == NO_CONTRAST else against


def choose_layer(models: list[str], method: str | None, ignored: list[str]) -> str | None:
    """Draw the choice of the target layer; return a name, `STAGES`, a key of `FUSED`, or None for the default.

    `ignored` receives a warning about a layer in the URL that no model offers.
    """
    names = LAYERS
    if method is None or METHODS[method].kind == "layer":
        offered = [DEFAULT_LAYER, *DEPTHS, STAGES, *FUSED]
        by_name = unique(map(_layers, models))
    elif has_stages(method):
        names = LAYERS | {DEFAULT_LAYER: "The pixels"}
        offered = [DEFAULT_LAYER, STAGES]
        by_name = unique(stages(model, method)[1:] for model in models)  # [0] is the pixels
    else:
        reason = "This method gives one map for the whole model."
        st.selectbox("Layer", ["None to choose"], disabled=True, key="no_layer", width=230, help=reason)
        return None
    ignored += unknown_link_values("layer", [*(names[name] for name in offered), *by_name])
    exact = st.session_state.get("exact_layers") or _chosen("layer") in by_name
    layer = st.selectbox(
        "Layer",
        [*offered, *(by_name if exact else [])],
        format_func=lambda name: names.get(name, name),
        key="layer",
        width=230,
        bind="query-params",
    )
    st.toggle("Layers by name", key="exact_layers", help="Also lists each layer by its exact name in the model.")
    return None if layer == DEFAULT_LAYER else layer


def shows_stages(method: str | None) -> bool:
    """Return whether the columns are stages, which is known before `choose_layer` is: that needs the models."""
    can = method is None or METHODS[method].kind == "layer" or has_stages(method)
    return can and _chosen("layer") in (STAGES, LAYERS[STAGES])


def show_more() -> bool:
    """Draw the switch of the map checks, a link to the quiz, and the memory in use; return the switch's value."""
    trusted = st.toggle(
        "Map checks",
        True,
        help="Measures in the background whether removing what a map marks lowers the class more than removing other "
        "pixels: some 300 forward passes per map.",
        key="trust",
        bind="query-params",
    )
    st.page_link("views/quiz.py", label="Quiz: where does it look?", icon=":material/quiz:")
    st.caption(f"Memory: {size(cached_bytes())} of caches, limit {size(MOST_BYTES)}")
    return trusted


def choose_lines(rows: str, images: list[InputImage], models: list[str], method: str | None) -> list[ImageAndClass]:
    """Draw the choice of classes for a key of `ROWS`; return the lines to compare."""
    labels = _labels(models)
    if rows == "classes":
        return _choose_classes(images, models, method)
    if rows == "top" or not labels:
        return list(map(ImageAndClass, images))
    lines = []
    for number, image in enumerate(images, 1):
        start = labels[next(iter(candidates(labels, image.truth)), 0)]
        title = escape_markdown(image.title)
        name = choose_from_list(title, [LIKELIEST, *labels], f"class{number}", str, start, [])
        lines.append(ImageAndClass(image, None if name == LIKELIEST else name))
    return lines


def _choose_classes(images: list[InputImage], models: list[str], method: str | None) -> list[ImageAndClass]:
    """Return one line for each chosen class of one image; until one is chosen, for the models' top-1 classes."""
    titles = [image.title for image in images]
    image = images[titles.index(st.selectbox("Image", titles, key="picture", bind="query-params"))]
    names = st.multiselect(
        "Classes, one per row",
        _labels(models),
        max_selections=MAX_IMAGES,
        placeholder="Top-1 class of each model",
        select_all=False,
        key="classes",
        bind="query-params",
    )
    names = names or top_classes(image, models, method)
    return [ImageAndClass(image, name, name) for name in names[:MAX_IMAGES]] or [ImageAndClass(image)]


def ignored_classes(rows: str, images: list[InputImage], models: list[str]) -> list[str]:
    """Return warnings about classes in the URL that no model has; see `unknown_link_values`."""
    keys = {"top": [], "classes": ["classes"], "named": [f"class{number + 1}" for number in range(len(images))]}
    labels = _labels(models)
    return [line for key in keys[rows] for line in unknown_link_values(key, [LIKELIEST, *labels])] if labels else []


def _labels(models: list[str]) -> list[str]:
    return unique(model.labels for model in map(loaded_classifier, models) if model is not None)


def _layers(name: str) -> tuple[str, ...]:
    model = loaded_classifier(name)
    with suppress(LayerError):  # the cells of a model without a spatial layer say so
        return offered_layers(model) if model is not None else ()
    return ()
