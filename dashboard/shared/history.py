"""Undo: Back in the browser takes back the last choice."""

from pathlib import Path

import streamlit as st

_history = st.components.v2.component(
    "swinlens_history", js=(Path(__file__).parent / "history.js").read_text(encoding="utf-8")
)


def keep_history() -> None:
    """Make each choice on a page an entry of the browser's history."""
    with st.container(key="history"):
        _history(key="history_keeper")
