"""The grid on the page: it is filled column by column, in place."""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

import plotly.graph_objects as go
import streamlit as st

from dashboard.shared.cache import cached_figure, classifier, loaded_classifier, page_figure, refusal
from dashboard.shared.comparison import Comparison
from swin_core.attribution.overlay import Look
from swin_core.errors import SwinError
from swin_core.figures.grid import Grid
from swin_core.figures.plotly_grid import CAPTION_COLUMNS, CONFIG, page_layout

__all__ = ["Stage"]

CELL_AT_MOST = 420
"""Greatest side of a cell, in pixels: beyond it one row would not fit the screen."""
REDRAW_SECONDS = 0.7
"""A column that is ready sooner after the last one is not worth a drawing of its own."""


class Stage:
    """The grid's place on the page. What is shown again replaces what was there, and nothing around it moves.

    Three things that Streamlit cannot do are done in style sheets. Square cells make the height depend on the
    width, so the place measures its own width (`cqw`); on a narrow page the grid keeps its least width and is
    swiped sideways, for which its images must let go of the finger. A changed figure is drawn anew and
    loses its zoom, so the opacity, which is only a factor, is laid on the drawn heat maps, and badges of trust, which
    come late, are laid over a line that the captions leave free. And text takes the theme's colour.

    Args:
        badges: whether captions leave that line.
    """

    def __init__(self, badges: bool = False) -> None:
        self._badges = badges
        with st.container(key="frame", gap=None):
            self._style = st.container()
            self._chart = st.container(key="grid")
            self.badges = st.container(key="badges", gap=None)

    def show(self, figure: go.Figure, shown: Grid, opacity: float, alt: str) -> None:
        """Show the figure of a grid that was drawn at full opacity."""
        room = page_layout(shown)
        width = f"clamp({room.least_width}px, 100cqw, {round(CELL_AT_MOST / room.cell_fraction)}px)"
        height = f"calc({room.fixed_height}px + {room.rows * room.cell_fraction:.5f} * {width})"
        # Streamlit moves what is a style sheet only to another place, where later ones pile up; hence the span.
        self._style = self._style.html(
            f"""<style>
            .st-key-frame {{ container-type: inline-size; overflow: auto hidden; position: relative; }}
            .st-key-grid {{ flex: none; min-width: {width}; width: {width}; height: {height}; }}
            .st-key-grid .heatmaplayer {{ opacity: {opacity:.2f}; }}
            .st-key-grid :is(.annotation-text, .hovertext text) {{ fill: currentColor !important; }}
            {"".join(_badge_styles(shown, width))}
            @media (pointer: coarse) and (max-width: 640px) {{
                .st-key-grid .draglayer * {{ pointer-events: none !important; }}
                .st-key-hint {{ display: none; }}
            }}
            </style><span hidden></span>"""
        )
        self._chart = self._chart.plotly_chart(figure, height="stretch", config=CONFIG, alt=alt)

    def load(self, comparison: Comparison, look: Look) -> None:
        """Load the models that are not there yet, the others staying on view.

        What is wrong with a model is said in its column later.
        """
        waiting = [name for name in comparison.models if loaded_classifier(name) is None and not refusal(name)]
        if waiting:
            self._draw(comparison, look, waiting)
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
        result = Grid(tuple(comparison.rows(waiting)), comparison.columns, look, self._badges)
        opaque = replace(look, opacity=1.0)
        drawn = replace(result, look=opaque)
        # What is wrong with a cell now may be right later, and a run trains on: both are part of what the drawing is
        # known by.
        found = [(cell.error, cell.explanation) for row in result.rows for cell in row.cells]
        state = tuple(error or (explanation and explanation.weights_hash) for error, explanation in found)
        figure = page_figure(drawn) if waiting else cached_figure((comparison.key, opaque, state, self._badges), drawn)
        alt = f"Heat maps by {', '.join(result.columns)}; {len(result.rows)} rows; {result.scale_name}"
        self.show(figure, result, look.opacity, alt)
        return result


def _badge_styles(shown: Grid, width: str) -> Iterator[str]:
    """Where each cell's badge lies, for a grid as wide as the style says."""
    room = page_layout(shown)
    if not shown.badge_room:
        return
    for i, row in enumerate(shown.rows):
        for j, cell in enumerate(row.cells):
            headline, _ = shown.caption(row, cell).lines(CAPTION_COLUMNS)
            left, pixels, share = room.badge_position(i, j + 1, len(headline))
            yield (
                f".st-key-badge_{i}_{j} {{ position: absolute; max-width: none; "
                f"width: calc({room.cell_fraction:.5f} * {width}); "
                f"left: calc({left:.5f} * {width}); top: calc({pixels:.1f}px + {share:.5f} * {width}); }}\n"
            )
