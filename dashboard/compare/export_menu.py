"""The menu that saves the grid as a file."""

from collections.abc import Callable
from functools import partial

import streamlit as st

from dashboard.shared.theme import escape_markdown
from swin_core.figures.files import KINDS, encode
from swin_core.figures.grid import Grid
from swin_core.figures.matplotlib_grid import fonts_of
from swin_core.figures.report_json import too_large

NAMES = {
    "png": "Image (PNG)",
    "pdf": "Page (PDF)",
    "svg": "Vector drawing (SVG)",
    "html": "Report (HTML)",
    "json": "Report to compute again (JSON)",
    "npz": "Raw arrays (NPZ)",
}


def show_exports(grid: Grid, latest: Callable[[], Grid]) -> None:
    """Draw a menu with a download button for each kind of file.

    Args:
        grid: what is shown.
        latest: returns the grid with the trust measured so far; called when a button is clicked.
    """
    with st.popover("Export", icon=":material/download:", disabled=not grid.rows):
        fault = too_large(grid)  # checked here, since Streamlit cannot show why a download failed
        font_fault = fonts_of(grid).fault
        for kind, name in NAMES.items():
            st.download_button(
                name,
                partial(_encode_latest, latest, kind),
                file_name=f"swinlens.{kind}",
                mime=KINDS[kind],
                on_click="ignore",
                width="stretch",
                key=f"export_{kind}",
                disabled=kind == "json" and bool(fault),
            )
        if fault:
            st.caption(f"Without JSON: {fault}")
        if font_fault:
            st.caption(escape_markdown(f"In PNG, PDF and SVG, {font_fault}"))


def _encode_latest(latest: Callable[[], Grid], kind: str) -> bytes:
    return encode(latest(), kind)
