"""Ticked rows of a table by name: Streamlit knows rows by number, and forgets them on a visit to another page."""

from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st


def ticked_rows(table: str, names: Sequence[str], draw: Callable[[], Any], first: Sequence[str] = ()) -> list[str]:
    """Draw a table whose rows can be ticked; return the names of the ticked ones.

    Args:
        table: the table's key.
        names: a name for each row, which no other has. Rows may come, go and move between runs of the page.
        draw: draws the table; returns the event of `st.dataframe`.
        first: names of the rows that are ticked at first.
    """
    kept: dict[str, tuple[list[str], list[str]]] = st.session_state.setdefault("ticks", {})
    before, ticked = kept.get(table, ([], list(first)))
    if before and table in st.session_state:  # a click belongs to the rows that the user saw
        ticked = _names(before, st.session_state[table])
    if before != list(names) or table not in st.session_state:
        rows = [names.index(name) for name in ticked if name in names]
        st.session_state[table] = {"selection": {"rows": rows, "columns": [], "cells": []}}
    ticked = _names(names, draw())
    kept[table] = list(names), ticked
    return ticked


def listed_rows(table: str) -> list[str]:
    """Return the names of the rows that the user sees."""
    names: list[str] = st.session_state.get("ticks", {}).get(table, ([], []))[0]
    return names


def _names(names: Sequence[str], event: Any) -> list[str]:
    return [names[row] for row in event["selection"]["rows"] if row < len(names)]
