"""Which images a model was trained on, as far as its weights file records it."""

import hashlib
import os
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from swin_core.data.dataset import DataSet, data_root, limited
from swin_core.data.registry import DATA_SETS, HOLDOUT, splits
from swin_core.errors import SwinError
from swin_core.zoo.load import recorded_training

_CHAIN = 5
"""Most weights files that are followed: of the model, of the one that its training started from, and so on."""


def recorded_trainings(model: str, runs_root: str | Path | None = None) -> Iterator[Mapping[str, Any]]:
    """Yield the settings that a model was trained with, then those of the weights that its training started from.

    Args:
        model: a name as for `swin_core.load`.
        runs_root: folder of the runs.
    """
    for _ in range(_CHAIN):
        try:
            recorded = recorded_training(model, runs_root) if model else {}
        except SwinError:
            return
        if not recorded:
            return
        yield recorded
        model = str(recorded.get("init") or "")


def trained_on(
    model: str, dataset: DataSet, root: str | os.PathLike[str] | None = None, runs_root: str | Path | None = None
) -> np.ndarray:
    """Return which images a model was trained on, `(N,)` bool.

    Files are compared by where they lie on the disk, whatever links lead to them; other images by content. What is not
    recorded, or not on this machine any more, counts as not trained on.

    Args:
        model: a name as for `swin_core.load`.
        dataset: the images.
        root: data root, as for `swin_core.data.dataset.data_root`.
        runs_root: folder of the runs.
    """
    seen: set[Hashable] = set()
    for training in recorded_trainings(model, runs_root):
        if _is_elsewhere(str(training.get("data", "")), dataset, root):
            continue
        try:
            share, seed = float(training.get("holdout", HOLDOUT)), int(training.get("seed", 0))
            limit = int(training.get("limit", 0))
            train, _ = splits(str(training.get("data", "")), share, seed, root)
        except (SwinError, TypeError, ValueError):
            continue
        seen.update(map(_identity, limited(train, limit, seed).sources))
    if not seen:
        return np.zeros(len(dataset), bool)
    return np.array([_identity(source) in seen for source in dataset.sources], bool)


def _is_elsewhere(data: str, dataset: DataSet, root: str | os.PathLike[str] | None) -> bool:
    """Return whether a data set cannot have training images of another, without opening the latter."""
    public = DATA_SETS.get(data)
    if public is None:
        return False
    if dataset.split == "test" and dataset.name == data:
        return True
    files = public.find(data_root(root), "train")
    in_own_files = len(dataset) > 0 and isinstance(dataset.sources[0], Path)
    return bool(files) and files[0].is_file() == in_own_files


def _identity(source: Any) -> Hashable:
    if isinstance(source, Path):
        try:
            status = source.stat()
        except OSError:
            return str(source)
        return status.st_dev, status.st_ino
    return hashlib.sha1(source if isinstance(source, bytes) else np.ascontiguousarray(source).data).digest()
