"""Values of the address that no widget takes: Streamlit drops them without a word, so the page names them."""

from collections.abc import Sequence

import streamlit as st

from swin_core.explain.compare import MODELS_AT_MOST

__all__ = ["ON_OFF", "models_too_many", "no_number", "not_offered"]

ON_OFF = ("true", "false")
"""Values of a toggle."""
NAMED_AT_MOST = 12
"""Values that are possible are listed up to this count."""


def not_offered(key: str, offered: Sequence[str]) -> list[str]:
    """A line if the address gives a widget values that it does not offer; to be asked before the widget is made."""
    ignored = [value for value in st.query_params.get_all(key) if value not in offered]
    if not ignored:
        return []
    possible = ", ".join(offered[:NAMED_AT_MOST]) + (" ..." if len(offered) > NAMED_AT_MOST else "")
    return [f"{key}={', '.join(ignored)} (possible: {possible})"]


def models_too_many() -> list[str]:
    """A line if the address names more models than there are columns; to be asked before the widget is made."""
    ignored = st.query_params.get_all("model")[MODELS_AT_MOST:]
    return [f"model={', '.join(ignored)} (possible: up to {MODELS_AT_MOST} models)"] if ignored else []


def no_number(key: str, least: int, most: int) -> list[str]:
    """A line if the address gives a widget something else than a whole number in its range, before it is made."""
    ignored = [value for value in st.query_params.get_all(key) if not _is_whole(value, least, most)]
    return [f"{key}={', '.join(ignored)} (possible: {least} to {most})"] if ignored else []


def _is_whole(text: str, least: int, most: int) -> bool:
    # Only ASCII digits: `int` reads other scripts' too, and underscores.
    return text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most
