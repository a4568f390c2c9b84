"""Predictions for the Browse page: from memory, from disk, or computed in one background thread.

Predicting ten thousand images takes minutes. So one worker thread computes the predictions of one split after another,
and pages poll its progress. A job that no page shows is stopped as soon as a page waits for another one.
"""

import time
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace

from dashboard.shared import cache
from dashboard.shared.background_jobs import BackgroundJobs, Job, Stopped
from dashboard.shared.datasets import open_split
from dashboard.shared.model_names import weights_state
from swin_core.data.dataset import DataSet
from swin_core.evaluation.predictions import Predictions, cache_file, cached_predictions, data_state, read_cached
from swin_core.system.cache import LRUCache

FAILED_SECONDS = 30.0
"""A failed job is not repeated for this long."""
PATIENCE_SECONDS = 0.3
"""How long a page waits for a new job, so that a short one needs no progress bar."""
LONG_PIXELS = 100e6
"""Model input pixels of a split above which predicting takes minutes on two cores, so that it needs a click."""

_predictions: LRUCache[Predictions] = LRUCache(16)
_renamed: LRUCache[DataSet] = LRUCache(4)


@dataclass(frozen=True, eq=False)
class PredictionRequest:
    """What is predicted."""

    model: str
    data: DataSet = field(repr=False)
    key: Hashable
    """Of the predictions in the cache."""


def predictions_or_job(
    model: str, collection: str, split: str, allow_long: bool = True, by_hand: Mapping[str, str] | None = None
) -> Predictions | Job[PredictionRequest] | None:
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
    job = predicting.jobs.get(key)
    if job is not None and job.error and time.monotonic() - job.asked_at > FAILED_SECONDS:
        job = None
    if job is None and len(data) * classifier.image_size**2 > LONG_PIXELS and not allow_long:
        return None
    if job is None or not job.error:
        job = predicting.start(key, PredictionRequest(model, data, key))
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


def _predict(job: Job[PredictionRequest]) -> None:
    request = job.request

    def progress(done: int, count: int) -> None:
        job.report("", done, count)
        if done < count:
            _stop_unless_needed(job)

    _stop_unless_needed(job)
    _share(request.key, cached_predictions(cache.classifier(request.model), request.data, progress=progress))


def _stop_unless_needed(job: Job[PredictionRequest]) -> None:
    """Stop a job that no page shows while a page waits for another one."""
    if not job.is_wanted and predicting.is_another_wanted(job):
        raise Stopped


predicting = BackgroundJobs("predictions", _predict, in_read_only=True)
