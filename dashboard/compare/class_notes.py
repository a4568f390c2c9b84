"""What the models know, where an image shows something that none of them does."""

from collections.abc import Sequence

import streamlit as st

from dashboard.shared.cache import loaded_classifier
from dashboard.shared.model_names import column_titles
from dashboard.shared.theme import escape_markdown
from swin_core.class_names import candidates
from swin_core.figures.grid import Row
from swin_core.figures.text import percent

UNSURE = 0.3
"""A model whose likeliest class has a lower probability is not sure of an image."""


def show_class_notes(rows: Sequence[Row], models: Sequence[str]) -> None:
    """Say which images show what no model knows, or what no model is sure of, and which classes each model knows."""
    labels = {name: model.labels for name in models if (model := loaded_classifier(name)) is not None}
    notes = class_notes(rows, list(labels.values()))
    if not notes:
        return
    with st.container(border=True, key="class_notes"):
        for note in notes:
            st.markdown(escape_markdown(note))
        with st.expander("The classes that each model knows"):
            for title, names in zip(column_titles(list(labels)), labels.values(), strict=True):
                listed = ", ".join(sorted(name.replace("_", " ") for name in names))
                st.markdown(f"**{escape_markdown(title)}**: {escape_markdown(listed)}")


def class_notes(rows: Sequence[Row], labels: Sequence[Sequence[str]]) -> list[str]:
    """Return a sentence for each true class that no model knows, and for each image that no model is sure of.

    Args:
        rows: rows of a grid.
        labels: the classes of each model.
    """
    if not labels:
        return []
    several = len(labels) > 1
    unknown = dict.fromkeys(
        row.truth for row in rows if row.truth and not any(candidates(known, row.truth) for known in labels)
    )
    notes = [
        f"None of these models knows {truth}." if several else f"This model does not know {truth}." for truth in unknown
    ]
    for row in rows:
        found = [cell.explanation for cell in row.cells if cell.explanation and cell.explanation.activation != "none"]
        best = max((float(explanation.probabilities.max()) for explanation in found), default=1.0)
        if best < UNSURE and row.truth not in unknown:
            who = "No model is" if several else "The model is not"
            notes.append(f"{who} sure what {row.title} shows: the likeliest class has {percent(best)}.")
    return list(dict.fromkeys(notes))
