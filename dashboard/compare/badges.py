"""The map check under each map: whether it beats the baselines, measured in the background."""

from collections.abc import Mapping

import streamlit as st

from dashboard.compare.grid_view import KEY
from dashboard.compare.map_checks import MapCheck, trust_or_check
from dashboard.compare.measurements import cached_trust
from dashboard.compare.trust_view import show_trust
from dashboard.shared.background_jobs import WAITING, Job
from dashboard.shared.comparison import Comparison
from dashboard.shared.viewer import Badge, ViewerEvents, show_badges
from swin_core.figures.grid import Cell, Grid
from swin_core.figures.viewer_payload import map_key
from swin_core.trust.assess import Trust

UPDATE_SECONDS = 0.7
"""Time between two updates while maps are measured."""
TITLE = "Map check"


def show_map_checks(comparison: Comparison, grid: Grid) -> None:
    """Show a badge under each map of the grid, and update them until all are measured."""
    cells = {
        (i, j): cell
        for i, row in enumerate(grid.rows)
        if row.edit is None  # a check takes seconds, and would slow the answer to the next stroke
        for j, cell in enumerate(row.cells)
        if cell.explanation is not None
    }
    results = _results(comparison, cells)
    if _is_under_way(results):
        st.fragment(_update, run_every=UPDATE_SECONDS)(comparison, cells)
    else:
        show_badges(KEY, {key: _badge(result) for key, result in results.items()}, key="map_checks_done")


def _update(comparison: Comparison, cells: Mapping[tuple[int, int], Cell]) -> None:
    results = _results(comparison, cells)
    if not _is_under_way(results):
        # The whole page, which ends the updates. It shows the last badges too: a dialog that a click on one opened
        # would end with this run.
        st.rerun()
    show_badges(KEY, {key: _badge(result) for key, result in results.items()}, key="map_checks_under_way")


def _results(comparison: Comparison, cells: Mapping[tuple[int, int], Cell]) -> dict[str, Trust | str | Job[MapCheck]]:
    return {map_key(cell): trust_or_check(*comparison.line_and_model(*spot), cell) for spot, cell in cells.items()}


def _is_under_way(results: Mapping[str, Trust | str | Job[MapCheck]]) -> bool:
    return any(isinstance(result, Job) for result in results.values())


def _badge(result: Trust | str | Job[MapCheck]) -> Badge:
    if isinstance(result, Job):
        text = f"{100 * result.done / result.total:.0f} %" if result.done else WAITING
        return Badge(text=f"{TITLE}: {text}", better=None, reason="")
    if isinstance(result, str):
        return Badge(text=f"{TITLE}: none", better=None, reason=result)
    return Badge(text=f"{TITLE}: {result.check}", better=result.better, reason="")


def open_details(comparison: Comparison, grid: Grid, events: ViewerEvents) -> None:
    """Open the dialog of the map whose badge was clicked."""
    if events.cell is None:
        return
    i, (_, j) = comparison.seen_row(events.all("cell")[-1]), events.cell
    if i is None or not (i < len(grid.rows) and 0 <= j < len(grid.columns)):
        return
    cell = grid.rows[i].cells[j]
    line, model = comparison.line_and_model(i, j)
    trust = cached_trust(line, model, cell)
    if isinstance(trust, Trust):
        show_trust(cell, model, trust)
