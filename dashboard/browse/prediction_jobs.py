"""Predictions for the Browse page: from memory, from disk, or computed in one background thread.

Streamlit ends a page's script at every click, and predicting ten thousand images takes minutes. So one worker thread
computes the predictions of one split after another, and pages poll its progress. A job that no page shows is cancelled
as soon as a page waits for another one.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from queue import SimpleQueue

from dashboard.shared import cache
from dashboard.shared.datasets import open_split
from dashboard.shared.formatting import unexpected
from dashboard.shared.model_names import weights_state
from swin_core.data.dataset import DataSet
from swin_core.errors import SwinError
from swin_core.evaluation.predictions import Predictions, cache_file, cached_predictions, data_state, read_cached
from swin_core.system.cache import LRUCache

log = logging.getLogger(__name__)

SHOWN_SECONDS = 6.0
"""A job counts as shown for this long after a page polled it."""
FAILED_SECONDS = 30.0
"""A failed job is not repeated for this long."""
PATIENCE_SECONDS = 0.3
"""How long a page waits for a new job, so that a short one needs no progress bar."""
LONG_PIXELS = 100e6
"""Model input pixels of a split above which predicting takes minutes on two cores, so that it needs a click."""
PACE_BATCHES = 32
"""Number of recent batches from which the time left is estimated."""
PACE_FROM = 4
"""Batches needed for an estimate, not counting the first one, which is slow."""

_predictions: LRUCache[Predictions] = LRUCache(16)
_renamed: LRUCache[DataSet] = LRUCache(4)


@dataclass(eq=False)
class PredictionJob:
    """Predictions that are queued, being computed, or have failed."""

    model: str
    data: DataSet = field(repr=False)
    key: Hashable
    done: int = 0
    error: str = ""
    polled_at: float = 0.0
    """Monotonic time in seconds."""
    ended: threading.Event = field(default_factory=threading.Event)
    marks: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=PACE_BATCHES + 1))
    """Time at the end of each recent batch, and the images done by then."""

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.data)

    def poll(self) -> None:
        """Record that a page shows this job."""
        self.polled_at = time.monotonic()

    @property
    def is_shown(self) -> bool:
        """Whether a page has polled this job recently."""
        return time.monotonic() - self.polled_at <= SHOWN_SECONDS

    def mark(self, done: int) -> None:
        """Record the number of images done now."""
        self.marks.append((time.monotonic(), done))
        self.done = done

    @property
    def seconds_left(self) -> float | None:
        """Estimate from the pace of the last batches; None before there are enough of them."""
        if len(self.marks) <= PACE_FROM:
            return None
        (start, before), (end, done) = self.marks[0], self.marks[-1]
        left = (end - start) / (done - before) * (self.count - done)
        return max(0.0, left - (time.monotonic() - end))


class _Cancelled(Exception):
    """Raised to cancel a job that no page shows while a page waits for another one."""


_jobs: dict[Hashable, PredictionJob] = {}
_queue: SimpleQueue[PredictionJob] = SimpleQueue()
_guard = threading.Lock()
_worker: threading.Thread | None = None


def predictions_or_job(
    model: str, collection: str, split: str, allow_long: bool = True, by_hand: Mapping[str, str] | None = None
) -> Predictions | PredictionJob | None:
    """Return a model's predictions for a split, or the job that computes them.

    Unless `allow_long`, no job is started that would take minutes: the result is None instead. `by_hand` names the
    model's label for classes of the data set that it does not know by name.

    Raises:
        SwinError: the model or the data set cannot be loaded.
    """
    classifier, data = cache.classifier(model), _matched(open_split(collection, split), by_hand)
    key = model, weights_state(model), collection, split, data_state(data)
    ready = _predictions.peek(key)
    if ready is None:
        ready = read_cached(cache_file(classifier, data), classifier, data)
    if ready is not None:
        return _share(key, ready)
    with _guard:
        _drop_old_failures()
        job = _jobs.get(key)
        if job is None:
            if len(data) * classifier.image_size**2 > LONG_PIXELS and not allow_long:
                return None
            job = _jobs[key] = PredictionJob(model, data, key)
            _submit(job)
        if not job.error:
            job.poll()
    job.ended.wait(PATIENCE_SECONDS if not job.done else 0)
    ready = _predictions.peek(key)
    return job if ready is None else ready


def _matched(data: DataSet, by_hand: Mapping[str, str] | None) -> DataSet:
    """Return a data set whose classes have the names of the model's labels, where these were chosen by hand."""
    if not by_hand:
        return data
    names = tuple(by_hand.get(name, name) for name in data.classes)
    return _renamed.get((data, names), lambda: replace(data, classes=names))


def _share(key: Hashable, ready: Predictions) -> Predictions:
    """Cache predictions unless another thread did so first, so that all pages hold the same object."""
    return _predictions.get(key, lambda: ready)


def _drop_old_failures() -> None:
    now = time.monotonic()
    for job in [job for job in _jobs.values() if job.error and now - job.polled_at > FAILED_SECONDS]:
        del _jobs[job.key]


def _submit(job: PredictionJob) -> None:
    global _worker
    if _worker is None:
        # Not a ThreadPoolExecutor: Python would wait for its jobs before the server ends.
        _worker = threading.Thread(target=_run_jobs, name="predictions", daemon=True)
        _worker.start()
    job.poll()
    _queue.put(job)


def _run_jobs() -> None:
    while True:
        _run(_queue.get())


def _run(job: PredictionJob) -> None:
    def progress(done: int, count: int) -> None:
        job.mark(done)
        if done < count:
            _cancel_unless_needed(job)

    try:
        _cancel_unless_needed(job)
        _share(job.key, cached_predictions(cache.classifier(job.model), job.data, progress=progress))
    except _Cancelled:
        pass
    except SwinError as error:
        job.error = str(error)
    except Exception as error:
        log.exception("predicting with %s failed", job.model)
        job.error = unexpected(error)
    with _guard:
        if not job.error:
            _jobs.pop(job.key, None)
    job.ended.set()


def _cancel_unless_needed(job: PredictionJob) -> None:
    with _guard:
        waiting = any(other.is_shown for other in _jobs.values() if not other.error and other is not job)
    if waiting and not job.is_shown:
        raise _Cancelled
