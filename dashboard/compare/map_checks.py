"""Map checks in the background: one thread measures maps, one after the other, while pages show what is ready.

A check belongs to its map, so a change of the look restarts none, and no badge can stand under another map. A check
that no page asks for any more is dropped.
"""

import logging
import threading
import time
from collections.abc import Hashable
from dataclasses import dataclass, field
from queue import SimpleQueue

from dashboard.compare.measurements import cached_trust, keep_failure, measure_trust, trust_key
from dashboard.shared.comparison import ImageAndClass
from dashboard.shared.formatting import unexpected
from swin_core.figures.grid import Cell
from swin_core.trust.assess import Trust

log = logging.getLogger(__name__)

ASKED_SECONDS = 6.0
"""A check counts as wanted for so long after a page asked for it."""


@dataclass(eq=False)
class MapCheck:
    """A check that waits or runs."""

    line: ImageAndClass
    model: str
    cell: Cell = field(repr=False)
    share: float = 0.0
    """How much is done, 0 to 1."""
    asked_at: float = field(default_factory=time.monotonic)
    """Monotonic time in seconds."""


class _Dropped(Exception):
    """Raised to end a check that no page asks for."""


_checks: dict[Hashable, MapCheck] = {}
_queue: SimpleQueue[Hashable] = SimpleQueue()
_guard = threading.Lock()
_worker: threading.Thread | None = None


def trust_or_check(line: ImageAndClass, model: str, cell: Cell) -> Trust | str | MapCheck:
    """Return the result for a cell's map, why there is none, or the check under way, which is started if need be."""
    global _worker
    if (known := cached_trust(line, model, cell)) is not None:
        return known
    key = trust_key(line, model, cell)
    with _guard:
        check = _checks.get(key)
        if check is None:
            check = _checks[key] = MapCheck(line, model, cell)
            _queue.put(key)
        check.asked_at = time.monotonic()
        if _worker is None:
            # Not a ThreadPoolExecutor: Python would wait for its jobs before the server ends.
            _worker = threading.Thread(target=_run_checks, name="map checks", daemon=True)
            _worker.start()
    return check


def _run_checks() -> None:
    while True:
        key = _queue.get()
        _run(key, _checks[key])


def _run(key: Hashable, check: MapCheck) -> None:
    def progress(done: int, total: int) -> None:
        check.share = done / total
        _drop_unless_asked(check)

    try:
        _drop_unless_asked(check)
        measure_trust(check.line, check.model, check.cell, progress)
    except _Dropped:
        pass
    except Exception as error:
        log.exception("checking a map of %s failed", check.model)
        keep_failure(key, unexpected(error))
    finally:
        with _guard:
            del _checks[key]


def _drop_unless_asked(check: MapCheck) -> None:
    if time.monotonic() - check.asked_at > ASKED_SECONDS:
        raise _Dropped
