"""What a model predicts for every image of a split: computed once, kept on disk, and read from there after that.

A file belongs to one state of the weights, the preprocessing and the images: its name is a digest of them, so that
nothing that is out of date is ever read. Of each image a few numbers are kept, from which everything follows that a
page shows: right and wrong, confidence, the first five, loss, confusion, and accuracy by class.
"""

import hashlib
import json
import logging
import os
import weakref
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from swin_core.class_names import match_classes
from swin_core.data.dataset import DataSet
from swin_core.errors import DataError
from swin_core.evaluation.accuracy import sees_like_training
from swin_core.evaluation.metrics import BATCH_SIZE, TOP5_FROM, Metrics
from swin_core.models.modes import evaluation_mode
from swin_core.system.atomic import atomic_write
from swin_core.zoo.classifier import Classifier

__all__ = ["Predictions", "cache_file", "cache_root", "data_state", "predict", "predictions", "read_cached"]

log = logging.getLogger(__name__)

TOP = 5
FILES_AT_MOST, BYTES_AT_MOST = 64, 256 * 2**20
"""Of all files that are kept; those that were not read for longest go first."""

_FORMAT = 1
_THREADS = min(4, os.cpu_count() or 1)
_digests: "weakref.WeakKeyDictionary[DataSet, str]" = weakref.WeakKeyDictionary()

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model predicts for the N images of a split. Classes are the model's, by index.

    Attributes:
        labels: the model's class names.
        truth: `(N,)` int64, the right class; -1 where the model does not know it.
        predicted: `(N,)` int64, the likeliest class; -1 for an image that cannot be read.
        top: `(N, k)` int64, the k likeliest classes, best first; k is 5, or the number of classes if that is less.
        probabilities: `(N, k)` float32, theirs.
        loss: `(N,)` float32, cross-entropy in nats; NaN where it is not known what is right.
    """

    labels: tuple[str, ...]
    truth: np.ndarray
    predicted: np.ndarray
    top: np.ndarray
    probabilities: np.ndarray
    loss: np.ndarray

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def confidence(self) -> np.ndarray:
        """`(N,)` float32, the probability of the likeliest class; NaN for an image that cannot be read."""
        return self.probabilities[:, 0]

    @property
    def counted(self) -> np.ndarray:
        """`(N,)` bool: images of which it can be said whether the model is right."""
        return (self.truth >= 0) & (self.predicted >= 0)

    @property
    def right(self) -> np.ndarray:
        """`(N,)` bool: images whose likeliest class is the right one."""
        return self.counted & (self.predicted == self.truth)

    def metrics(self) -> Metrics:
        """Loss, top-1, top-5 and the confusion matrix of the images that can be judged.

        Raises:
            DataError: there is none.
        """
        judged = self.counted
        count = int(judged.sum())
        if not count:
            raise DataError("the model knows no class of these images; choose another model or data set.")
        classes = len(self.labels)
        cells = self.truth[judged] * classes + self.predicted[judged]
        among_five = (self.top[judged] == self.truth[judged, None]).any(1)
        return Metrics(
            count,
            float(self.loss[judged].sum(dtype=np.float64) / count),
            float(self.right.sum() / count),
            float(among_five.sum() / count) if classes >= TOP5_FROM else None,
            np.bincount(cells, minlength=classes**2).reshape(classes, classes),
        )


def predictions(
    classifier: Classifier, dataset: DataSet, root: Path | None = None, progress: Progress | None = None
) -> Predictions:
    """What a model predicts for a split: from disk where that is kept, else computed and kept.

    A file that is damaged is computed anew. A disk that cannot be written costs time, and nothing else.

    Args:
        classifier: the model.
        dataset: the images.
        root: folder of the kept files; `cache_root()` if None.
        progress: called with the images done and their number; what it raises ends the computation, and nothing is
            kept.
    """
    file = cache_file(classifier, dataset, root)
    found = read_cached(file, classifier, dataset)
    if found is None:
        found = predict(classifier, dataset, progress)
        try:
            _keep(found, file)
        except OSError as error:
            log.warning("predictions are not kept: %s cannot be written (%s)", file, error)
    return found


def predict(classifier: Classifier, dataset: DataSet, progress: Progress | None = None) -> Predictions:
    """What a model predicts for a split, through its own preprocessing, as `accuracy.evaluate_classifier` does it.

    The model's lock is taken for one batch at a time, so that others can explain with it meanwhile. An image that
    cannot be read has no prediction.

    Args:
        classifier: the model.
        dataset: the images.
        progress: called with the images done and their number.
    """
    truth = _truth(classifier, dataset)
    kept, count = min(TOP, classifier.num_classes), len(dataset)
    found = Predictions(
        classifier.labels,
        truth,
        np.full(count, -1, np.int64),
        np.full((count, kept), -1, np.int64),
        np.full((count, kept), np.nan, np.float32),
        np.full(count, np.nan, np.float32),
    )
    for stop, rows, views in _batches(classifier, dataset):
        if len(rows):
            _fill(found, classifier, rows, views)
        if progress is not None:
            progress(stop, count)
    return found


def _truth(classifier: Classifier, dataset: DataSet) -> np.ndarray:
    places = match_classes(dataset.classes, classifier.labels)
    return np.array([-1 if place is None else place for place in places], np.int64)[dataset.labels]


def _fill(found: Predictions, classifier: Classifier, rows: np.ndarray, views: np.ndarray) -> None:
    """Predict one batch: views `(B, S, S, channels)` of the images in some rows."""
    truth = found.truth[rows]
    # Any class serves in place of one that the model does not know: that loss is taken out again.
    right = torch.tensor(np.maximum(truth, 0), device=classifier.device)
    with classifier.lock, evaluation_mode(classifier.model), torch.inference_mode():
        logits = classifier.model(classifier.tensor(views)).float()
        losses = F.cross_entropy(logits, right, reduction="none")
        best = logits.topk(found.top.shape[1]).indices
        probabilities = logits.softmax(-1).gather(1, best)
        # Not the first of the five: of equal logits these two may choose another one.
        predicted = logits.argmax(1)
    found.predicted[rows] = predicted.cpu().numpy()
    found.top[rows] = best.cpu().numpy()
    found.probabilities[rows] = probabilities.cpu().numpy()
    found.loss[rows] = np.where(truth < 0, np.nan, losses.cpu().numpy())


def _batches(classifier: Classifier, dataset: DataSet) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """The views of all images: where the batch ends, the rows that could be read, `(B, S, S, channels)`.

    The batches are those of an evaluation: the last bit of a sum depends on how many images are computed at once.
    """
    starts = range(0, len(dataset), BATCH_SIZE)

    def read(start: int) -> tuple[np.ndarray, np.ndarray]:
        return _views(classifier, dataset, np.arange(start, min(start + BATCH_SIZE, len(dataset))))

    ahead = _ahead(classifier)
    with ThreadPoolExecutor(max(1, ahead)) as pool:
        coming = [pool.submit(read, start) for start in starts[:ahead]]
        try:
            for number, start in enumerate(starts):
                rows, views = coming.pop(0).result() if coming else read(start)
                if ahead and number + ahead < len(starts):
                    coming.append(pool.submit(read, starts[number + ahead]))
                yield min(start + BATCH_SIZE, len(dataset)), rows, views
        finally:
            for reading in coming:
                reading.cancel()


def _ahead(classifier: Classifier) -> int:
    """Batches that are read ahead: none on a CPU, where decoding would take the cores from what computes."""
    return 0 if classifier.device.type == "cpu" else 2


def _views(classifier: Classifier, dataset: DataSet, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the model sees of the images in some rows, and the rows of those that can be read."""
    if sees_like_training(classifier):
        # If one image is broken, all are read once more, one by one.
        with suppress(DataError):
            return rows, dataset.subset(rows, dataset.split).array(classifier.image_size)

    def one(row: int) -> np.ndarray | None:
        try:
            return _view(classifier, dataset, row)
        except DataError:
            return None

    with ThreadPoolExecutor(_THREADS) as pool:
        views = list(pool.map(one, rows.tolist()))
    there = [place for place, view in enumerate(views) if view is not None]
    size = classifier.image_size
    read = [view for view in views if view is not None]
    return rows[there], np.stack(read) if read else np.zeros((0, size, size, 3), np.uint8)


