"""The grid of heat maps on the page, filled column by column."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

import streamlit as st

from dashboard.compare.asking import ask_class
from dashboard.compare.brush import painted_in_url, repaint, shown_grid, take_stroke
from dashboard.shared.cache import STAGES, classifier, load_failure, loaded_classifier
from dashboard.shared.comparison import Comparison
from dashboard.shared.look import held_look, set_look
from dashboard.shared.model_cards import arrange_models, column_subtitles, drop_model
from dashboard.shared.model_names import model_title
from dashboard.shared.theme import escape_markdown
from dashboard.shared.viewer import ViewerEvents, show_viewer, viewer_events
from swin_core.attribution.overlay import Look
from swin_core.errors import SwinError
from swin_core.figures.grid import Grid

REDRAW_SECONDS = 0.7
"""Shortest time between two drawings while columns are computed."""
SENT_SECONDS = 0.25
"""Time in which a drawing reaches the browser of a busy machine."""
KEY = "grid"


def take_events() -> None:
    """Apply clicks in the grid that change the page's controls; call it before they are drawn."""
    for key, models in _heads().items():
        events = viewer_events(key)
        for change in events.all("columns"):
            arrange_models(models, change)
        if events.look is not None and key != KEY:
            if events.look.wipe != held_look().look.wipe:
                held_look().columns = ()  # it counts the columns of this viewer
            set_look(events.look)  # a viewer that this run may not draw
            events.done("look")
        if events.asked is not None and key == KEY:
            ask_class(st.session_state.before, events.asked)
        events.done("columns", "asked")


def _heads() -> dict[str, Sequence[str]]:
    """Return the models at the heads of the columns, by the key of the viewer."""
    heads: dict[str, Sequence[str]] = st.session_state.setdefault("heads", {})
    return heads


def _subtitles(key: str, comparison: Comparison) -> tuple[str, ...]:
    """Return the subtitles of the heads of a viewer's columns; none if the columns are stages."""
    _heads()[key] = () if comparison.layer == STAGES else comparison.models
    return column_subtitles(_heads()[key])


class GridView:
    """The grid's place on the page. Each drawing replaces the one before; until it is ready, the old one stays.

    Args:
        on_event: called with the grid after a click in it.
    """

    def __init__(self, on_event: Callable[[Grid, ViewerEvents], None]):
        self._on_event = on_event
        self._faults = st.container()
        self._status = st.container(key="grid_status")
        self._is_shown = KEY in st.session_state  # by the last run of the page
        self._place = st.container(key=KEY + "_place") if self._is_shown else st.empty()
        self._waiting = 0

    def load(self, models: Sequence[str], meanwhile: Callable[[], Comparison], look: Look) -> list[str]:
        """Load the missing models, and show what there is meanwhile; return the models that are loaded.

        A model that cannot be loaded takes no column: a line above the grid says why.
        """
        missing = [name for name in models if loaded_classifier(name) is None and not load_failure(name)]
        if missing:
            self._draw_waiting(meanwhile(), look, missing)
        for name in missing:
            with suppress(SwinError), self._status, st.spinner(f"Loading {escape_markdown(model_title(name))} ..."):
                classifier(name)
        failures = {name: load_failure(name) for name in models}
        for name, reason in failures.items():
            if reason:
                text = f"{model_title(name)} has no column: {reason}"
                with self._faults:
                    st.error(escape_markdown(text), icon=":material/error:")
                    st.button("Remove it", key=f"failed_{name}", on_click=drop_model, args=(name,))
        loaded = [name for name, reason in failures.items() if not reason]
        if not loaded and missing and not self._is_shown:
            self._place.empty()
        return loaded

    def fill(self, comparison: Comparison, look: Look) -> Grid:
        """Draw the comparison, with columns that have to be computed one after the other; return the whole grid."""
        slow = comparison.slow_models()
        if slow and self._is_shown:
            with self._status, st.spinner("Explaining ..."):
                comparison.rows()
            slow = []
        last = -REDRAW_SECONDS
        for done in range(len(slow)):
            if time.monotonic() - last > REDRAW_SECONDS:
                self._draw_waiting(comparison, look, slow[done:])
                last = time.monotonic()
            comparison.rows(slow[done + 1 :])
        grid = Grid(tuple(comparison.rows()), comparison.columns, look)
        with self._place if self._is_shown else self._place.container(key=KEY + "_place"):
            _show(comparison, grid, self._on_event)
        return grid

    def _draw_waiting(self, comparison: Comparison, look: Look, waiting: Sequence[str]) -> None:
        if self._is_shown:
            return
        grid = Grid(tuple(comparison.rows(waiting)), comparison.columns, look)
        self._waiting += 1
        key = f"{KEY}_{self._waiting}"
        with self._place.container():
            show_viewer(grid, key, subtitles=_subtitles(key, comparison))


@st.fragment
def _show(comparison: Comparison, grid: Grid, on_event: Callable[[Grid, ViewerEvents], None]) -> None:
    """Draw the finished grid; what the user does in it runs this alone."""
    events = viewer_events(KEY)
    if events.asked is not None or events.columns is not None:
        st.rerun()  # of the whole page: `take_events`
    taken = [take_stroke(comparison, stroke) for stroke in events.all("stroke")]
    painted = any(taken)
    events.done("stroke")
    shown = shown_grid()
    shown.painted = painted_in_url()
    comparison, brushes = repaint(comparison, shown.painted)
    if painted:
        grid = Grid(tuple(comparison.rows()), comparison.columns)
    grid = replace(grid, look=held_look().look)  # the user may have set another one since the page ran
    shown.comparison, shown.grid = comparison, grid
    subtitles = _subtitles(KEY, comparison)
    events = show_viewer(grid, KEY, classes=True, brushes=brushes, token=shown.token, subtitles=subtitles)
    on_event(grid, events)
    events.done("cell")
    if painted:
        # The rest of the page follows. Streamlit drops what has not been sent when another run begins.
        time.sleep(SENT_SECONDS)
        st.rerun()
