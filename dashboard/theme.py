"""One palette for everything that is drawn on a page; `.streamlit/config.toml` holds the same colours."""

__all__ = ["DIVERGING", "INK", "SERIES", "plain"]

SERIES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#7F7F7F")
"""Okabe and Ito's colours, which survive colour blindness; grey for their black, for the dark theme."""

DIVERGING = ((0.0, SERIES[4]), (0.5, "#EDEFF2"), (1.0, SERIES[1]))
"""Colours from -1 through 0 to 1, blue and orange as in maps with a sign, all light enough for `INK`."""

INK = "#1B2430"
"""Text on a coloured ground, in both themes."""

_MARKDOWN = {ord(mark): f"\\{mark}" for mark in r"\`*_{}[]<>()#+-.!|~$:&^="}


def plain(text: str) -> str:
    """Text from outside (a class, a file) that Markdown shows as it is: no HTML, link, picture or icon."""
    return " ".join(text.split()).translate(_MARKDOWN)