def _view(classifier: Classifier, dataset: DataSet, row: int) -> np.ndarray:
    if sees_like_training(classifier):
        return dataset.subset([row], dataset.split).array(classifier.image_size)[0]
    return classifier.view(dataset.image(row))


def cache_root() -> Path:
    """The folder of what can be computed anew: `SWIN_CACHE_ROOT`, else `swinlens` in the user's cache."""
    if named := os.environ.get("SWIN_CACHE_ROOT"):
        return Path(named).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "swinlens"


def data_state(dataset: DataSet) -> str:
    """A digest of names, labels and images; of images in files, of their sizes and times instead of their bytes."""
    digest = _digests.get(dataset)
    if digest is None:
        hashed = hashlib.sha256(json.dumps([dataset.classes, dataset.names]).encode())
        hashed.update(dataset.labels.tobytes())
        for source in dataset.sources:
            if not isinstance(source, Path):
                hashed.update(source if isinstance(source, bytes) else np.ascontiguousarray(source).data)
        digest = _digests[dataset] = hashed.hexdigest()
    # A file may have been written anew since.
    files = [source for source in dataset.sources if isinstance(source, Path)]
    return hashlib.sha256(json.dumps([digest, list(map(_stamp, files))]).encode()).hexdigest()


def _stamp(file: Path) -> tuple[int, int]:
    try:
        seen = os.stat(file)
    except OSError:
        return 0, 0
    return seen.st_size, seen.st_mtime_ns


