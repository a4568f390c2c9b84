"""The choices of the Browse page: data set, split, classes, search, models and order; all of them in the address."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import streamlit as st

from dashboard.browse.tiles import Shown, spaced
from dashboard.shared.datasets import DataSetEntry, data_sets, open_split
from dashboard.shared.model_names import MAX_IMAGES, column_titles
from dashboard.shared.sidebar import set_tray
from dashboard.shared.url_state import unknown_values
from swin_core.data.catalog import Catalog
from swin_core.evaluation.selection import ANY, OTHER, SHOWN, SORTS, ImageQuery, class_choices
from swin_core.system.cache import LRUCache

__all__ = [
    "ALL_SPLITS",
    "PAGE_SIZES",
    "VIEWS",
    "Judges",
    "choose_data",
    "choose_judges",
    "choose_wanted",
    "open_pictures",
    "open_rows",
    "toggle",
]

ALL_SPLITS = "all splits"
VIEWS = ("Pictures", "Confusion", "Classes")
PAGE_SIZES = (50, 100)
NONE = "None"

_SPLIT_WORDS = {"val": "validation", "train": "training"}
# Beside the images of a split, which are held elsewhere, a catalog takes some 15 MB for 60,000 of them.
_catalogs: LRUCache[Catalog] = LRUCache(4)


@dataclass(frozen=True)
class Judges:
    """The models whose predictions are shown."""

    first: str | None
    second: str | None
    titles: tuple[str, ...]
    """What to call them, the first one and then the second."""


def choose_data(ignored: list[str]) -> Shown | None:
    """The data set and its split; None where no data set is on this machine.

    Args:
        ignored: gets a line for each value of the address that is not offered.

    Raises:
        DataError: the data set is malformed.
    """
    there = {one.name: one for one in data_sets()}
    if not there:
        return None
    titles = {one.name: one.title for one in there.values()}
    name = _select("Data set", list(there), "data", ignored, words=titles.__getitem__, on_change=_reset)
    collection = there[name]
    splits = [*collection.splits, *([ALL_SPLITS] if len(collection.splits) > 1 else [])]
    split = _select("Split", splits, "split", ignored)
    return open_pictures(collection, collection.splits if split == ALL_SPLITS else (split,))


def open_pictures(collection: DataSetEntry, splits: Sequence[str]) -> Shown:
    """Some splits of a data set with their catalog, which is made once.

    Raises:
        DataError: the data set is malformed.
    """
    parts = tuple(open_split(collection.name, split) for split in splits)
    return Shown(collection, tuple(splits), _catalogs.get(parts, lambda: Catalog(parts)))


def choose_wanted(shown: Shown, judges: Judges, ignored: list[str]) -> ImageQuery:
    """Search, classes, right or wrong, and the order."""
    search = st.text_input("Search", placeholder="file, class or super-class", key="search", bind="query-params")
    choices = class_choices(shown.catalog)
    words = spaced if len(set(map(spaced, choices))) == len(choices) else str
    truth = _select("Class", choices, "class", ignored, words=words)
    predicted, show = ANY, SHOWN[0]
    if judges.first is not None:
        others = [ANY, OTHER, *choices[1:]]
        predicted = _select("Predicted class", others, "predicted", ignored, words=words)
        show = _select("Show", SHOWN if judges.second else SHOWN[:3], "show", ignored)
    order = _select("Order", SORTS if judges.first else SORTS[:2], "sort", ignored)
    return ImageQuery(search, truth, predicted, show, order)


def choose_judges(models: Sequence[str], fitting: str | None, ignored: list[str]) -> Judges:
    """Of the chosen models the one whose predictions are shown, and one to compare it with.

    Args:
        models: the models that are chosen in the sidebar.
        fitting: the first of them that knows the classes of the images.
        ignored: gets a line for each value of the address that is not offered.
    """
    if not models:
        return Judges(None, None, ())
    titles = dict(zip(models, column_titles(models), strict=True))
    start = models.index(fitting) if fitting in models else 0
    first = _select("Predictions of", models, "judge", ignored, index=start, words=titles.__getitem__)
    second = None
    if len(models) > 1:
        others = [NONE, *(name for name in models if name != first)]
        chosen = _select("Compared with", others, "versus", ignored, words=lambda name: titles.get(name, name))
        second = None if chosen == NONE else chosen
    return Judges(first, second, tuple(titles[name] for name in (first, second) if name))


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
    """A select box that is kept in the address; a value that the address asks for in vain is named."""
    held = st.session_state.get(key)
    if held is None:
        ignored += unknown_values(key, list(map(words, options)))
    elif held not in options:
        # The options change with the data set and the models.
        del st.session_state[key]
    return st.selectbox(
        label, options, index, format_func=words, key=key, on_change=on_change or "rerun", bind="query-params"
    )


def _reset() -> None:
    """Another data set starts with its first split and all of its images."""
    there = {one.name: one for one in data_sets()}
    if st.session_state.data in there:
        st.session_state.split = there[st.session_state.data].splits[0]
    st.session_state.update({"class": ANY, "predicted": ANY, "show": SHOWN[0], "search": "", "page": 1})
    for key in ("judge", "versus"):
        st.session_state.pop(key, None)


def open_rows(truth: str = ANY, predicted: str = "", show: str = SHOWN[0], sort: str = SORTS[0]) -> None:
    """Show the images that a cell, a row or a count stands for: to be called before the widgets are made."""
    values = {"class": truth, "predicted": predicted or ANY, "show": show, "sort": sort, "search": "", "page": 1}
    for key, value in {**values, "view": VIEWS[0]}.items():
        st.session_state[key] = value


def toggle(name: str) -> None:
    """Put an image into the tray, or take it out."""
    picked = list(st.session_state.get("picked") or [])
    if name in picked:
        picked.remove(name)
    elif len(picked) < MAX_IMAGES:
        picked.append(name)
    else:
        st.session_state.tray_full = True
    set_tray(picked)
