"""The filters of the Browse page: data set, split, models, search, classes and order, all kept in the URL.

Each `choose_` function appends a warning to `ignored` for each value of the URL that its widgets do not offer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard.browse.tiles import BrowsedData, spaced
from dashboard.shared import cache
from dashboard.shared.datasets import DataSetEntry, data_sets, open_catalog
from dashboard.shared.film_strip import set_tray, tray
from dashboard.shared.image_selection import forget_selection, image_selection
from dashboard.shared.model_names import MAX_IMAGES, column_titles
from dashboard.shared.notices import set_notice
from dashboard.shared.theme import escape_markdown
from dashboard.shared.url_state import choose_from_list, set_url_list, unknown_values
from swin_core.evaluation.selection import (
    ALL,
    ANY,
    DISAGREE,
    OTHER,
    RIGHT,
    SHOWN,
    SORTS,
    WRONG,
    ImageQuery,
    class_choice,
    class_choices,
)

ALL_SPLITS = "all splits"
TABS = ("Images", "Map", "Confusion", "Classes", "Confidence", "Mean map")
PAGE_SIZES = (50, 100)
NONE = "None"

_search_while_typing = st.components.v2.component(
    "swinlens_typing", js=(Path(__file__).parent / "typing.js").read_text(encoding="utf-8")
)


@dataclass(frozen=True)
class ModelChoice:
    """The models whose predictions are shown: one, two to compare, or none."""

    first: str | None = None
    second: str | None = None
    titles: tuple[str, ...] = ()
    """Their display names, in this order."""


def filter_bar() -> DeltaGenerator:
    """Draw the bar of the filters, in which a search takes effect while it is typed; return it."""
    st.html("""<style>
    .st-key-filters > * { flex: 1 1 150px; max-width: 260px; }
    </style>""")
    with st.container(key="typing"):
        _search_while_typing(key="search_while_typing")
    return st.container(horizontal=True, gap="small", key="filters")


def choose_data(ignored: list[str]) -> BrowsedData | None:
    """Draw the selects of the data set and its split; return None if there is no data set on this machine.

    Raises:
        DataError: the data set is malformed.
    """
    by_name = {collection.name: collection for collection in data_sets()}
    if not by_name:
        return None
    name = _select(
        "Data set", list(by_name), "data", ignored, words=lambda name: by_name[name].title, on_change=_reset_filters
    )
    collection = by_name[name]
    splits = [*collection.splits, *([ALL_SPLITS] if len(collection.splits) > 1 else [])]
    split = _select("Split", splits, "split", ignored)
    return open_data(collection, collection.splits if split == ALL_SPLITS else (split,))


def open_data(collection: DataSetEntry, splits: Sequence[str]) -> BrowsedData:
    """Return some splits of a data set with their cached catalog.

    Raises:
        DataError: the data set is malformed.
    """
    return BrowsedData(collection, tuple(splits), open_catalog(collection.name, splits))


def choose_predictions(models: Sequence[str], preferred: str | None, ignored: list[str]) -> ModelChoice:
    """Draw the selects of the model whose predictions are shown, at first `preferred`, and of one to compare with."""
    if not models:
        return ModelChoice()
    titles = dict(zip(models, column_titles(models), strict=True))
    start = models.index(preferred) if preferred in models else 0
    first = choose_from_list("Predictions of", models, "judge", titles.__getitem__, models[start], ignored)
    second = NONE
    if len(models) > 1:
        others = [NONE, *(name for name in models if name != first)]
        second = choose_from_list("Compared with", others, "versus", lambda name: titles.get(name, name), NONE, ignored)
    if second == NONE:
        return ModelChoice(first, None, (titles[first],))
    return ModelChoice(first, second, (titles[first], titles[second]))


def choose_filter(data: BrowsedData, models: ModelChoice, ignored: list[str]) -> ImageQuery:
    """Draw search, classes, right or wrong, and the order."""
    search = st.text_input("Search", placeholder="file, class or super-class", key="search", bind="query-params")
    choices = class_choices(data.catalog)
    words = spaced if len(set(map(spaced, choices))) == len(choices) else str
    truth = _select("Class", choices, "class", ignored, words=words) if data.catalog.classes else ANY
    predicted, show = ANY, ALL
    if models.first is not None:
        if data.catalog.classes:
            predicted = _select("Predicted class", [ANY, OTHER, *choices[1:]], "predicted", ignored, words=words)
            show = _select("Show", SHOWN if models.second else (ALL, RIGHT, WRONG), "show", ignored)
        else:
            classifier = cache.loaded_classifier(models.first)
            labels = [ANY, *map(class_choice, classifier.labels if classifier else ())]
            predicted = _select("Predicted class", labels, "predicted", ignored)
            show = _select("Show", (ALL, DISAGREE), "show", ignored) if models.second else ALL
    orders = SORTS if data.catalog.classes else SORTS[:4]
    order = _select("Order", orders if models.first else SORTS[:2], "sort", ignored)
    return ImageQuery(search, truth, predicted, show, order)


def _select(
    label: str,
    options: Sequence[str],
    key: str,
    ignored: list[str],
    *,
    index: int = 0,
    words: Callable[[str], str] = str,
    on_change: Callable[[], None] | None = None,
) -> str:
    """Draw a select box bound to the URL; drop a value that the current data set and models do not offer."""
    value = st.session_state.get(key)
    if value is None:
        ignored += unknown_values(key, list(map(words, options)))
    elif value not in options:
        del st.session_state[key]
    return st.selectbox(
        label, options, index, format_func=words, key=key, on_change=on_change or "rerun", bind="query-params"
    )


def _reset_filters() -> None:
    """Start another data set with its first split and all of its images."""
    for collection in data_sets():
        if collection.name == st.session_state.data:
            st.session_state.split = collection.splits[0]
    st.session_state.update({"class": ANY, "predicted": ANY, "show": ALL, "search": "", "page": 1})
    for key in ("judge", "versus"):
        set_url_list(key, [])


def show_images(truth: str = ANY, predicted: str = ANY, show: str = ALL, sort: str = SORTS[0]) -> None:
    """Open the sheet with these filters. To be called in a callback, before the widgets are drawn."""
    filters = {"class": truth, "predicted": predicted, "show": show, "sort": sort, "search": "", "page": 1}
    for key, value in {**filters, "view": TABS[0]}.items():
        st.session_state[key] = value


def only_selected(data: BrowsedData, rows: np.ndarray) -> np.ndarray:
    """Draw which images the map or another page selected, with a button that shows all; return the rows among them."""
    selection, kept = image_selection(), selected_rows(data)
    if selection is None or not len(kept):  # another data set or split
        return rows
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(escape_markdown(f"Only the {len(kept):,} images of {selection.title}."))
        st.button("Show all images", icon=":material/filter_alt_off:", on_click=forget_selection)
    return rows[np.isin(rows, kept)]


def selected_rows(data: BrowsedData) -> np.ndarray:
    """Return the images that the map or another page selected, `(n,)` int64, sorted; empty if none are of this data."""
    selection = image_selection()
    rows = (data.row(name) for name in selection.names) if selection is not None else ()
    return np.array(sorted(row for row in rows if row is not None), np.int64)


def toggle_in_tray(name: str) -> None:
    """Put an image into the tray, or remove it."""
    picked = tray()
    full = ""
    if name in picked:
        picked.remove(name)
    elif len(picked) < MAX_IMAGES:
        picked.append(name)
    else:
        full = f"The tray holds {MAX_IMAGES} images: remove one first."
    set_notice("tray", full)
    set_tray(picked)
