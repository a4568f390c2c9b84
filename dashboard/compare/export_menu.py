"""The menu that saves the grid as a file."""

from collections.abc import Callable
from functools import partial

import streamlit as st

from swin_core.figures.files import KINDS, encode
from swin_core.figures.grid import Grid
from swin_core.figures.report_json import too_large


def show_exports(grid: Grid, latest: Callable[[], Grid]) -> None:
    """Buttons that save the grid as a file.

    Args:
        grid: what is shown.
        latest: the grid with what is known when a button is clicked, which is when the file is written.
    """
    names = {
        "png": "Image (PNG)",
        "pdf": "Page (PDF)",
        "html": "Report (HTML)",
        "json": "Report to compute again (JSON)",
        "npz": "Raw arrays (NPZ)",
    }
    with st.popover("Export", icon=":material/download:", disabled=not grid.rows):
        fault = too_large(grid)
        for kind, name in names.items():
            st.download_button(
                name,
                partial(_encoded, latest, kind),
                file_name=f"swinlens.{kind}",
                mime=KINDS[kind],
                on_click="ignore",
                width="stretch",
                key=f"export_{kind}",
                disabled=kind == "json" and bool(fault),
            )
        if fault:  # when the button is clicked it is too late: Streamlit would not show the reason
            st.caption(f"Without JSON: {fault}")


def _encoded(latest: Callable[[], Grid], kind: str) -> bytes:
    return encode(latest(), kind)
