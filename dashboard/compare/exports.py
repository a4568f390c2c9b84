"""The files in which the grid of heat maps can be saved."""

from collections.abc import Callable

from dashboard.shared.export_menu import DRAWINGS, show_exports
from swin_core.figures.exercise_sheet import exercise_sheet
from swin_core.figures.files import encode
from swin_core.figures.grid import Grid
from swin_core.figures.matplotlib_grid import fonts_of
from swin_core.figures.report_json import too_large

EXERCISE = "exercise.pdf"
NAMES = DRAWINGS | {
    "html": "Report (HTML)",
    "json": "Report to compute again (JSON)",
    "npz": "Raw arrays (NPZ)",
    EXERCISE: "Exercise sheet with solutions (PDF)",
}


def show_grid_exports(grid: Grid, latest: Callable[[], Grid]) -> None:
    """Draw the menu.

    Args:
        grid: what is shown.
        latest: returns the grid with the trust measured so far; called when a button is clicked.
    """
    fault, font_fault = too_large(grid), fonts_of(grid).fault
    show_exports(
        NAMES,
        lambda kind: exercise_sheet(latest()) if kind == EXERCISE else encode(latest(), kind),
        left_out={"json": f"Without JSON: {fault}"} if fault else {},
        notes=[f"In PNG, PDF and SVG, {font_fault}"] if font_fault else [],
        disabled=not grid.rows,
    )
