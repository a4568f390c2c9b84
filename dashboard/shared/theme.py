"""Colours of the dashboard, the same as in `.streamlit/config.toml`, and escaping of Markdown."""

from swin_core.figures.palette import INK, SERIES

__all__ = ["DARK", "DIVERGING_SCALE", "INK", "LIGHT", "SERIES", "escape_markdown"]

DIVERGING_SCALE = ((0.0, SERIES[4]), (0.5, "#EDEFF2"), (1.0, SERIES[1]))
"""Colour scale from -1 to 1, blue to orange as in signed maps, light enough for text in `INK`."""

# By Streamlit's names.
LIGHT = {
    "primaryColor": "#0069A6",
    "linkColor": "#0069A6",
    "backgroundColor": "#FFFFFF",
    "secondaryBackgroundColor": "#F2F4F7",
    "textColor": "#0B131C",
    "borderColor": "#D5DAE1",
}
DARK = {
    "primaryColor": "#4C9BD2",
    "linkColor": "#6DB6E8",
    "backgroundColor": "#12161C",
    "secondaryBackgroundColor": "#1D232C",
    "textColor": "#E4E9F0",
    "borderColor": "#333C48",
}

_MARKDOWN = {ord(mark): f"\\{mark}" for mark in r"\`*_{}[]<>()#+-.!|~$:&^="}


def escape_markdown(text: str) -> str:
    """Escape a text from outside, such as a file's name: Markdown shows it literally, on one line."""
    return " ".join(text.split()).translate(_MARKDOWN)
