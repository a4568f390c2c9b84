"""Undo, reset and full screen, beside the heading of a page."""

from pathlib import Path

import streamlit as st

_tools = st.components.v2.component(
    "swinlens_page_tools",
    html='<div id="tools">\n</div>',
    css="""#tools { display: flex; gap: 4px; }
button {
  width: 36px; height: 36px; padding: 7px; cursor: pointer; border-radius: var(--st-base-radius, 6px);
  border: 1px solid var(--st-border-color); background: none; color: var(--st-text-color);
}
button:disabled { opacity: 0.4; cursor: default; }
button:hover:enabled { border-color: var(--st-primary-color); color: var(--st-primary-color); }
button:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: 1px; }
svg { width: 100%; height: 100%; fill: currentColor; }
@media (max-width: 640px) { button { width: 32px; height: 32px; padding: 6px; } }
""",
    js=(Path(__file__).parent / "page_tools.js").read_text(encoding="utf-8"),
)


def show_page_tools() -> None:
    """Draw the buttons."""
    _tools(key="page_tools", width="content")
