"""The badge at each map: whether it beats the baselines."""

import logging
import time
from collections.abc import Callable
from itertools import count

from streamlit.delta_generator import DeltaGenerator

from dashboard.compare.grid_view import KEY
from dashboard.compare.measurements import cached_trust, measure_trust
from dashboard.compare.trust_view import show_trust
from dashboard.shared.comparison import Comparison
from dashboard.shared.formatting import unexpected
from dashboard.shared.viewer import Badge, ViewerEvents, show_badges
from swin_core.figures.grid import Grid
from swin_core.figures.viewer_payload import map_key
from swin_core.trust.assess import Trust

log = logging.getLogger(__name__)

UPDATE_SECONDS = 0.5
"""Time between two updates of the progress of a measurement."""


def measure_badges(place: DeltaGenerator, comparison: Comparison, grid: Grid) -> None:
    """Show a badge for each map; measure what is not cached, one map after the other.

    Call it at the end of a page: a click on any widget interrupts the measurements.

    Args:
        place: an empty place, for what tells the viewer.
        comparison: the grid's lines and models.
        grid: what is shown.
    """
    cells = {
        (i, j): cell
        for i, row in enumerate(grid.rows)
        for j, cell in enumerate(row.cells)
        if cell.explanation is not None
    }
    results = {spot: cached_trust(*comparison.line_and_model(*spot), cell) for spot, cell in cells.items()}
    badges = {map_key(cell): _badge(results[spot]) for spot, cell in cells.items()}
    shown = 0.0
    updates = count()

    def show() -> None:
        with place.container():
            show_badges(KEY, badges, key=f"badges_{next(updates)}")  # a key may be used once in a run

    def progress(key: str) -> Callable[[int, int], None]:
        def tell(done: int, total: int) -> None:
            nonlocal shown
            if time.monotonic() - shown > UPDATE_SECONDS:
                shown = time.monotonic()
                badges[key] = Badge(text=f"trust: {100 * done / total:.0f} %", better=None, reason="")
                show()

        return tell

    show()
    for spot, cell in cells.items():
        if results[spot] is not None:
            continue
        line, model = comparison.line_and_model(*spot)
        try:
            trust = measure_trust(line, model, cell, progress(map_key(cell)))
        except Exception as error:
            log.exception("measuring a map of %s failed", model)
            trust = unexpected(error)
        badges[map_key(cell)] = _badge(trust)
        show()


def _badge(trust: Trust | str | None) -> Badge:
    if trust is None:
        return Badge(text="trust: waiting", better=None, reason="")
    if isinstance(trust, str):
        return Badge(text="trust: none", better=None, reason=trust)
    words = "beats baselines" if trust.better else "no better"
    return Badge(text=f"{words} · {trust.srg:+.2f}", better=trust.better, reason="")


def open_details(comparison: Comparison, grid: Grid, events: ViewerEvents) -> None:
    """Open the dialog of the map whose badge was clicked."""
    if events.cell is None:
        return
    i, j = events.cell
    if not (0 <= i < len(grid.rows) and 0 <= j < len(grid.columns)):
        return
    cell = grid.rows[i].cells[j]
    line, model = comparison.line_and_model(i, j)
    trust = cached_trust(line, model, cell)
    if isinstance(trust, Trust):
        show_trust(cell, model, trust)
