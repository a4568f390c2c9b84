"""The badge at each cell: whether its map beats the baselines, and why on a click."""

import logging
import time

from streamlit.delta_generator import DeltaGenerator

from dashboard.compare.measurements import cached_trust, measure_trust
from dashboard.compare.trust_view import show_trust
from dashboard.shared.comparison import Comparison
from dashboard.shared.formatting import unexpected
from swin_core.figures.grid import Cell, Grid
from swin_core.trust.assess import Trust

log = logging.getLogger(__name__)

UPDATE_SECONDS = 0.5
"""Time between two updates of the progress of a measurement."""

STYLE = """<style>
.st-key-badges { position: absolute; top: 0; left: 0; width: 0; height: 0; }
.st-key-badges button { min-height: 0; height: 17px; padding: 0 9px 0 6px; border-radius: 9px; white-space: nowrap; }
.st-key-badges button * { font-size: 12px; line-height: 15px; }
.st-key-badges [class*="st-key-better_"] button { background: rgba(0, 158, 115, 0.18); border-color: transparent; }
.st-key-badges [class*="st-key-worse_"] button { background: rgba(128, 128, 128, 0.18); border-color: transparent; }
.st-key-badges [data-testid="stCaptionContainer"] p { font-size: 12px; line-height: 19px; white-space: nowrap; }
</style>"""


def show_badges(container: DeltaGenerator, comparison: Comparison, grid: Grid) -> None:
    """Draw a badge for each map; measure what is not cached, one map after the other.

    Call it at the end of a page: a click on any widget interrupts the measurements.
    """
    container.html(STYLE)
    pending = []
    for i, row in enumerate(grid.rows):
        for j, cell in enumerate(row.cells):
            if cell.explanation is None:
                continue
            line, model = comparison.line_and_model(i, j)
            box = container.container(key=f"badge_{i}_{j}")
            trust = cached_trust(line, model, cell)
            if trust is None:
                slot = box.empty()
                slot.caption("trust: waiting")
                pending.append((i, j, cell, slot))
            else:
                _show(box, f"{i}_{j}", cell, model, trust)
    for i, j, cell, slot in pending:
        line, model = comparison.line_and_model(i, j)
        try:
            trust = measure_trust(line, model, cell, _Progress(slot))
        except Exception as error:
            log.exception("measuring a map of %s failed", model)
            trust = unexpected(error)
        _show(slot, f"{i}_{j}", cell, model, trust)


class _Progress:
    """Show the progress of a measurement in a slot."""

    def __init__(self, slot: DeltaGenerator):
        self._slot, self._shown = slot, 0.0

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() - self._shown > UPDATE_SECONDS:
            self._shown = time.monotonic()
            self._slot.caption(f"trust: {100 * done / total:.0f} %")


def _show(slot: DeltaGenerator, name: str, cell: Cell, model: str, trust: Trust | str) -> None:
    if isinstance(trust, str):
        slot.caption("trust: none", help=trust)
        return
    words, key, icon = ("no better", "worse", ":material/help:")
    if trust.better:
        words, key, icon = ("beats baselines", "better", ":material/check_circle:")
    if slot.button(f"{words} · {trust.srg:+.2f}", icon=icon, key=f"{key}_{name}"):
        show_trust(cell, model, trust)
