"""The images of a data set as a classifier sees them, in the batches of an evaluation."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from swin_core.data.dataset import DECODING_THREADS, DataSet, SkippedFile
from swin_core.errors import DataError
from swin_core.evaluation.metrics import batch_size
from swin_core.system.distributed import SINGLE, Ranks
from swin_core.zoo.classifier import Classifier


class Batch(NamedTuple):
    """Images of a data set that were read."""

    done: int
    """Number of images of the data set up to the batch's end."""
    rows: np.ndarray
    """Indices of the images that can be read, `(B,)` int64."""
    views: np.ndarray
    """`(B, S, S, channels)`."""
    unreadable: list[SkippedFile]
    """The other images of the batch."""


def read_batches(
    classifier: Classifier, dataset: DataSet, ranks: Ranks = SINGLE, size: int | None = None
) -> Iterator[Batch]:
    """Yield this rank's batches.

    Args:
        classifier: the classifier, with its preprocessing.
        dataset: the images.
        ranks: the ranks that share the batches.
        size: images in a batch; None for that of all evaluations.
    """
    count, step = len(dataset), size or batch_size(classifier.device, classifier.image_size)
    starts = range(ranks.rank * step, count, ranks.size * step)

    def read(start: int) -> Batch:
        return _read(classifier, dataset, np.arange(start, min(start + step, count)))

    ahead = _read_ahead(classifier)
    with ThreadPoolExecutor(max(1, ahead)) as pool:
        pending = [pool.submit(read, start) for start in starts[:ahead]]
        try:
            for number, start in enumerate(starts):
                batch = pending.pop(0).result() if pending else read(start)
                if ahead and number + ahead < len(starts):
                    pending.append(pool.submit(read, starts[number + ahead]))
                yield batch
        finally:
            for future in pending:
                future.cancel()


def _read_ahead(classifier: Classifier) -> int:
    """Return how many batches to read ahead: none on a CPU, where decoding would compete with the model for cores."""
    return 0 if classifier.device.type == "cpu" else 2


def _read(classifier: Classifier, dataset: DataSet, rows: np.ndarray) -> Batch:
    size = classifier.image_size

    def view(row: int) -> np.ndarray | DataError:
        try:
            return classifier.view(dataset.image(row))
        except DataError as error:
            return error

    # With this preprocessing, views are what training validates on, which a data set decodes in several threads.
    if classifier.crop_fraction == 1 and classifier.interpolation == "bicubic" and not classifier.squash:
        decoded = dataset.subset(rows, dataset.split).rows(size)
    else:
        with ThreadPoolExecutor(DECODING_THREADS) as pool:
            decoded = list(pool.map(view, rows.tolist()))
    views = [view for view in decoded if isinstance(view, np.ndarray)]
    readable = [index for index, view in enumerate(decoded) if isinstance(view, np.ndarray)]
    unreadable = [
        dataset.why_unreadable(int(row), view)
        for row, view in zip(rows, decoded, strict=True)
        if isinstance(view, DataError)
    ]
    stacked = np.stack(views) if views else np.zeros((0, size, size, 3), np.uint8)
    return Batch(int(rows[-1]) + 1, rows[readable], stacked, unreadable)
