"""The controls above the grid: what its rows are, which class is explained, and at which layer."""

from contextlib import suppress

import streamlit as st

from dashboard.address import not_offered
from dashboard.cache import Picture, held_classifier
from dashboard.choices import PICTURES_AT_MOST, once
from dashboard.comparison import Line, own_classes
from dashboard.theme import plain
from swin_core.errors import LayerError
from swin_core.explain import METHODS, offered_layers
from swin_core.explain.figure import is_class

__all__ = ["ROWS", "choose_classes", "choose_layer", "choose_method", "choose_rows", "ignored_classes", "name_classes"]

ROWS = {
    "top": "Pictures, each model's own first choice",
    "named": "Pictures, one class for each",
    "classes": "Classes of one picture",
}
OWN_LAYER = "default"


def choose_rows() -> str:
    """What a row is and which class it explains: "top", "named" or "classes"."""
    return st.selectbox("Rows", list(ROWS), format_func=ROWS.__getitem__, key="rows", width=330, bind="query-params")


def choose_method() -> str:
    """The attribution method."""
    return st.selectbox(
        "Method", list(METHODS), format_func=METHODS.__getitem__, key="method", width=130, bind="query-params"
    )


def choose_layer(models: list[str]) -> str | None:
    """One target layer for all models, or None for each model's own default."""
    chosen = st.selectbox(
        "Layer",
        [OWN_LAYER, *once(map(_layers, models))],
        format_func=lambda name: "Each model's default" if name == OWN_LAYER else name,
        key="layer",
        width=210,
        bind="query-params",
    )
    return None if chosen == OWN_LAYER else chosen


def name_classes(pictures: list[Picture], models: list[str]) -> list[Line]:
    """One row for each picture, with one class by name."""
    labels = _labels(models)
    if not labels:
        return [Line(picture) for picture in pictures]
    lines = []
    with st.container(horizontal=True):
        for number, picture in enumerate(pictures, 1):
            likely = next((label for label in labels if is_class(label, picture.truth)), labels[0])
            name = st.selectbox(
                plain(picture.title),
                labels,
                labels.index(likely),
                key=f"class{number}",
                width=210,
                bind="query-params",
            )
            lines.append(Line(picture, name))
    return lines


def choose_classes(pictures: list[Picture], models: list[str], method: str) -> list[Line]:
    """One row for each chosen class of one picture; the models' own first choices until one is chosen."""
    titles = [picture.title for picture in pictures]
    which, what = st.columns([1, 3])
    title = which.selectbox("Picture", titles, key="picture", bind="query-params")
    picture = pictures[titles.index(title)]
    chosen = what.multiselect(
        "Classes, one a row",
        _labels(models),
        max_selections=PICTURES_AT_MOST,
        placeholder="The models' own first choices",
        select_all=False,
        key="classes",
        bind="query-params",
    )
    names = chosen or own_classes(picture, models, method)
    return [Line(picture, name, name) for name in names[:PICTURES_AT_MOST]] or [Line(picture)]


def ignored_classes(rows: str, pictures: list[Picture], models: list[str]) -> list[str]:
    """A line for each widget of classes that the address gives a class no model has; see `not_offered`."""
    keys = {"top": [], "classes": ["classes"], "named": [f"class{number + 1}" for number in range(len(pictures))]}
    labels = _labels(models)
    return [line for key in keys[rows] for line in not_offered(key, labels)] if labels else []


def _labels(models: list[str]) -> list[str]:
    loaded = map(held_classifier, models)
    return once(model.labels for model in loaded if model is not None)


def _layers(name: str) -> tuple[str, ...]:
    model = held_classifier(name)
    # A model without any grid of places says so in its cells.
    with suppress(LayerError):
        return offered_layers(model) if model is not None else ()
    return ()
