"""The bench of an audit: a model, its images, and what interventions on them do to its predictions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from swin_core.audit.interventions import Intervention
from swin_core.data.dataset import DataSet
from swin_core.errors import DataError
from swin_core.evaluation.metrics import batch_size
from swin_core.evaluation.views import read_batches
from swin_core.system.cache import LRUCache
from swin_core.zoo.classifier import Classifier

RESAMPLES = 10_000
"""Bootstrap samples of an interval."""
LEAST_SAMPLES = 10
"""Bootstrap samples beyond each end of an interval that are enough to place it."""

_VIEW_BYTES = 256 * 2**20
"""Bytes of views that are held between interventions."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its bootstrap interval."""

    value: float
    low: float
    high: float


class Bench:
    """A classifier and the views of a data set, for interventions on them.

    Args:
        classifier: the model.
        dataset: the images.
    """

    def __init__(self, classifier: Classifier, dataset: DataSet):
        self.classifier, self.dataset = classifier, dataset
        self._views: LRUCache[np.ndarray] = LRUCache(4096, _VIEW_BYTES)

    def views(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the views of some images, `(n, S, S, channels)`; rows may repeat.

        Raises:
            DataError: one of them cannot be read any more.
        """
        held, faults = self._read(rows)
        if faults:
            raise DataError(f"{faults[0]}: it was readable when the audit began; start the audit again.")
        return np.stack([held[row] for row in np.asarray(rows).tolist()])

    def readable(self, rows: np.ndarray) -> np.ndarray:
        """Return those of some images, `(n,)`, that can be read."""
        held, _ = self._read(rows)
        return np.array([row for row in rows.tolist() if row in held], np.int64)

    def _read(self, rows: Sequence[int] | np.ndarray) -> tuple[dict[int, np.ndarray], list[Any]]:
        """Return the views of the images that can be read, by row, and what is wrong with the others."""
        wanted = np.unique(rows)
        held = {row: view for row in wanted.tolist() if (view := self._views.peek(row)) is not None}
        missing = np.array([row for row in wanted.tolist() if row not in held], np.int64)
        wrong: list[Any] = []
        if len(missing):
            for _, read, views, faults in read_batches(
                self.classifier, self.dataset.subset(missing, self.dataset.split)
            ):
                wrong += faults
                for row, view in zip(missing[read].tolist(), views, strict=True):
                    held[row] = view
                    self._views.put(row, view)
        return held, wrong

    def probabilities(self, views: np.ndarray) -> np.ndarray:
        """Return the class probabilities of views, `(n, classes)` float32. The lock is held for one batch at a time."""
        rows = []
        step = batch_size(self.classifier.device, self.classifier.image_size)
        for start in range(0, len(views), step):
            batch = self.classifier.tensor(views[start : start + step])
            with self.classifier.lock, self.classifier.many_images():
                rows.append(self.classifier.probabilities(self.classifier.logits_model(batch)).cpu().numpy())
        return np.concatenate(rows)


def flips(
    bench: Bench,
    donors: np.ndarray,
    recipients: np.ndarray,
    group: int,
    intervention: Intervention,
    control: bool = False,
) -> np.ndarray:
    """Insert what an intervention stands for into recipients; return which become the class, `(n,)` bool.

    Args:
        bench: model and images.
        donors, recipients: indices of images, `(n,)` each.
        group: the class.
        intervention: the region, content or statistic.
        control: insert its matched control instead.
    """
    becomes = []
    for part in _parts(bench, len(donors)):
        given, views = bench.views(donors[part]), bench.views(recipients[part])
        changed = intervention.insert(given, views, donors[part], recipients[part], control)
        becomes.append(bench.probabilities(changed).argmax(1) == group)
    return np.concatenate(becomes)


def drops(bench: Bench, rows: np.ndarray, group: int, intervention: Intervention, control: bool = False) -> np.ndarray:
    """Remove what an intervention stands for from images; return how far p(class) falls, `(n,)` float64.

    Args:
        bench: model and images.
        rows: indices of images, `(n,)`.
        group: the class.
        intervention: the region, content or statistic.
        control: remove its matched control instead.
    """
    return chances(bench, rows, group) - chances(bench, rows, group, intervention, control)


def chances(
    bench: Bench, rows: np.ndarray, group: int, removed: Intervention | None = None, control: bool = False
) -> np.ndarray:
    """Return p(class) of images, `(n,)` float64, as they are or without what an intervention stands for.

    Args:
        bench: model and images.
        rows: indices of images, `(n,)`.
        group: the class.
        removed: the region, content or statistic to remove; None for the images as they are.
        control: remove its matched control instead.
    """
    values = []
    for part in _parts(bench, len(rows)):
        views = bench.views(rows[part])
        if removed is not None:
            views = removed.remove(views, rows[part], control)
        values.append(bench.probabilities(views)[:, group].astype(np.float64))
    return np.concatenate(values)


def _parts(bench: Bench, count: int) -> Iterator[slice]:
    step = batch_size(bench.classifier.device, bench.classifier.image_size)
    return (slice(start, start + step) for start in range(0, count, step))


def bootstrap(values: np.ndarray, error: float = 0.05, seed: int = 0) -> Estimate:
    """Return the mean of `(n,)` values with its percentile interval; `error` is the chance to miss the true mean.

    So many samples tell nothing about an error that is much smaller than one of them. There the interval is at least
    that of a mean with normal error.
    """
    values = np.asarray(values, np.float64)
    random = np.random.default_rng(seed)
    means = np.concatenate(
        [values[random.integers(0, len(values), (1000, len(values)))].mean(1) for _ in range(RESAMPLES // 1000)]
    )
    mean = float(values.mean())
    low, high = (float(end) for end in np.quantile(means, [error / 2, 1 - error / 2]))
    if error / 2 * RESAMPLES < LEAST_SAMPLES:
        margin = NormalDist().inv_cdf(1 - error / 2) * float(means.std())
        low, high = min(low, mean - margin), max(high, mean + margin)
    return Estimate(mean, low, high)
