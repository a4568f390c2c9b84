"""Settings of a new run that another page asks the Train page for."""

from collections.abc import Mapping
from typing import Any

import streamlit as st

_KEY = "requested_run"


def request_run(recipe: str, settings: Mapping[str, Any]) -> None:
    """Open the form of the Train page with a recipe and some settings replaced; ends this run of the page."""
    st.session_state[_KEY] = recipe, dict(settings)
    st.switch_page("views/train.py", query_params={"new": recipe})


def take_requested_run() -> tuple[str, dict[str, Any]] | None:
    """Return the recipe and the settings that a page asked for, once; None if there are none."""
    return st.session_state.pop(_KEY, None)
