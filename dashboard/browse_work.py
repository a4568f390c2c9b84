"""Predictions for the Browse page: from memory, from disk, or computed in a thread of their own, one split at a time.

A page's script ends whenever a person clicks, and what it was computing is lost; the predictions for ten thousand
pictures take longer than a person sits still. So they are computed beside the page, which looks now and then how far
they are. One that no page looks at any more gives way to one that somebody waits for.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field

from dashboard import cache
from dashboard.choices import weights_state
from dashboard.collection import open_split
from swin_core.cache import LRUCache
from swin_core.errors import SwinError
from swin_core.predictions import Predictions, data_state, kept_file, predictions, read_kept

__all__ = ["Job", "is_long", "look_at", "predicted"]

log = logging.getLogger(__name__)

LOOKED_AT_SECONDS = 6.0
"""So long after the last look at it a computation gives way to others."""
FAILED_SECONDS = 30.0
"""So long what failed is not tried again."""
PATIENCE_SECONDS = 0.3
"""How long a page waits for a new computation, so that a short one needs no progress bar."""
LONG_PIXELS = 100e6
"""A split with more pixels than this, as the model sees them, is computed only when a person asks for it: some minutes
on two cores."""

PACE_BATCHES = 32
"""The time left is told from the pace of so many batches before: other work on the machine comes and goes."""
PACE_FROM = 4
"""Batches after the first one, which is slow, that are needed to tell a pace."""

_held: LRUCache[Predictions] = LRUCache(16)


@dataclass(eq=False)
class Job:
    """Predictions that are on their way, or could not be had."""

    model: str
    collection: str
    split: str
    key: Hashable
    count: int
    """Pictures in all."""
    done: int = 0
    error: str = ""
    looked_at: float = 0.0
    """On the monotonic clock, in seconds."""
    ended: threading.Event = field(default_factory=threading.Event)
    marks: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=PACE_BATCHES + 1))
    """When a batch was done, and how many pictures were then."""

    def mark(self, done: int) -> None:
        """So many pictures are done now."""
        self.marks.append((time.monotonic(), done))
        self.done = done

    @property
    def seconds_left(self) -> float | None:
        """By the pace of the last batches; None as long as too few are done to tell it."""
        if len(self.marks) <= PACE_FROM:
            return None
        (start, before), (end, done) = self.marks[0], self.marks[-1]
        left = (end - start) / (done - before) * (self.count - done)
        return max(0.0, left - (time.monotonic() - end))


class _GivenUp(Exception):
    """Nobody waits for it any more, and somebody for another one."""


_jobs: dict[Hashable, Job] = {}
_guard = threading.Lock()
_worker: threading.Thread | None = None


def is_long(model: str, collection: str, split: str) -> bool:
    """Whether the predictions have to be computed, and that takes so long that a person should ask for it.

    Raises:
        SwinError: the model or the data set cannot be had.
    """
    classifier, data = cache.classifier(model), open_split(collection, split)
    key = _key(model, collection, split)
    if len(data) * classifier.image_size**2 <= LONG_PIXELS or _held.peek(key) is not None or key in _jobs:
        return False
    return not kept_file(classifier, data).is_file()


def predicted(model: str, collection: str, split: str) -> Predictions | Job:
    """What a model predicts for a split, or the computation that is under way.

    Raises:
        SwinError: the model or the data set cannot be had.
    """
    global _worker
    classifier, data = cache.classifier(model), open_split(collection, split)
    key = _key(model, collection, split)
    found = _held.peek(key)
    if found is None:
        found = read_kept(kept_file(classifier, data), classifier, data)
        if found is not None:
            _held.put(key, found)
    if found is not None:
        return found
    with _guard:
        job = _jobs.get(key)
        if job is None or (job.error and time.monotonic() - job.looked_at > FAILED_SECONDS):
            job = _jobs[key] = Job(model, collection, split, key, len(data))
        if not job.error:
            job.looked_at = time.monotonic()
        if _worker is None or not _worker.is_alive():
            _worker = threading.Thread(target=_work, name="predictions", daemon=True)
            _worker.start()
    job.ended.wait(PATIENCE_SECONDS if not job.done else 0)
    found = _held.peek(key)
    return job if found is None else found


def look_at(job: Job) -> None:
    """Say that somebody still waits for a computation."""
    job.looked_at = time.monotonic()


def _key(model: str, collection: str, split: str) -> Hashable:
    return model, weights_state(model), collection, split, data_state(open_split(collection, split))


def _next() -> Job | None:
    """The computation that was looked at last; those that nobody looks at, and failures of long ago, are dropped."""
    now = time.monotonic()
    for job in list(_jobs.values()):
        if now - job.looked_at > (FAILED_SECONDS if job.error else LOOKED_AT_SECONDS):
            job.ended.set()
            del _jobs[job.key]
    waiting = [job for job in _jobs.values() if not job.error]
    return max(waiting, key=lambda job: job.looked_at, default=None)


def _work() -> None:
    global _worker
    while True:
        with _guard:
            job = _next()
            if job is None:
                _worker = None
                return
        _compute(job)
        with _guard:
            if not job.error:
                _jobs.pop(job.key, None)
        job.ended.set()


def _compute(job: Job) -> None:
    def progress(done: int, count: int) -> None:
        job.mark(done)
        unseen = time.monotonic() - job.looked_at > LOOKED_AT_SECONDS
        if unseen and done < count and any(other is not job and not other.error for other in list(_jobs.values())):
            raise _GivenUp

    try:
        classifier, data = cache.classifier(job.model), open_split(job.collection, job.split)
        _held.put(job.key, predictions(classifier, data, progress=progress))
    except _GivenUp:
        pass
    except SwinError as error:
        job.error = str(error)
    except Exception as error:
        # A page that waits must learn of it: it is logged in full, and named there.
        log.exception("predicting with %s failed", job.model)
        job.error = f"Predicting failed unexpectedly ({type(error).__name__}); the server's log says more."
