"""Report query parameters that no widget accepts; Streamlit drops them silently."""

from collections.abc import Sequence

import streamlit as st

from dashboard.shared.model_names import unique
from dashboard.shared.notices import notice, set_notice, show_notice
from swin_core.comparisons.compare import MODELS_AT_MOST

ON_OFF = ("true", "false")
"""Values of a toggle."""
LISTED_VALUES = 12
"""Accepted values that a warning lists."""
IGNORED = "ignored"
"""Key of the notice about ignored values."""

_second_run = st.components.v2.component(
    "swinlens_settler", js="export default ({ setTriggerValue }) => setTriggerValue('settled', true)"
)


def unknown_values(key: str, offered: Sequence[str]) -> list[str]:
    """Return a warning if a query parameter has values that are not offered; call it before the widget is made."""
    ignored = [value for value in st.query_params.get_all(key) if value not in offered]
    possible = ", ".join(offered[:LISTED_VALUES]) + (" ..." if len(offered) > LISTED_VALUES else "")
    return [f"{key}={', '.join(ignored)} (possible: {possible})"] if ignored else []


def surplus_models() -> list[str]:
    """Return a warning if the URL names more models than there are columns; call it before the widget is made."""
    ignored = st.query_params.get_all("model")[MODELS_AT_MOST:]
    return [f"model={', '.join(ignored)} (possible: up to {MODELS_AT_MOST} models)"] if ignored else []


def invalid_number(key: str, least: int, most: int) -> list[str]:
    """Return a warning if a query parameter is not an integer in the range; call it before the widget is made."""
    ignored = [value for value in st.query_params.get_all(key) if not _is_integer(value, least, most)]
    return [f"{key}={', '.join(ignored)} (possible: {least} to {most})"] if ignored else []


def _is_integer(text: str, least: int, most: int) -> bool:
    # ASCII digits only: `int` also accepts those of other scripts, and underscores.
    return text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most


def settle(ignored: list[str]) -> None:
    """Let the browser request a second run of the page if the URL has query parameters.

    When the user changes pages, Streamlit restores the state of widgets from before the last run that the browser
    requested. Without a second run, choices of a link would be lost on the next page; `st.rerun` does not help.

    Args:
        ignored: warnings of this run, which `show_ignored` repeats in the second one.
    """
    if not st.session_state.settled and len(st.query_params):
        _keep(ignored)
        with st.sidebar:
            _second_run(key="settler", on_settled_change=_on_second_run)


def _on_second_run() -> None:
    st.session_state.settled = True


def show_ignored(ignored: list[str], container: st.delta_generator.DeltaGenerator) -> None:
    """Show the warnings of this run, after those of earlier runs of the page that were not dismissed."""
    _keep(ignored)
    with container:
        show_notice(IGNORED)


def _keep(ignored: list[str]) -> None:
    # Streamlit corrects the URL, so that only the first run of the page sees what was wrong.
    before = st.session_state.get("ignored", []) if notice(IGNORED) else []
    st.session_state.ignored = unique([before, ignored])
    if st.session_state.ignored:
        values = "; ".join(st.session_state.ignored)
        set_notice(IGNORED, f"These values in the URL were ignored: {values}.")
