"""The grid of heat maps on the page, filled column by column."""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

import streamlit as st

from dashboard.shared.cache import cached_figure, classifier, load_failure, loaded_classifier, page_figure
from dashboard.shared.comparison import Comparison
from dashboard.shared.model_names import display_name, weights_state
from dashboard.shared.theme import escape_markdown
from swin_core.attribution.overlay import Look
from swin_core.errors import SwinError
from swin_core.figures.grid import Grid
from swin_core.figures.plotly_grid import CAPTION_COLUMNS, CONFIG, page_layout

CELL_AT_MOST = 420
"""Largest side of a cell, in pixels: one row has to fit the screen."""
REDRAW_SECONDS = 0.7
"""Shortest time between two drawings while columns are computed."""


class GridView:
    """The grid's container. Each drawing replaces the one before in place.

    Three things are done with CSS, since Streamlit cannot do them. The cells are square, so the height depends on the
    width, which the container measures (`cqw`); narrow pages scroll the grid sideways, so its images must not catch
    the finger. A changed figure would be drawn anew and lose its zoom, so opacity is set on the drawn heat maps, and
    badges are laid over a line that the captions leave free. Text takes the colour of the theme.

    Args:
        badges: whether captions leave a line free for badges.
    """

    def __init__(self, badges: bool):
        self._has_badges = badges
        self._faults = st.container()
        with st.container(key="frame", gap=None):
            self._style = st.container()
            self._chart = st.container(key="grid")
            self.badges = st.container(key="badges", gap=None)

    def load(self, comparison: Comparison, look: Look) -> list[str]:
        """Load the missing models, and meanwhile show the columns of the others; return the models that are loaded.

        A model that cannot be loaded takes no column: a line above the grid says why.
        """
        missing = [name for name in comparison.models if loaded_classifier(name) is None and not load_failure(name)]
        if missing:
            self._draw(comparison, look, missing)
        for name in missing:
            with suppress(SwinError):
                classifier(name)
        failures = {name: load_failure(name) for name in comparison.models}
        for name, reason in failures.items():
            if reason:
                text = f"{display_name(name)} has no column: {reason}"
                self._faults.error(escape_markdown(text), icon=":material/error:")
        loaded = [name for name, reason in failures.items() if not reason]
        if not loaded and missing:
            self._chart.empty()
        return loaded

    def fill(self, comparison: Comparison, look: Look) -> Grid:
        """Draw the comparison, with columns that have to be computed one after the other; return the whole grid."""
        slow = comparison.slow_models()
        last = -REDRAW_SECONDS
        for done in range(len(slow)):
            if time.monotonic() - last > REDRAW_SECONDS:
                self._draw(comparison, look, slow[done:])
                last = time.monotonic()
            comparison.rows(slow[done + 1 :])
        return self._draw(comparison, look, [])

    def _draw(self, comparison: Comparison, look: Look, waiting: Sequence[str]) -> Grid:
        grid = Grid(tuple(comparison.rows(waiting)), comparison.columns, look, self._has_badges)
        opaque = replace(grid, look=replace(look, opacity=1.0))
        if waiting:
            figure = page_figure(opaque)
        else:
            # An error may go away, and a run may save new weights.
            state = (
                *(
                    cell.explanation.weights_hash if cell.explanation else cell.error
                    for row in grid.rows
                    for cell in row.cells
                ),
                *map(weights_state, comparison.models),  # a model card may have changed
            )
            figure = cached_figure((comparison.key, opaque.look, state, self._has_badges), opaque)
        layout = page_layout(grid)
        width = f"clamp({layout.least_width}px, 100cqw, {round(CELL_AT_MOST / layout.cell_fraction)}px)"
        height = f"calc({layout.fixed_height}px + {layout.rows * layout.cell_fraction:.5f} * {width})"
        # The span keeps Streamlit from moving a mere style sheet to another container, where they would pile up.
        self._style = self._style.html(
            f"""<style>
            .st-key-frame {{ container-type: inline-size; overflow: auto hidden; position: relative; }}
            .st-key-grid {{ flex: none; min-width: {width}; width: {width}; height: {height}; }}
            .st-key-grid .heatmaplayer {{ opacity: {look.opacity:.2f}; }}
            .st-key-grid :is(.annotation-text, .hovertext text) {{ fill: currentColor !important; }}
            {"".join(_badge_styles(grid, width))}
            @media (pointer: coarse) and (max-width: 640px) {{
                .st-key-grid .draglayer * {{ pointer-events: none !important; }}
                .st-key-hint {{ display: none; }}
            }}
            </style><span hidden></span>"""
        )
        alt = f"Heat maps by {', '.join(grid.columns)}; {len(grid.rows)} rows; {grid.scale_name}"
        self._chart = self._chart.plotly_chart(figure, height="stretch", config=CONFIG, alt=alt)
        return grid


def _badge_styles(grid: Grid, width: str) -> Iterator[str]:
    """Yield a rule for the position of each cell's badge; `width` is the grid's width in CSS."""
    if not grid.badge_room:
        return
    layout = page_layout(grid)
    for i, row in enumerate(grid.rows):
        for j, cell in enumerate(row.cells):
            headline, _ = grid.caption(row, cell).lines(CAPTION_COLUMNS)
            left, pixels, share = layout.badge_position(i, j + 1, len(headline))
            yield (
                f".st-key-badge_{i}_{j} {{ position: absolute; max-width: none; "
                f"width: calc({layout.cell_fraction:.5f} * {width}); "
                f"left: calc({left:.5f} * {width}); top: calc({pixels:.1f}px + {share:.5f} * {width}); }}\n"
            )
