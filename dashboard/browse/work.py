"""Predictions for the Browse page: from memory, from disk, or computed in one worker thread, one split at a time.

A page's script ends at every click, and predicting ten thousand images takes minutes. So jobs are computed beside the
page, in the order in which they were asked for, and the page looks now and then how far they are. A job that no page
shows any more is cancelled as soon as a page waits for another one.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from queue import SimpleQueue

from dashboard.shared import cache
from dashboard.shared.datasets import open_split
from dashboard.shared.model_names import weights_state
from swin_core.errors import SwinError
from swin_core.evaluation.predictions import Predictions, cache_file, data_state, predictions, read_cached
from swin_core.system.cache import LRUCache

__all__ = ["Job", "is_long", "look_at", "predicted"]

log = logging.getLogger(__name__)

LOOKED_AT_SECONDS = 6.0
"""A page that shows a job looks at it more often than this."""
FAILED_SECONDS = 30.0
"""A failed job is not repeated for this time."""
PATIENCE_SECONDS = 0.3
"""How long a page waits for a new job, so that a short one needs no progress bar."""
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
    """Predictions that are queued, being computed, or have failed."""

    model: str
    collection: str
    split: str
    key: Hashable
    count: int
    """Images in all."""
    done: int = 0
    error: str = ""
    looked_at: float = 0.0
    """On the monotonic clock, in seconds."""
    ended: threading.Event = field(default_factory=threading.Event)
    marks: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=PACE_BATCHES + 1))
    """When a batch was done, and how many images were then."""

    def mark(self, done: int) -> None:
        """So many images are done now."""
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


class _Cancelled(Exception):
    """Raised to cancel a job that no page shows while a page waits for another one."""


_jobs: dict[Hashable, Job] = {}
_queue: SimpleQueue[Job] = SimpleQueue()
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
    return not cache_file(classifier, data).is_file()


def predicted(model: str, collection: str, split: str) -> Predictions | Job:
    """What a model predicts for a split, or the job that computes it.

    Raises:
        SwinError: the model or the data set cannot be loaded.
    """
    classifier, data = cache.classifier(model), open_split(collection, split)
    key = _key(model, collection, split)
    found = _held.peek(key)
    if found is None:
        found = read_cached(cache_file(classifier, data), classifier, data)
    if found is not None:
        return _share(key, found)
    with _guard:
        _drop_old_failures()
        job = _jobs.get(key)
        if job is None:
            job = _jobs[key] = Job(model, collection, split, key, len(data))
            _submit(job)
        if not job.error:
            job.looked_at = time.monotonic()
    job.ended.wait(PATIENCE_SECONDS if not job.done else 0)
    found = _held.peek(key)
    return job if found is None else found


def look_at(job: Job) -> None:
    """Say that a page still shows a job."""
    job.looked_at = time.monotonic()


def _key(model: str, collection: str, split: str) -> Hashable:
    return model, weights_state(model), collection, split, data_state(open_split(collection, split))


def _share(key: Hashable, found: Predictions) -> Predictions:
    """Cache predictions, unless another thread did so first: all pages hold the same object."""
    return _held.get(key, lambda: found)


def _drop_old_failures() -> None:
    now = time.monotonic()
    for job in [job for job in _jobs.values() if job.error and now - job.looked_at > FAILED_SECONDS]:
        del _jobs[job.key]


def _submit(job: Job) -> None:
    global _worker
    if _worker is None:
        # Not a ThreadPoolExecutor: a server that is told to end would wait for its jobs.
        _worker = threading.Thread(target=_work, name="predictions", daemon=True)
        _worker.start()
    job.looked_at = time.monotonic()
    _queue.put(job)


def _work() -> None:
    while True:
        _run(_queue.get())


def _run(job: Job) -> None:
    def progress(done: int, count: int) -> None:
        job.mark(done)
        if done < count:
            _check(job)

    try:
        _check(job)
        classifier, data = cache.classifier(job.model), open_split(job.collection, job.split)
        _share(job.key, predictions(classifier, data, progress=progress))
    except _Cancelled:
        pass
    except SwinError as error:
        job.error = str(error)
    except Exception as error:
        # The page shows that it failed; the log has the details.
        log.exception("predicting with %s failed", job.model)
        job.error = f"Predicting failed unexpectedly ({type(error).__name__}); the server's log says more."
    with _guard:
        if not job.error:
            _jobs.pop(job.key, None)
    job.ended.set()


def _check(job: Job) -> None:
    with _guard:
        waiting = any(_is_shown(other) for other in _jobs.values() if not other.error and other is not job)
    if waiting and not _is_shown(job):
        raise _Cancelled


def _is_shown(job: Job) -> bool:
    return time.monotonic() - job.looked_at <= LOOKED_AT_SECONDS
