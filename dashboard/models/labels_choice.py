"""The choice of class names: as recognised, pasted, from a file, or from class folders."""

from collections.abc import Sequence

import streamlit as st

from dashboard.shared.datasets import data_sets, open_split
from dashboard.shared.theme import escape_markdown
from swin_core.errors import ConfigError, SwinError
from swin_core.zoo.labels import parse_labels, read_labels

RECOGNISED, PASTE, FILE, DATA = "As recognised", "Paste", "File", "Data set"


def choose_labels(recognised: Sequence[str] | None, classes: int | None) -> tuple[list[str] | None, str]:
    """Draw the choice; return the names, or None for those that were recognised, and what is wrong with them.

    Args:
        recognised: the names that the weights file or its card states; None if it states none.
        classes: number of classes; None if it is not known.
    """
    sources = [*([RECOGNISED] if recognised else []), PASTE, FILE, DATA]
    source = st.segmented_control(
        "Class names from", sources, default=sources[0], required=True, key="add_labels_from", persist_state="session"
    )
    if source == RECOGNISED:
        return None, ""
    labels, fault = None, ""
    try:
        labels = _read(str(source))
    except SwinError as error:
        fault = str(error)
    if labels and classes and len(labels) != classes:
        fault = f"the model has {classes} classes, these are {len(labels)} names; give one for each class in its order."
    if fault:
        st.error(escape_markdown(fault), icon=":material/error:")
    elif labels:
        shown = ", ".join(labels[:6]) + (f", ... {labels[-1]}" if len(labels) > 6 else "")
        st.caption(escape_markdown(f"{len(labels)} classes: {shown}"))
    return labels, fault


def _read(source: str) -> list[str] | None:
    """Draw the widget of a source; return its names, or None while there are none.

    Raises:
        SwinError: there are no names in it.
    """
    if source == PASTE:
        text = st.text_area(
            "Class names",
            placeholder="daisy\ndandelion\nroses",
            help="One a line, in the order of the model's outputs; or names between commas; or JSON.",
            key="add_labels_text",
            persist_state="session",
        )
        return parse_labels(text) if text.strip() else None
    if source == FILE:
        # Kept outside of the widget, which forgets its file when another page is shown.
        file = st.file_uploader(
            "File with class names",
            type=["txt", "csv", "json", "names"],
            help="Text with one name a line, or JSON: a list, `id2label` or `class_to_idx`.",
            key="add_labels_file",
        )
        if file is not None:
            st.session_state.add_labels_content = file.getvalue(), file.name
        kept = st.session_state.get("add_labels_content")
        return read_labels(*kept) if kept else None
    names = {entry.name: entry for entry in data_sets()}
    if not names:
        raise ConfigError("there is no data set on this machine; paste the names instead.")
    name = st.selectbox(
        "Data set whose class folders are the classes",
        list(names),
        format_func=lambda name: names[name].title,
        help="The names are sorted, as most trainers sort class folders.",
        key="add_labels_data",
        persist_state="session",
    )
    return list(open_split(name, names[name].splits[0]).classes)
