"""How well a model of the zoo does on a data set: the figures that training reports, for any model and any images."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from swin_core.class_names import match_classes
from swin_core.data.dataset import DataSet
from swin_core.data.registry import HOLDOUT, open_split
from swin_core.errors import DataError, first_names
from swin_core.evaluation.metrics import BATCH_SIZE, Metrics, evaluate
from swin_core.system.distributed import SINGLE, Ranks
from swin_core.weights.files import read_metadata
from swin_core.zoo.classifier import Classifier
from swin_core.zoo.load import load, weights_file

__all__ = [
    "Evaluation",
    "evaluate_classifier",
    "evaluate_named",
    "sees_like_training",
]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Metrics of one model on one split."""

    model: str
    """The model's name."""
    data: str
    """The data set's name."""
    split: str
    """The split's name."""
    labels: tuple[str, ...]
    """The model's class names, in the order of the confusion matrix."""
    left_out: tuple[str, ...]
    """Classes of the data set that the model does not know; their images are not counted."""
    metrics: Metrics
    """What was found."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "model": self.model,
            "data": self.data,
            "split": self.split,
            "labels": list(self.labels),
            "left_out": list(self.left_out),
            **self.metrics.to_dict(),
        }


def evaluate_named(
    name: str,
    data: str,
    split: str | None = None,
    *,
    root: str | os.PathLike[str] | None = None,
    runs_root: str | os.PathLike[str] = "runs",
    progress: Callable[[int, int], None] | None = None,
    ranks: Ranks = SINGLE,
) -> Evaluation:
    """Evaluate a model of the zoo by its name.

    Args:
        name: as for `swin_core.load`.
        data, split, root: as for `open_split`; a run's or bundled model's "train" and "val" are those of its training.
        runs_root: folder of the runs.
        progress: called with the images done and their number.
        ranks: the processes that share the images; each gets the figures of all.

    Raises:
        SwinError: model or data are missing, or have no class in common.
    """
    classifier = load(name, runs_root=runs_root)
    if ranks.size > 1:
        classifier.model.to(ranks.device)
    recorded = {} if name.startswith("timm/") else read_metadata(weights_file(name, Path(runs_root))).get("training")
    known = recorded if isinstance(recorded, dict) else {}
    dataset = open_split(data, split, known.get("holdout", HOLDOUT), known.get("seed", 0), root)
    return evaluate_classifier(classifier, dataset, progress, ranks)


def evaluate_classifier(
    classifier: Classifier,
    dataset: DataSet,
    progress: Callable[[int, int], None] | None = None,
    ranks: Ranks = SINGLE,
) -> Evaluation:
    """Evaluate a classifier on a split, through its own preprocessing.

    Classes are matched by name, so that the model may know them in another order or know more of them.

    Args:
        classifier: the model.
        dataset: the images.
        progress: called with the images done and their number.
        ranks: the processes that share the images; each gets the figures of all.

    Raises:
        DataError: an image cannot be read, or no class of the data set is one of the model's.
        TargetError: several classes of the model fit a class name of the data set.
    """
    places = match_classes(dataset.classes, classifier.labels)
    kept = [index for index, label in enumerate(dataset.labels) if places[label] is not None]
    left_out = tuple(name for name, place in zip(dataset.classes, places, strict=True) if place is None)
    if not kept:
        raise DataError(
            f"no image of {dataset.name} is of a class that {classifier.name} knows: it knows "
            f"{first_names(classifier.labels)}, and the images are of {first_names(dataset.classes)}."
        )
    part = dataset if len(kept) == len(dataset) else dataset.subset(kept, dataset.split)
    labels = torch.tensor([places[label] for label in part.labels], device=classifier.device)
    with classifier.lock:
        batches = _batches(classifier, part, labels, progress or (lambda done, count: None), ranks)
        metrics = evaluate(classifier.model, batches, ranks)
    return Evaluation(classifier.name, dataset.name, dataset.split, classifier.labels, left_out, metrics)


def _batches(
    classifier: Classifier, dataset: DataSet, labels: Tensor, progress: Callable[[int, int], None], ranks: Ranks
) -> Iterator[tuple[Tensor, Tensor]]:
    # It is decoded by several threads, and kept for the next call.
    views = dataset.array(classifier.image_size) if sees_like_training(classifier) else None
    for start in range(ranks.rank * BATCH_SIZE, len(dataset), ranks.size * BATCH_SIZE):
        stop = min(start + BATCH_SIZE, len(dataset))
        if views is None:
            batch = np.stack([classifier.view(dataset.image(index)) for index in range(start, stop)])
        else:
            batch = views[start:stop]
        yield classifier.tensor(batch), labels[start:stop]
        progress(stop, len(dataset))


def sees_like_training(classifier: Classifier) -> bool:
    """Whether a classifier's views are what training validates on, which a data set decodes by several threads."""
    return classifier.crop_fraction == 1 and classifier.interpolation == "bicubic" and not classifier.squash
