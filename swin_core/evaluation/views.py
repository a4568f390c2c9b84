"""The images of a data set as a classifier sees them, in the batches of an evaluation."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from swin_core.data.dataset import DECODING_THREADS, DataSet
from swin_core.errors import DataError
from swin_core.evaluation.metrics import batch_size
from swin_core.system.distributed import SINGLE, Ranks
from swin_core.zoo.classifier import Classifier


def read_batches(
    classifier: Classifier, dataset: DataSet, ranks: Ranks = SINGLE, skip_unreadable: bool = False
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield this rank's batches: number of images up to the batch's end, rows `(B,)`, views `(B, S, S, channels)`.

    Args:
        classifier: the classifier, with its preprocessing.
        dataset: the images.
        ranks: the ranks that share the batches.
        skip_unreadable: leave images that cannot be read out of `rows` and `views`.

    Raises:
        DataError: an image cannot be read.
    """
    count, step = len(dataset), batch_size(classifier.device)
    starts = range(ranks.rank * step, count, ranks.size * step)

    def read(start: int) -> tuple[np.ndarray, np.ndarray]:
        return _read(classifier, dataset, np.arange(start, min(start + step, count)), skip_unreadable)

    ahead = _read_ahead(classifier)
    with ThreadPoolExecutor(max(1, ahead)) as pool:
        pending = [pool.submit(read, start) for start in starts[:ahead]]
        try:
            for number, start in enumerate(starts):
                rows, views = pending.pop(0).result() if pending else read(start)
                if ahead and number + ahead < len(starts):
                    pending.append(pool.submit(read, starts[number + ahead]))
                yield min(start + step, count), rows, views
        finally:
            for future in pending:
                future.cancel()


def _read_ahead(classifier: Classifier) -> int:
    """Return how many batches to read ahead: none on a CPU, where decoding would compete with the model for cores."""
    return 0 if classifier.device.type == "cpu" else 2


def _read(
    classifier: Classifier, dataset: DataSet, rows: np.ndarray, skip_unreadable: bool
) -> tuple[np.ndarray, np.ndarray]:
    size = classifier.image_size
    # With this preprocessing, views are what training validates on, which a data set decodes in several threads.
    as_training = classifier.crop_fraction == 1 and classifier.interpolation == "bicubic" and not classifier.squash
    if as_training:
        try:
            return rows, dataset.subset(rows, dataset.split).array(size)
        except DataError:
            if not skip_unreadable:
                raise

    def view(row: int) -> np.ndarray | None:
        try:
            if as_training:
                return dataset.subset([row], dataset.split).array(size)[0]
            return classifier.view(dataset.image(row))
        except DataError:
            if not skip_unreadable:
                raise
            return None

    with ThreadPoolExecutor(DECODING_THREADS) as pool:
        decoded = list(pool.map(view, rows.tolist()))
    views = [view for view in decoded if view is not None]
    readable = [index for index, view in enumerate(decoded) if view is not None]
    return rows[readable], np.stack(views) if views else np.zeros((0, size, size, 3), np.uint8)
