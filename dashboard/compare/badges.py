"""The badge at each cell: whether its map can be believed, measured after all else is shown, and why on a click."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from streamlit.delta_generator import DeltaGenerator

from dashboard.compare.measurements import held_trust, trust
from dashboard.compare.trust_view import show_trust
from dashboard.shared.comparison import Comparison, Line
from swin_core.figures.grid import Cell, Grid
from swin_core.trust.assess import Trust

__all__ = ["show_badges"]

log = logging.getLogger(__name__)

UPDATE_SECONDS = 0.5
"""How often a badge says how far its measurement is."""

STYLE = """<style>
.st-key-badges { position: absolute; top: 0; left: 0; width: 0; height: 0; }
.st-key-badges button { min-height: 0; height: 17px; padding: 0 9px 0 6px; border-radius: 9px; white-space: nowrap; }
.st-key-badges button * { font-size: 12px; line-height: 15px; }
.st-key-badges [class*="st-key-believe_"] button { background: rgba(0, 158, 115, 0.18); border-color: transparent; }
.st-key-badges [class*="st-key-doubt_"] button { background: rgba(128, 128, 128, 0.18); border-color: transparent; }
.st-key-badges [data-testid="stCaptionContainer"] p { font-size: 12px; line-height: 19px; white-space: nowrap; }
</style>"""


@dataclass(frozen=True)
class _Place:
    """A cell whose trust is shown."""

    line: Line
    model: str
    cell: Cell
    name: str
    """Of its place in the grid."""
    box: DeltaGenerator


def show_badges(box: DeltaGenerator, comparison: Comparison, result: Grid) -> None:
    """A badge for each map; what has to be measured first comes one after the other, and any click goes before it.

    Args:
        box: the stage's place for badges.
        comparison: what is compared.
        result: its grid.
    """
    box.html(STYLE)
    pending: list[tuple[_Place, DeltaGenerator]] = []
    for i, row in enumerate(result.rows):
        for j, cell in enumerate(row.cells):
            if cell.explanation is None:
                continue
            line, model = comparison.place(i, j)
            place = _Place(line, model, cell, f"{i}_{j}", box.container(key=f"badge_{i}_{j}"))
            known = held_trust(line, model, cell)
            if known is None:
                slot = place.box.empty()
                slot.caption("trust: waiting")
                pending.append((place, slot))
            else:
                _show(place, place.box, known)
    for place, slot in pending:
        _show(place, slot, _measured(place, slot))


def _measured(place: _Place, slot: DeltaGenerator) -> Trust | str:
    try:
        return trust(place.line, place.model, place.cell, _progress_in(slot))
    except Exception as error:
        log.exception("measuring a map of %s failed", place.model)
        return f"This failed unexpectedly ({type(error).__name__}); the server's log says more."


def _progress_in(slot: DeltaGenerator) -> Callable[[int, int], None]:
    shown = 0.0

    def tick(done: int, total: int) -> None:
        nonlocal shown
        if time.monotonic() - shown > UPDATE_SECONDS:
            shown = time.monotonic()
            slot.caption(f"trust: {100 * done / total:.0f} %")

    return tick


def _show(place: _Place, slot: DeltaGenerator, found: Trust | str) -> None:
    if isinstance(found, str):
        slot.caption("trust: none", help=found)
        return
    word, icon = ("believe", ":material/check_circle:") if found.better else ("doubt", ":material/help:")
    if slot.button(f"{word} · {found.srg:+.2f}", icon=icon, key=f"{word}_{place.name}"):
        show_trust(place.cell, place.model, found)
