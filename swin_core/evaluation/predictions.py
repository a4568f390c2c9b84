"""A model's predictions for every image of a split, cached on disk.

The name of a cache file is a digest of the weights, the preprocessing and the images, so that an outdated file is never
read. A few numbers per image are enough for all that the Browse page shows: errors, confidence, the five likeliest
classes, loss, confusion, and accuracy per class.
"""

import hashlib
import json
import logging
import os
import weakref
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from swin_core.class_names import match_classes
from swin_core.data.dataset import DataSet, user_folder
from swin_core.errors import ConfigError, DataError
from swin_core.evaluation.metrics import TOP, Metrics, score_batch
from swin_core.evaluation.views import read_batches
from swin_core.system.atomic import atomic_write
from swin_core.system.kept_files import remove_oldest
from swin_core.system.progress import Progress
from swin_core.zoo.classifier import Classifier

log = logging.getLogger(__name__)

MAX_FILES, MAX_BYTES = 64, 256 * 2**20
"""Limits of the cache; the files that were not read for longest are removed first."""

_FORMAT = 1
_digests: "weakref.WeakKeyDictionary[DataSet, str]" = weakref.WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class Predictions:
    """A model's predictions for the N images of a split. Classes are the model's, by index.

    Attributes:
        labels: the model's class names.
        truth: true classes, `(N,)` int64; -1 where the model does not know the class.
        predicted: likeliest classes, `(N,)` int64; -1 for an image that cannot be read.
        top: the k likeliest classes, best first, `(N, k)` int64; k is 5, or the number of classes if smaller.
        probabilities: probabilities of `top`, `(N, k)` float32.
        loss: cross-entropies in nats, `(N,)` float32; NaN where the true class is unknown.
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
        """Probability of the likeliest class, `(N,)` float32; NaN for an image that cannot be read."""
        return self.probabilities[:, 0]

    @property
    def counted(self) -> np.ndarray:
        """Mask `(N,)` of the images that count in the metrics: readable, and of a class that the model knows."""
        return (self.truth >= 0) & (self.predicted >= 0)

    @property
    def right(self) -> np.ndarray:
        """Mask `(N,)` of the images whose likeliest class is the true one."""
        return self.counted & (self.predicted == self.truth)

    def metrics(self) -> Metrics:
        """Return the metrics over the images that count.

        Raises:
            DataError: no image counts.
        """
        counted = self.counted
        if not counted.any():
            raise DataError("the model knows no class of these images; choose another model or data set.")
        return Metrics.of(
            self.truth[counted], self.predicted[counted], self.top[counted], self.loss[counted], len(self.labels)
        )


def cached_predictions(
    classifier: Classifier,
    dataset: DataSet,
    root: Path | None = None,
    progress: Progress | None = None,
    variant: str = "",
) -> Predictions:
    """Return a model's predictions for a split: from disk if they are cached there, else computed and cached.

    A damaged file is computed again. If the disk cannot be written, the result is not cached.

    Args:
        classifier: the model.
        dataset: the images.
        root: folder of the cache; `cache_root()` if None.
        progress: called with the number of images done and their total; an error that it raises ends the computation,
            and nothing is cached.
        variant: what `dataset.read` changes in the images, which the cache cannot see; empty for nothing.
    """
    file = cache_file(classifier, dataset, root, variant)
    predictions = read_cached(file, classifier, dataset)
    if predictions is None:
        predictions = predict(classifier, dataset, progress)
        try:
            _write_cached(predictions, file)
        except OSError as error:
            log.warning("predictions are not cached: %s cannot be written (%s)", file, error)
    return predictions


def predict(classifier: Classifier, dataset: DataSet, progress: Progress | None = None) -> Predictions:
    """Compute a model's predictions for a split, with its own preprocessing.

    The model's lock is held for one batch at a time, so that other threads can use the model in between. An image that
    cannot be read has no prediction.

    Args:
        classifier: the model.
        dataset: the images.
        progress: called with the number of images done and their total.

    Raises:
        ConfigError: the model is a regression.
    """
    if classifier.activation == "none":
        raise ConfigError(f"{classifier.name} is a regression and predicts no class; choose a classifier.")
    truth, count = true_classes(classifier, dataset), len(dataset)
    kept = min(TOP, classifier.num_classes)
    predicted, top = np.full(count, -1, np.int64), np.full((count, kept), -1, np.int64)
    probabilities, loss = np.full((count, kept), np.nan, np.float32), np.full(count, np.nan, np.float32)
    for done, rows, views, _ in read_batches(classifier, dataset):
        if len(rows):
            labels = torch.tensor(truth[rows], device=classifier.device)
            with classifier.lock:
                scores = score_batch(
                    classifier.logits_model,
                    classifier.tensor(views),
                    labels,
                    classifier.activation,
                    classifier.uses_bfloat16,
                )
            predicted[rows] = scores.predicted.cpu().numpy()
            top[rows] = scores.top.cpu().numpy()
            probabilities[rows] = scores.probabilities.cpu().numpy()
            loss[rows] = np.where(truth[rows] < 0, np.nan, scores.loss.cpu().numpy())
        if progress is not None:
            progress(done, count)
    return Predictions(classifier.labels, truth, predicted, top, probabilities, loss)


def true_classes(classifier: Classifier, dataset: DataSet) -> np.ndarray:
    """Return the model's index of each image's true class, `(N,)` int64; -1 where the model does not know it."""
    matches = match_classes(dataset.classes, classifier.labels)
    # The last one is for images without labels, whose label is -1.
    return np.array([*(-1 if match is None else match for match in matches), -1], np.int64)[dataset.labels]


def cache_root() -> Path:
    """Return the folder of caches: `SWIN_CACHE_ROOT`, else `swinlens` in the user's cache folder."""
    return user_folder("SWIN_CACHE_ROOT")


