"""Features, maps and predictions of corrupted images, computed in one background thread.

They take minutes and can be stopped. What was computed is on disk: a stopped job goes on from there when it is started
again.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import streamlit as st

from dashboard.shared import cache
from dashboard.shared.background_jobs import WAITING, BackgroundJobs, Job
from dashboard.shared.datasets import open_split
from dashboard.shared.model_names import weights_state
from dashboard.shared.theme import escape_markdown
from swin_core.evaluation.corruptions import Robustness, is_measured, robustness
from swin_core.evaluation.embedding import cached_embedding, drawn, embedding_file
from swin_core.evaluation.features import cached_features, has_any_features, has_features
from swin_core.evaluation.predictions import data_state
from swin_core.runs.read_only import is_read_only
from swin_core.system.cache import LRUCache

FEATURES, MAP, CORRUPTED = "features", "map", "corrupted"
POLL_SECONDS = 1.0

_features: LRUCache[np.ndarray] = LRUCache(8, 512 * 2**20)
_maps: LRUCache["ImageMap"] = LRUCache(8)
_robust: LRUCache[list[Robustness]] = LRUCache(8)


@dataclass(frozen=True)
class FeatureRequest:
    """Something about a model and some splits of a data set that takes minutes."""

    model: str
    collection: str
    splits: tuple[str, ...]
    want: str = FEATURES
    """`FEATURES`, `MAP`, or `CORRUPTED`."""


@dataclass(frozen=True, eq=False)
class ImageMap:
    """Places of images whose features are alike near each other."""

    rows: np.ndarray
    """The images, as rows of the catalog of the splits, `(n,)` int64, sorted."""
    places: np.ndarray
    """`(n, 2)` float32 in -1 to 1."""


def ready_features(request: FeatureRequest) -> np.ndarray | None:
    """Return the features of all images of the splits, `(N, D)`, if they are on disk or in memory; else None.

    Raises:
        SwinError: the model or the data set cannot be loaded.
    """
    classifier = cache.classifier(request.model)
    parts = [open_split(request.collection, split) for split in request.splits]
    key = "features", _key(request)[1:]
    held = _features.peek(key)
    if held is None and all(has_features(classifier, part) for part in parts):
        held = _features.get(key, lambda: _joined([cached_features(classifier, part) for part in parts]))
    return held


def ready_map(request: FeatureRequest) -> ImageMap | None:
    """Return the map of the images if it is on disk or in memory; else None.

    Raises:
        SwinError: the model or the data set cannot be loaded.
    """
    key = _key(request)
    held = _maps.peek(key)
    if held is not None:
        return held
    features = ready_features(request)
    if features is None:
        return None
    rows, chosen = _on_map(features)
    if not embedding_file(chosen).is_file():
        return None
    return _maps.get(key, lambda: ImageMap(rows, cached_embedding(chosen)))


def ready_robustness(request: FeatureRequest) -> list[Robustness] | None:
    """Return the accuracy under corruptions for each of the splits, if all predictions are on disk; else None.

    Raises:
        SwinError: the model or the data set cannot be loaded, or the model takes no such images.
    """
    key = _key(request)
    held = _robust.peek(key)
    if held is None:
        classifier = cache.classifier(request.model)
        parts = [open_split(request.collection, split) for split in request.splits]
        if all(is_measured(classifier, part) for part in parts):
            held = _robust.get(key, lambda: [robustness(classifier, part) for part in parts])
    return held


def is_anything_computed() -> bool:
    """Return whether features of any images are on disk or under way.

    If not, a page need not open a data set to look for its features: the largest takes a second and 150 MB.
    """
    return bool(computations.jobs) or has_any_features()


def job_of(request: FeatureRequest) -> Job[FeatureRequest] | None:
    """Return the job of a request that waits, runs or has failed.

    Raises:
        SwinError: the data set cannot be opened.
    """
    return computations.jobs.get(_key(request))


def start(request: FeatureRequest) -> None:
    """Start a job, unless it runs.

    Raises:
        RunError: the read-only mode is on.
        SwinError: the data set cannot be opened.
    """
    computations.start(_key(request), request)


def show_job(request: FeatureRequest, label: str, explanation: str) -> None:
    """Draw what leads to a result that is not there: its progress with a stop, or its error and a start.

    Args:
        request: what is missing.
        label: text of the button that starts it.
        explanation: one sentence above the button.

    Raises:
        SwinError: the data set cannot be opened.
    """
    job = job_of(request)
    if job is not None and not job.ended.is_set():
        st.fragment(_show_progress, run_every=POLL_SECONDS)(job)
        return
    if job is not None and job.error:
        st.error(escape_markdown(job.error), icon=":material/error:")
    show_start(request, label, explanation)


def show_start(request: FeatureRequest, label: str, explanation: str) -> None:
    """Draw the button that starts a job, without opening the data set. Arguments are those of `show_job`."""
    st.caption(explanation)
    if is_read_only():
        st.caption("This dashboard is read-only: nothing can be computed here that takes minutes.")
        return
    st.button(label, icon=":material/play_arrow:", on_click=start, args=(request,), key=f"start {request}")


def _show_progress(job: Job[FeatureRequest]) -> None:
    if job.ended.is_set():
        st.rerun()
    with st.container(horizontal=True, vertical_alignment="center"):
        text = {
            WAITING: "Waiting to start",
            FEATURES: f"Features of {job.done:,} of {job.total:,} images",
            CORRUPTED: f"Predicted {job.done:,} of {job.total:,} corrupted images",
            MAP: f"Arranged the images in {job.done:,} of at most {job.total:,} steps",
        }[job.stage]
        st.progress(job.done / max(job.total, 1), text)
        stopping = job.stopped.is_set()
        st.button(
            "Stopping" if stopping else "Stop",
            icon=":material/stop:",
            on_click=job.stopped.set,
            disabled=stopping,
            key=f"stop {job.request}",
        )


def _key(request: FeatureRequest) -> tuple[Hashable, ...]:
    states = tuple(data_state(open_split(request.collection, split)) for split in request.splits)
    return request.want, request.model, weights_state(request.model), states


def _on_map(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of the images on a map, and their features: of readable images, at most so many."""
    readable = np.flatnonzero(np.isfinite(features).all(1)) if features.shape[1] else np.zeros(0, np.int64)
    rows = readable[drawn(len(readable))]
    return rows, features[rows]


def _compute(job: Job[FeatureRequest]) -> None:
    request = job.request
    classifier = cache.classifier(request.model)
    parts = [open_split(request.collection, split) for split in request.splits]
    if request.want == CORRUPTED:
        for part in parts:
            robustness(classifier, part, progress=partial(job.report, CORRUPTED))
        return
    counts = [len(part) for part in parts]
    found = []
    for number, part in enumerate(parts):

        def tick(done: int, _: int, before: int = sum(counts[:number])) -> None:
            job.report(FEATURES, before + done, sum(counts))

        found.append(cached_features(classifier, part, progress=tick))
    if request.want == MAP:
        job.report(MAP, 0, 1)
        _, chosen = _on_map(_joined(found))
        cached_embedding(chosen, progress=partial(job.report, MAP))


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Join the features of splits, some of which may have no readable image and so no width."""
    width = max(part.shape[1] for part in parts)
    return np.concatenate(
        [part if part.shape[1] == width else np.full((len(part), width), np.nan, np.float32) for part in parts]
    )


computations = BackgroundJobs("features", _compute)
