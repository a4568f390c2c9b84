"""The menu that saves what a page shows as a file."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import streamlit as st

from dashboard.shared.theme import escape_markdown
from swin_core.figures.files import KINDS

DRAWINGS = {"png": "Image (PNG)", "pdf": "Page (PDF)", "svg": "Vector drawing (SVG)"}
"""Kinds of files that hold a drawing."""


def show_exports(
    kinds: Mapping[str, str],
    encode: Callable[[str], bytes],
    name: str = "swinlens",
    left_out: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
    disabled: bool = False,
) -> None:
    """Draw a menu with a download button for each kind of file.

    Args:
        kinds: titles of the buttons by kind: the end of the file's name, whose suffix is a key of `KINDS`.
        encode: returns the bytes of a kind; called when its button is clicked.
        name: the file's name without its suffix.
        left_out: kinds that cannot be saved, and why: Streamlit cannot show why a download failed.
        notes: lines below the buttons.
        disabled: whether there is nothing to save.
    """
    faults = left_out or {}
    with st.popover("Export", icon=":material/download:", disabled=disabled):
        for kind, title in kinds.items():
            st.download_button(
                title,
                partial(encode, kind),
                file_name=f"{name}.{kind}",
                mime=KINDS[kind.rpartition(".")[2]],
                on_click="ignore",
                width="stretch",
                key=f"export_{kind}",
                disabled=kind in faults,
            )
        for line in (*faults.values(), *notes):
            st.caption(escape_markdown(line))
