"""Metrics of any classifier on any data set, the same as those that training reports."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from swin_core.class_names import match_classes
from swin_core.data.dataset import DataSet, SkippedFile
from swin_core.data.registry import HOLDOUT, open_split
from swin_core.errors import ConfigError, DataError, first_names
from swin_core.evaluation.metrics import Metrics, evaluate
from swin_core.evaluation.trained_on import trained_on
from swin_core.evaluation.views import read_batches
from swin_core.system.distributed import SINGLE, Ranks
from swin_core.system.progress import Progress
from swin_core.zoo.classifier import Classifier
from swin_core.zoo.load import load, recorded_training


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Metrics of one model on one split."""

    model: str
    """Name of the model."""
    data: str
    """Name of the data set."""
    split: str
    labels: tuple[str, ...]
    """The model's class names, in the order of the confusion matrix."""
    left_out: tuple[str, ...]
    """Classes of the data set that the model does not know; their images are not counted."""
    metrics: Metrics
    skipped: tuple[SkippedFile, ...] = ()
    """Files that are not counted, since they are no images or cannot be read."""
    trained_on: int = 0
    """Images of the split that the model was trained on, as far as its weights file records that."""
    products: str = ""
    """Type of the model's matrix products, such as "float32"."""
    mirrored: Metrics | None = None
    """Metrics of the mean of the logits of each image and its mirror image, if they were asked for."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "model": self.model,
            "data": self.data,
            "split": self.split,
            "labels": list(self.labels),
            "left_out": list(self.left_out),
            "skipped": [str(file) for file in self.skipped],
            "trained_on": self.trained_on,
            "products": self.products,
            **self.metrics.to_dict(),
            **({} if self.mirrored is None else {"mirrored": self.mirrored.to_dict()}),
        }


class _Mirrored(nn.Module):
    """The mean of a model's logits for images `(B, channels, H, W)` and for their mirror images."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return (self.model(x) + self.model(x.flip(-1))) / 2


def evaluate_named(
    name: str,
    data: str,
    split: str | None = None,
    *,
    root: str | os.PathLike[str] | None = None,
    runs_root: str | Path = "runs",
    strict: bool = False,
    mirror: bool = False,
    precision: str = "",
    progress: Progress | None = None,
    ranks: Ranks = SINGLE,
) -> Evaluation:
    """Evaluate a model of the zoo by its name.

    Args:
        name: as for `swin_core.load`.
        data, split, root: as for `open_split`; "train" and "val" are the splits that the model was trained with.
        runs_root: folder of the runs.
        strict: refuse files that cannot be used, instead of leaving them out.
        mirror: also evaluate the mean of the logits of each image and its mirror image.
        precision: as for `swin_core.load`.
        progress: called with the number of images done and their total.
        ranks: the ranks that share the images; each gets the metrics of all.

    Raises:
        SwinError: model or data are missing, or have no class in common.
    """
    classifier = load(name, runs_root=runs_root, precision=precision)
    if ranks.size > 1:
        classifier.model.to(ranks.device)
    dataset = named_split(name, data, split, root, runs_root)
    evaluation = evaluate_classifier(classifier, dataset, progress, ranks, strict, mirror)
    return replace(evaluation, trained_on=int(trained_on(name, dataset, root, runs_root).sum()))


def named_split(
    name: str,
    data: str,
    split: str | None = None,
    root: str | os.PathLike[str] | None = None,
    runs_root: str | Path = "runs",
) -> DataSet:
    """Return a split of a data set, divided as in the training of a model. Arguments are those of `evaluate_named`.

    Raises:
        SwinError: model or data are missing.
    """
    training = recorded_training(name, runs_root)
    return open_split(data, split, training.get("holdout", HOLDOUT), training.get("seed", 0), root)


def evaluate_classifier(
    classifier: Classifier,
    dataset: DataSet,
    progress: Progress | None = None,
    ranks: Ranks = SINGLE,
    strict: bool = False,
    mirror: bool = False,
) -> Evaluation:
    """Evaluate a classifier on a split, with its own preprocessing.

    Classes are matched by name: the model may have them in another order, and have more of them.

    Args:
        classifier: the model.
        dataset: the images.
        progress: called with the number of images done and their total.
        ranks: the ranks that share the images; each gets the metrics of all.
        strict: refuse files that cannot be used, instead of leaving them out.
        mirror: also evaluate the mean of the logits of each image and its mirror image.

    Raises:
        ConfigError: the model is a regression.
        DataError: no image can be read, `strict` and one cannot, or the model knows no class of the data set.
        TargetError: several classes of the model match a class of the data set.
    """
    if not dataset.classes:
        raise DataError(
            f"{dataset.name} has no class folders, so there is no truth to compare with; Browse shows predictions."
        )
    if classifier.activation == "none":
        raise ConfigError(f"{classifier.name} is a regression, so it has no accuracy; evaluate a classifier.")
    matches = match_classes(dataset.classes, classifier.labels)
    known = [row for row, label in enumerate(dataset.labels) if matches[label] is not None]
    left_out = tuple(name for name, match in zip(dataset.classes, matches, strict=True) if match is None)
    if not known:
        raise DataError(
            f"no image of {dataset.name} is of a class that {classifier.name} knows: it knows "
            f"{first_names(classifier.labels)}, and the images are of {first_names(dataset.classes)}."
        )
    part = dataset if len(known) == len(dataset) else dataset.subset(known, dataset.split)
    labels = np.array([matches[label] for label in part.labels], np.int64)
    unreadable: list[SkippedFile] = []
    models = [classifier.logits_model, *([_Mirrored(classifier.logits_model)] if mirror else [])]

    def batches(before: int) -> Iterator[tuple[Tensor, Tensor]]:
        for done, rows, views, faults in read_batches(classifier, part, ranks):
            unreadable.extend(faults)
            if len(rows):
                yield classifier.tensor(views), torch.tensor(labels[rows], device=classifier.device)
            if progress:
                progress(before + done, len(models) * len(part))

    score = partial(evaluate, ranks=ranks, activation=classifier.activation, bfloat16=classifier.uses_bfloat16)
    with classifier.lock:
        metrics, *mirrored = [score(model, batches(number * len(part))) for number, model in enumerate(models)]
    skipped = [*dataset.skipped, *(file for files in ranks.all_gather(unreadable) for file in files)]
    if strict and skipped:
        raise DataError(f"{len(skipped)} files cannot be used: {'; '.join(map(str, skipped))}; mend them.")
    return Evaluation(
        classifier.name,
        dataset.name,
        dataset.split,
        classifier.labels,
        left_out,
        metrics,
        tuple(dict.fromkeys(skipped)),
        products=classifier.products,
        mirrored=mirrored[0] if mirrored else None,
    )
