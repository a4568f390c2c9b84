"""Map checks in the background: one thread measures maps, one after the other, while pages show what is ready.

A check belongs to its map, so a change of the look restarts none, and no badge can stand under another map. A check
that no page asks for any more is dropped.
"""

import logging
from dataclasses import dataclass, field

from dashboard.compare.measurements import cached_trust, keep_failure, measure_trust, trust_key
from dashboard.shared.background_jobs import BackgroundJobs, Job, Stopped
from dashboard.shared.comparison import ImageAndClass
from dashboard.shared.formatting import unexpected
from swin_core.figures.grid import Cell
from swin_core.trust.assess import Trust

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class MapCheck:
    """What is checked: a map in a cell."""

    line: ImageAndClass
    model: str
    cell: Cell = field(repr=False)


def trust_or_check(line: ImageAndClass, model: str, cell: Cell) -> Trust | str | Job[MapCheck]:
    """Return the result for a cell's map, why there is none, or the check under way, which is started if need be."""
    if (known := cached_trust(line, model, cell)) is not None:
        return known
    return checks.start(trust_key(line, model, cell), MapCheck(line, model, cell))


def _check(job: Job[MapCheck]) -> None:
    def progress(done: int, total: int) -> None:
        job.report("", done, total)
        _drop_unless_wanted(job)

    line, model, cell = job.request.line, job.request.model, job.request.cell
    _drop_unless_wanted(job)
    try:
        measure_trust(line, model, cell, progress)
    except Stopped:
        raise
    except Exception as error:
        log.exception("checking a map of %s failed", model)
        keep_failure(trust_key(line, model, cell), unexpected(error))


def _drop_unless_wanted(job: Job[MapCheck]) -> None:
    if not job.is_wanted:
        raise Stopped


checks = BackgroundJobs("map checks", _check, in_read_only=True)
