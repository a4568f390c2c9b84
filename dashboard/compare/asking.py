"""Ask about a class that stands under a map: a click explains it, a drag of one onto another asks for the contrast."""

from collections.abc import Mapping
from typing import Any

import streamlit as st

from dashboard.compare.controls import LIKELIEST, NO_CONTRAST
from dashboard.shared.cache import loaded_classifier
from dashboard.shared.comparison import Comparison
from dashboard.shared.url_state import set_url_list


def ask_class(comparison: Comparison, asked: Mapping[str, Any]) -> None:
    """Set the controls to what was asked in the grid; call it before they are drawn.

    Args:
        comparison: what is shown.
        asked: a row as for `Comparison.seen_row`, `label` of the class, and `against`, the contrast class; without one,
            no contrast is shown any more. From the browser, so it is checked.
    """
    row, label, against = comparison.seen_row(asked), asked.get("label"), asked.get("against")
    known = {name for model in map(loaded_classifier, comparison.models) if model for name in model.labels}
    if row is None or not isinstance(label, str) or label not in known:
        return
    line, _ = comparison.line_and_model(row, 0)
    number = comparison.lines.index(line)
    state = st.session_state
    if state.rows == "classes":
        state.classes = [label if each == line else each.target for each in comparison.lines]
    else:
        if state.rows == "top":
            state.rows = "named"
            for other in range(len(comparison.lines)):
                set_url_list(f"class{other + 1}", [LIKELIEST])
        set_url_list(f"class{number + 1}", [label])
    state.against = against if isinstance(against, str) and against in known else NO_CONTRAST
