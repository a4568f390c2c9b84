"""Ask about a class that stands under a map: a click explains it, a drag of one onto another asks for the contrast."""

from collections.abc import Mapping
from typing import Any

import streamlit as st

from dashboard.compare.controls import LIKELIEST
from dashboard.shared.cache import InputImage
from dashboard.shared.comparison import Comparison


def ask_class(comparison: Comparison, images: list[InputImage], asked: Mapping[str, Any]) -> bool:
    """Set the controls to what was asked in the grid; return whether that changes what is shown.

    Args:
        comparison: what is shown.
        images: the images of the page, in order.
        asked: `row` of the grid, `label` of the class, and `against`, the contrast class, or None. From the browser, so
            it is checked.
    """
    row, label, against = asked.get("row"), asked.get("label"), asked.get("against")
    if not isinstance(row, int) or not isinstance(label, str) or not 0 <= row < comparison.row_count:
        return False
    line, _ = comparison.line_and_model(row, 0)
    number = next(index for index, image in enumerate(images) if image.key == line.image.source.key)
    state = st.session_state
    if state.rows == "classes":
        state.classes = [label if each == line else each.target for each in comparison.lines]
    else:
        if state.rows == "top":
            for other in range(len(images)):
                state[f"class{other + 1}"] = LIKELIEST
        state.rows = "named"
        state[f"class{number + 1}"] = label
    if isinstance(against, str):
        state.against = against
    return True
