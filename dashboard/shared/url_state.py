"""Values of the address that no widget takes: Streamlit drops them without a word, so the page names them."""

from collections.abc import Sequence

import streamlit as st

from dashboard.shared.model_names import unique
from swin_core.comparisons.compare import MODELS_AT_MOST

__all__ = ["ON_OFF", "invalid_number", "settle", "surplus_models", "unknown_values", "with_previous_warnings"]

ON_OFF = ("true", "false")
"""Values of a toggle."""
NAMED_AT_MOST = 12
"""Values that are possible are listed up to this count."""

_settler = st.components.v2.component(
    "swinlens_settler", js="export default ({ setTriggerValue }) => setTriggerValue('settled', true)"
)


def unknown_values(key: str, offered: Sequence[str]) -> list[str]:
    """A line if the address gives a widget values that it does not offer; to be asked before the widget is made."""
    ignored = [value for value in st.query_params.get_all(key) if value not in offered]
    if not ignored:
        return []
    possible = ", ".join(offered[:NAMED_AT_MOST]) + (" ..." if len(offered) > NAMED_AT_MOST else "")
    return [f"{key}={', '.join(ignored)} (possible: {possible})"]


def surplus_models() -> list[str]:
    """A line if the address names more models than there are columns; to be asked before the widget is made."""
    ignored = st.query_params.get_all("model")[MODELS_AT_MOST:]
    return [f"model={', '.join(ignored)} (possible: up to {MODELS_AT_MOST} models)"] if ignored else []


def invalid_number(key: str, least: int, most: int) -> list[str]:
    """A line if the address gives a widget something else than a whole number in its range, before it is made."""
    ignored = [value for value in st.query_params.get_all(key) if not _is_whole(value, least, most)]
    return [f"{key}={', '.join(ignored)} (possible: {least} to {most})"] if ignored else []


def _is_whole(text: str, least: int, most: int) -> bool:
    # Only ASCII digits: `int` reads other scripts' too, and underscores.
    return text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most


def settle(ignored: list[str]) -> None:
    """Let the browser ask for a second run of the page at once if the address holds choices.

    To another page Streamlit carries what a widget held before the last run that the browser asked for. Who opens a
    link and goes on at once would lose what the link had chosen; `st.rerun` does not help.
    """
    if not st.session_state.settled and len(st.query_params):
        st.session_state.ignored = ignored
        with st.sidebar:
            _settler(key="settler", on_settled_change=_settled)


def _settled() -> None:
    st.session_state.settled = st.session_state.came_back = True


def with_previous_warnings(ignored: list[str]) -> list[str]:
    """The lines, after those of the run before if nobody can have read them."""
    before = st.session_state.get("ignored", []) if st.session_state.pop("came_back", False) else []
    st.session_state.ignored = unique([before, ignored])
    return st.session_state.ignored
