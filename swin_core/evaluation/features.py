"""A classifier's features and logits for all images of a split, and the nearest images in feature space.

Features are what the classifier's last linear layer reads, pooled over the image. They are kept on disk beside the
predictions, in parts: a computation that was stopped goes on from there.
"""

import hashlib
import logging
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from swin_core.data.dataset import DataSet
from swin_core.errors import LayerError
from swin_core.evaluation.predictions import cache_file, cache_root
from swin_core.evaluation.views import read_batches
from swin_core.models.modes import watch_inputs, watch_outputs
from swin_core.system.atomic import atomic_write
from swin_core.system.kept_files import remove_oldest
from swin_core.system.progress import Progress, counter
from swin_core.zoo.classifier import Classifier

log = logging.getLogger(__name__)

CHUNK = 1024
"""Images in one file of the cache."""
MAX_FILES, MAX_BYTES = 2048, 2**30
"""Limits of the cache; the files that were not read for longest are removed first."""

_FORMAT = 1


def cached_features(
    classifier: Classifier, dataset: DataSet, root: Path | None = None, progress: Progress | None = None
) -> np.ndarray:
    """Return the features of all images: from disk if they are cached there, else computed and cached.

    The model's lock is held for one batch at a time.

    Args:
        classifier: the model.
        dataset: the images.
        root: folder of the cache; `cache_root()` if None.
        progress: called with the number of images done and their total; an error that it raises ends the computation,
            and the parts that are finished stay cached.

    Returns:
        `(N, D)` float32; NaN for an image that cannot be read.

    Raises:
        LayerError: the model has no linear layer before its logits.
    """
    return _column("features", classifier, dataset, root, progress)


def cached_logits(
    classifier: Classifier, dataset: DataSet, root: Path | None = None, progress: Progress | None = None
) -> np.ndarray:
    """Return the logits of all images, `(N, classes)` float32, from the same cache as `cached_features`.

    Arguments, NaN and errors are as there.
    """
    return _column("logits", classifier, dataset, root, progress)


def has_features(classifier: Classifier, dataset: DataSet, root: Path | None = None) -> bool:
    """Return whether the features of all images are on disk."""
    return all(file.is_file() for file, _ in _parts(classifier, dataset, root))


def has_any_features(root: Path | None = None) -> bool:
    """Return whether features of any images are on disk."""
    try:
        return any((root or cache_root()).joinpath("features").iterdir())
    except OSError:
        return False


def image_features(classifier: Classifier, images: Sequence[Image.Image]) -> np.ndarray:
    """Return the features of some images, `(n, D)` float32.

    Raises:
        LayerError: the model has no linear layer before its logits.
    """
    head = find_head(classifier)
    return np.concatenate([_run(classifier, head, classifier.view(image)[None])[0] for image in images])


