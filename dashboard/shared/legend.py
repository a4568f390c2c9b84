"""One legend for several charts."""

from collections.abc import Sequence

import jinja2
import streamlit as st

_LEGEND = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""
<div style="display: flex; flex-wrap: wrap; gap: 2px 20px; font-size: 0.9rem">
  {% for name, colour, style in entries %}
  <span style="display: inline-flex; align-items: center; gap: 6px">
    <span style="width: 24px; border-top: 3px {{ style }} {{ colour }}"></span>{{ name }}
  </span>
  {% endfor %}
  <span style="opacity: 0.7">{{ note }}</span>
</div>""")


def show_legend(entries: Sequence[tuple[str, str, str]], note: str = "") -> None:
    """Draw a legend.

    Args:
        entries: name, colour and CSS border style ("solid", "dotted", "dashed") of each line.
        note: text after the entries.
    """
    st.html(_LEGEND.render(entries=entries, note=note))
