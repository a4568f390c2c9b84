"""What all Plotly charts of the dashboard share."""

from html import escape

from swin_core.figures.text import wrap

CONFIG = {"showSendToCloud": False, "displayModeBar": False}
"""Plotly settings of every chart: no upload to Plotly's cloud, and no tool bar over the titles."""


def escaped_lines(text: str, columns: int) -> str:
    """Escape a text from outside for a Plotly figure, wrapped to lines of at most `columns` columns.

    Plotly reads a little HTML, and replaces %{...} in hover texts by data.
    """
    return "<br>".join(escape(line).replace("%", "&#37;") for line in wrap(text, columns))
