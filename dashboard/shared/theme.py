"""One palette for everything that is drawn on a page; `.streamlit/config.toml` holds the same colours."""

from swin_core.figures.palette import INK, SERIES

__all__ = ["DARK", "DIVERGING", "INK", "LIGHT", "SERIES", "escape_markdown"]

DIVERGING = ((0.0, SERIES[4]), (0.5, "#EDEFF2"), (1.0, SERIES[1]))
"""Colours from -1 through 0 to 1, blue and orange as in maps with a sign, all light enough for `INK`."""

LIGHT = {
    "primaryColor": "#0069A6",
    "linkColor": "#0069A6",
    "backgroundColor": "#FFFFFF",
    "secondaryBackgroundColor": "#F2F4F7",
    "textColor": "#0B131C",
    "borderColor": "#D5DAE1",
}
"""Colours of surfaces and text, by the names that Streamlit has for them."""

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
    """Text from outside (a class, a file) that Markdown shows as it is: no HTML, link, image or icon."""
    return " ".join(text.split()).translate(_MARKDOWN)
