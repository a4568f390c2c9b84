"""The grid on the page: it is filled column by column, in place."""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict

import plotly.graph_objects as go
import streamlit as st

from dashboard.cache import classifier, drawing, held_classifier, refusal
from dashboard.comparison import Comparison
from swin_core.errors import SwinError
from swin_core.explain.browser import CONFIG
from swin_core.explain.figure import Grid, grid
from swin_core.explain.render import Look

__all__ = ["Stage"]

CELL_AT_MOST = 420
"""Greatest side of a cell, in pixels: beyond it one row would not fit the screen."""
REDRAW_SECONDS = 0.7
"""A column that is ready sooner after the last one is not worth a drawing of its own."""


class Stage:
    """The grid's place on the page. What is shown again replaces what was there, and nothing around it moves.

    Streamlit knows only fixed heights, but square cells make the height depend on the width. So the place
    measures its own width (`cqw`), and on a narrow page the grid keeps its least width and is swiped
    sideways, for which its pictures must let go of the finger.
    """

    def __init__(self) -> None:
        with st.container(key="frame", gap=None):
            self._style = st.container()
            self._chart = st.container(key="grid")

    def show(self, grid: Grid, figure: go.Figure) -> None:
        """Show a grid by its figure."""
        room = grid.layout
        width = f"clamp({room.least_width}px, 100cqw, {round(CELL_AT_MOST / room.cell_fraction)}px)"
        height = f"calc({room.fixed_height}px + {room.rows * room.cell_fraction:.5f} * {width})"
        self._style = self._style.html(
            f"""<style>
            .st-key-frame {{ container-type: inline-size; overflow-x: auto; }}
            .st-key-grid {{ width: {width}; min-width: {width}; height: {height}; }}
            @media (pointer: coarse) and (max-width: 640px) {{
                .st-key-grid .draglayer {{ pointer-events: none; }}
            }}
            </style>"""
        )
        models = ", ".join(grid.columns)
        self._chart = self._chart.plotly_chart(
            figure, height="stretch", config=CONFIG, alt=f"Heat maps by {models} of {len(grid.rows)} pictures"
        )

    def load(self, comparison: Comparison, look: Look) -> None:
        """Load the models that are not there yet; what is wrong with one is said in its column later."""
        waiting = [name for name in comparison.models if held_classifier(name) is None and not refusal(name)]
        if waiting:
            self._draw(comparison, look, comparison.models)
        for name in waiting:
            with suppress(SwinError):
                classifier(name)

    def fill(self, comparison: Comparison, look: Look) -> Grid:
        """Show the comparison; a column that has to be computed says so until it is there."""
        slow = comparison.slow_models()
        drawn = -REDRAW_SECONDS
        for done, _ in enumerate(slow):
            if time.monotonic() - drawn > REDRAW_SECONDS:
                self._draw(comparison, look, slow[done:])
                drawn = time.monotonic()
            comparison.rows(slow[done + 1 :])
        return self._draw(comparison, look, [])

    def _draw(self, comparison: Comparison, look: Look, waiting: Sequence[str]) -> Grid:
        result = grid(comparison.rows(waiting), comparison.models, **asdict(look))
        self.show(result, result.to_plotly() if waiting else drawing((comparison.key, look), result))
        return result
