"""Which class of a model stands for each class of a data set: by name, or by hand in a table."""

from collections.abc import Mapping, Sequence

import pandas as pd
import streamlit as st

from dashboard.browse.filters import ModelChoice
from dashboard.browse.tiles import BrowsedData
from dashboard.shared import cache
from dashboard.shared.theme import escape_markdown
from swin_core.class_names import candidates
from swin_core.errors import SwinError

ByHand = Mapping[str, str]
"""Labels of a model by the data set's class that each stands for."""

_KEPT = "classes_by_hand"


def choose_matches(data: BrowsedData, models: ModelChoice) -> dict[str, ByHand]:
    """Draw a table for each model that does not know all classes by their names; return what was chosen by hand."""
    chosen: dict[str, ByHand] = {}
    for model, title in zip((models.first, models.second), models.titles, strict=False):
        try:
            labels = cache.classifier(model).labels if model else ()
        except SwinError:  # shown where the predictions are loaded
            continue
        if model and labels and data.catalog.classes:
            chosen[model] = _choose(data, model, title, labels)
    return chosen


def _choose(data: BrowsedData, model: str, title: str, labels: Sequence[str]) -> ByHand:
    classes = data.catalog.classes
    by_name = {name: _unique(labels, name) for name in classes}
    known = sum(label is not None for label in by_name.values())
    if known == len(classes):
        return {}
    kept: dict[tuple[str, str], ByHand] = st.session_state.setdefault(_KEPT, {})
    place = model, data.collection.name
    # The editor keeps its own edits while it is drawn: it starts with those of an earlier visit, and these stay fixed.
    key = f"classes of {model} for {data.collection.name}"
    if key not in st.session_state:
        st.session_state[f"{key}, at first"] = dict(kept.get(place, {}))
    start: ByHand = st.session_state.get(f"{key}, at first", {})
    with st.expander(
        escape_markdown(f"{title} knows {known} of {len(classes)} classes by name: match the others by hand")
    ):
        edited = st.data_editor(
            pd.DataFrame({"class": classes, "label": [start.get(name, by_name[name]) for name in classes]}),
            hide_index=True,
            disabled=["class"],
            key=key,
            column_config={
                "class": st.column_config.TextColumn("Class of the images"),
                "label": st.column_config.SelectboxColumn("Class of the model", options=list(labels)),
            },
        )
    found = {
        str(name): str(label)
        for name, label in zip(edited["class"], edited["label"], strict=True)
        if isinstance(label, str) and label in labels and label != by_name[name]
    }
    kept[place] = found
    return found


def _unique(labels: Sequence[str], name: str) -> str | None:
    found = candidates(labels, name)
    return labels[found[0]] if len(found) == 1 else None
