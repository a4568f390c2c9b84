"""One palette for everything that is drawn on a page; `.streamlit/config.toml` holds the same colours."""

__all__ = ["BLUE", "DIVERGING", "ORANGE", "SERIES", "plain"]

SERIES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#7F7F7F")
"""Okabe and Ito's colours, which survive colour blindness; grey for their black, for the dark theme."""

BLUE, ORANGE = SERIES[0], SERIES[5]

DIVERGING = ((0.0, ORANGE), (0.5, "#E8E8E8"), (1.0, BLUE))
"""From -1 through 0 to 1."""

_MARKDOWN = {ord(mark): f"\\{mark}" for mark in r"\`*_{}[]<>()#+-.!|~$:&^="}


def plain(text: str) -> str:
    """Text from outside (a class, a file) that Markdown shows as it is: no HTML, link, picture or icon."""
    return " ".join(text.split()).translate(_MARKDOWN)