def cache_file(classifier: Classifier, dataset: DataSet, root: Path | None = None) -> Path:
    """Where the predictions of a model for a split are kept; the name says what they depend on."""
    seen = [classifier.mean, classifier.std, classifier.image_size, classifier.crop_fraction]
    seen += [classifier.interpolation, classifier.squash]
    what = [_FORMAT, classifier.weights_hash, classifier.labels, seen, data_state(dataset)]
    digest = hashlib.sha256(json.dumps(what).encode()).hexdigest()
    return (root or cache_root()) / "predictions" / f"{digest[:40]}.npz"


def read_cached(file: Path, classifier: Classifier, dataset: DataSet) -> Predictions | None:
    """Predictions from disk; None if there is no such file, or it is damaged."""
    truth, count, classes = _truth(classifier, dataset), len(dataset), classifier.num_classes
    kept = min(TOP, classes)
    try:
        with np.load(file, allow_pickle=False) as content:
            columns = {name: content[name] for name in ("predicted", "top", "probabilities", "loss")}
        os.utime(file)  # read now: it goes last
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        log.warning("%s is damaged and is computed anew (%s)", file, error)
        return None
    shapes = {"predicted": (count,), "top": (count, kept), "probabilities": (count, kept), "loss": (count,)}
    kinds = {"predicted": np.int64, "top": np.int64, "probabilities": np.float32, "loss": np.float32}
    fits = all(columns[name].shape == shapes[name] and columns[name].dtype == kinds[name] for name in shapes)
    if not fits or any(((columns[name] < -1) | (columns[name] >= classes)).any() for name in ("predicted", "top")):
        log.warning("%s holds other predictions than it should, and is computed anew", file)
        return None
    return Predictions(classifier.labels, truth, **columns)


def _keep(found: Predictions, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(file) as stream:
        np.savez(
            stream,
            predicted=found.predicted,
            top=found.top,
            probabilities=found.probabilities,
            loss=found.loss,
        )
    _make_room(file.parent)


def _make_room(folder: Path) -> None:
    """Remove the files that were not read for longest, until count and size are within their bounds."""
    files = []
    for file in folder.glob("*.npz"):
        with suppress(OSError):  # another program makes room too
            seen = file.stat()
            files.append((seen.st_mtime_ns, seen.st_size, file))
    total = 0
    for number, (_, size, file) in enumerate(sorted(files, reverse=True)):
        total += size
        if number and (number >= FILES_AT_MOST or total > BYTES_AT_MOST):
            with suppress(OSError):
                file.unlink()