def nearest(features: np.ndarray, query: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the images whose features are nearest to a query by cosine distance: 0 is the same direction, 2 opposite.

    Args:
        features: `(N, D)`; rows with NaN are left out.
        query: `(D,)`.
        count: number of images; fewer are returned if there are not as many.

    Returns:
        Indices `(n,)` int64, nearest first, and distances `(n,)` float32.
    """
    lengths = np.linalg.norm(features, axis=1) * np.linalg.norm(query)
    distances = 1 - (features @ query) / np.maximum(lengths, np.finfo(np.float32).tiny)
    order = np.argsort(distances, kind="stable")[: min(count, int(np.isfinite(distances).sum()))]  # NaN comes last
    return order, distances[order].astype(np.float32)


def find_head(classifier: Classifier) -> nn.Module:
    """Return the last layer with a weight matrix that has an output for each class.

    Raises:
        LayerError: there is none, as in a model whose last step is not a layer.
    """
    single = getattr(classifier.logits_model, "pair", False)
    outputs = 1 if single else classifier.num_classes
    layers = {
        name: module
        for name, module in classifier.model.named_modules()
        if isinstance(weight := getattr(module, "weight", None), Tensor) and weight.dim() > 1 and len(weight) == outputs
    }
    called: list[str] = []
    size = classifier.image_size
    blank = torch.zeros(1, len(classifier.mean), size, size, device=classifier.device, dtype=classifier.dtype)
    watch = watch_outputs(layers, lambda name, _: called.append(name))
    with classifier.lock, watch, classifier.many_images():
        classifier.logits_model(blank)
    if not called:
        raise LayerError(
            f"{classifier.name} has no linear layer before its logits, so it has no features; choose another model."
        )
    return layers[called[-1]]


def _column(
    name: str, classifier: Classifier, dataset: DataSet, root: Path | None, progress: Progress | None
) -> np.ndarray:
    tick = counter(progress, len(dataset))
    head: nn.Module | None = None
    parts = []
    for file, rows in _parts(classifier, dataset, root):
        part = _read(file, name, len(rows))
        if part is None:
            head = head or find_head(classifier)
            columns = _compute(classifier, head, dataset.subset(rows, dataset.split), tick)
            part = columns[name]
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                with atomic_write(file) as stream:
                    np.savez(stream, features=columns["features"], logits=columns["logits"])
            except OSError as error:
                log.warning("features are not cached: %s cannot be written (%s)", file, error)
            remove_oldest(file.parent, MAX_FILES, MAX_BYTES)
        else:
            tick(len(rows))
        parts.append(part)
    width = max((part.shape[1] for part in parts), default=0)  # a part without a readable image has no width
    result = np.full((len(dataset), width), np.nan, np.float32)
    for part, start in zip(parts, range(0, len(dataset), CHUNK), strict=True):
        if part.shape[1]:
            result[start : start + len(part)] = part
    return result


def _parts(classifier: Classifier, dataset: DataSet, root: Path | None) -> Iterator[tuple[Path, np.ndarray]]:
    """Yield the cache file of each part, and its rows. The names are digests of all that the features depend on."""
    state = f"{_FORMAT} {cache_file(classifier, dataset).stem}"
    digest = hashlib.sha256(state.encode()).hexdigest()[:40]
    for start in range(0, len(dataset), CHUNK):
        file = (root or cache_root()) / "features" / f"{digest}-{start:08d}.npz"
        yield file, np.arange(start, min(start + CHUNK, len(dataset)))


def _compute(
    classifier: Classifier, head: nn.Module, dataset: DataSet, tick: Callable[[int], None]
) -> dict[str, np.ndarray]:
    columns: tuple[np.ndarray, ...] = ()
    before = 0
    for done, rows, views, _ in read_batches(classifier, dataset):
        if len(rows):
            values = _run(classifier, head, views)
            columns = columns or tuple(np.full((len(dataset), each.shape[1]), np.nan, np.float32) for each in values)
            for column, each in zip(columns, values, strict=True):
                column[rows] = each
        tick(done - before)
        before = done
    columns = columns or (np.zeros((len(dataset), 0), np.float32),) * 2
    return dict(zip(("features", "logits"), columns, strict=True))


def _run(classifier: Classifier, head: nn.Module, views: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return features `(B, D)` and logits `(B, classes)` of views."""
    inputs: list[Tensor] = []
    watch = watch_inputs({"head": head}, lambda _, value: inputs.append(value))
    with classifier.lock, watch, classifier.many_images():
        logits = classifier.logits_model(classifier.tensor(views)).float()
    features = inputs[-1].float()
    # A convolution reads (B, D, h, w), a linear layer (B, ..., D).
    features = features.flatten(2).mean(2) if isinstance(head, nn.Conv2d) else features
    features = features.reshape(len(views), -1, features.shape[-1]).mean(1)
    return features.cpu().numpy(), logits.cpu().numpy()


def _read(file: Path, name: str, count: int) -> np.ndarray | None:
    """Read a column of a part from the cache; None if it is missing or damaged."""
    try:
        with np.load(file, allow_pickle=False) as content:
            values = content[name]
        os.utime(file)  # mark it as read
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        log.warning("%s is damaged and is computed again (%s)", file, error)
        return None
    if values.ndim != 2 or len(values) != count or values.dtype != np.float32:
        log.warning("%s has the wrong shape and is computed again", file)
        return None
    return values
