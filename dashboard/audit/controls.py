"""What the Audit page audits: a data set, a split and a model, kept in the URL."""

from collections.abc import Sequence

import streamlit as st

from dashboard.audit.jobs import Subject
from dashboard.shared.datasets import NAME_PATTERN, DataSetEntry, data_sets, open_split
from dashboard.shared.image_selection import image_selection
from dashboard.shared.model_names import column_titles, unique
from dashboard.shared.theme import escape_markdown
from dashboard.shared.url_state import choose_from_list, unknown_values
from swin_core.class_names import match_classes
from swin_core.errors import TargetError
from swin_core.zoo.load import available, bundled_metadata


def choose_subject(chosen: Sequence[str], ignored: list[str]) -> Subject | None:
    """Draw the selects; return None if there is no data set or no model.

    Args:
        chosen: the models that are chosen on all pages.
        ignored: receives a warning for each value of the URL that is not offered.

    Raises:
        DataError: the data set is malformed.
    """
    by_name = {entry.name: entry for entry in data_sets()}
    if not by_name:
        return None
    with st.container(horizontal=True, vertical_alignment="bottom"):
        titles = {name: entry.title for name, entry in by_name.items()}
        entry = by_name[_select("Data set", titles, "audit_data", 340, ignored)]
        split = _select("Split", {name: name for name in entry.splits}, "audit_split", 130, ignored)
        models = _models(entry, split, chosen)
        if not models:
            return None
        words = dict(zip(models, column_titles(models), strict=True))
        with st.container(width=340):
            model = choose_from_list("Model", models, "audited", words.__getitem__, models[0], ignored)
    return Subject(model, entry.name, split, _choose_selection(entry.name, split))


def _choose_selection(collection: str, split: str) -> tuple[int, ...]:
    """Draw a toggle if images of the split are selected on Browse; return their indices if it is on."""
    selection = image_selection()
    matches = map(NAME_PATTERN.fullmatch, selection.names) if selection is not None else ()
    indices = (
        int(match["index"]) for match in matches if match and (match["set"], match["split"]) == (collection, split)
    )
    count = len(open_split(collection, split))
    rows = sorted(index for index in indices if index < count)
    if selection is None or not rows:
        return ()
    text = escape_markdown(f"Only the {len(rows):,} images of {selection.title}")
    return tuple(rows) if st.toggle(text, key="audit_selected", bind="query-params") else ()


def _select(label: str, titles: dict[str, str], key: str, width: int, ignored: list[str]) -> str:
    """Draw a select box bound to the URL; drop a value that is not offered any more."""
    options = list(titles)
    if key not in st.session_state:
        ignored += unknown_values(key, list(titles.values()))
    elif st.session_state[key] not in options:
        del st.session_state[key]
    return st.selectbox(label, options, format_func=titles.__getitem__, key=key, width=width, bind="query-params")


def _models(entry: DataSetEntry, split: str, chosen: Sequence[str]) -> list[str]:
    """Return the models that are offered: bundled ones that know all classes, then the chosen ones.

    A chosen model that was trained on the data comes first, since its folder is named after its run.
    """
    classes = open_split(entry.name, split).classes
    bundled = [name for name in available() if classes and _knows(classes, bundled_metadata(name).get("labels", ()))]
    own = [name for name in chosen if name not in available()]
    return unique([own, bundled, chosen])


def _knows(classes: Sequence[str], labels: Sequence[str]) -> bool:
    try:
        return None not in match_classes(classes, labels)
    except TargetError:
        return False