def data_state(dataset: DataSet) -> str:
    """Return a digest of names, labels and images; of an image file, its size and time stand for its bytes."""
    digest = _digests.get(dataset)
    if digest is None:
        hashed = hashlib.sha256(json.dumps([dataset.classes, dataset.names]).encode())
        hashed.update(dataset.labels.tobytes())
        for source in dataset.sources:
            if not isinstance(source, Path):
                hashed.update(source if isinstance(source, bytes) else np.ascontiguousarray(source).data)
        digest = _digests[dataset] = hashed.hexdigest()
    # A file may have been written since the last call.
    files = [source for source in dataset.sources if isinstance(source, Path)]
    return hashlib.sha256(json.dumps([digest, list(map(_size_and_time, files))]).encode()).hexdigest()


def _size_and_time(file: Path) -> tuple[int, int]:
    try:
        status = os.stat(file)
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def cache_file(classifier: Classifier, dataset: DataSet, root: Path | None = None, variant: str = "") -> Path:
    """Return the file for a model's predictions for a split; its name is a digest of all that they depend on."""
    preprocessing = [classifier.mean, classifier.std, classifier.image_size, classifier.crop_fraction]
    preprocessing += [classifier.interpolation, classifier.squash, classifier.activation]
    state = [_FORMAT, classifier.weights_hash, classifier.labels, preprocessing, data_state(dataset)]
    state += [variant] if variant else []
    state += ["bfloat16"] if classifier.uses_bfloat16 else []
    digest = hashlib.sha256(json.dumps(state).encode()).hexdigest()
    return (root or cache_root()) / "predictions" / f"{digest[:40]}.npz"


def read_cached(file: Path, classifier: Classifier, dataset: DataSet) -> Predictions | None:
    """Read predictions from a cache file; None if it is missing or damaged."""
    count, classes = len(dataset), classifier.num_classes
    kept = min(TOP, classes)
    try:
        with np.load(file, allow_pickle=False) as content:
            columns = {name: content[name] for name in ("predicted", "top", "probabilities", "loss")}
        os.utime(file)  # mark it as read
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        log.warning("%s is damaged and is computed again (%s)", file, error)
        return None
    shapes = {"predicted": (count,), "top": (count, kept), "probabilities": (count, kept), "loss": (count,)}
    types = {"predicted": np.int64, "top": np.int64, "probabilities": np.float32, "loss": np.float32}
    fits = all(columns[name].shape == shapes[name] and columns[name].dtype == types[name] for name in shapes)
    if not fits or any(((columns[name] < -1) | (columns[name] >= classes)).any() for name in ("predicted", "top")):
        log.warning("%s has the wrong shape or classes and is computed again", file)
        return None
    return Predictions(classifier.labels, true_classes(classifier, dataset), **columns)


def _write_cached(predictions: Predictions, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    columns = {name: getattr(predictions, name) for name in ("predicted", "top", "probabilities", "loss")}
    with atomic_write(file) as stream:
        np.savez(stream, **columns)
    remove_oldest(file.parent, MAX_FILES, MAX_BYTES)
