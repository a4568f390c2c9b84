"""How well a model of the zoo does on a data set: the figures that training reports, for any model and any pictures."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from swin_core.class_names import match_classes
from swin_core.data import DataSet, cifar100, flower_photos
from swin_core.errors import ConfigError, DataError, listed
from swin_core.training.config import TrainConfig
from swin_core.training.evaluation import BATCH_SIZE, Figures, evaluate
from swin_core.training.pictures import has_own_split, open_folder, splits
from swin_core.weights import read_metadata
from swin_core.world import ALONE, World
from swin_core.zoo import Classifier, load, weights_file

__all__ = [
    "Evaluation",
    "evaluate_classifier",
    "evaluate_named",
    "open_split",
    "recorded_settings",
    "sees_like_training",
]

_DEFAULT_SPLIT = {"cifar100": "test", "flowers": "val"}


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Figures of one model on one split."""

    model: str
    """The model's name."""
    data: str
    """The data set's name."""
    split: str
    """The split's name."""
    labels: tuple[str, ...]
    """The model's class names, in the order of the confusion matrix."""
    left_out: tuple[str, ...]
    """Classes of the data set that the model does not know; their pictures are not counted."""
    figures: Figures
    """What was found."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "model": self.model,
            "data": self.data,
            "split": self.split,
            "labels": list(self.labels),
            "left_out": list(self.left_out),
            **self.figures.to_dict(),
        }


def evaluate_named(
    name: str,
    data: str,
    split: str | None = None,
    *,
    root: str | os.PathLike[str] | None = None,
    runs_root: str | os.PathLike[str] = "runs",
    progress: Callable[[int, int], None] | None = None,
    world: World = ALONE,
) -> Evaluation:
    """Evaluate a model of the zoo by its name.

    Args:
        name: as for `swin_core.load`.
        data, split, root: as for `open_split`; a run's or bundled model's "train" and "val" are those of its training.
        runs_root: folder of the runs.
        progress: called with the pictures done and their number.
        world: the processes that share the pictures; each gets the figures of all.

    Raises:
        SwinError: model or data are missing, or have no class in common.
    """
    classifier = load(name, Path(runs_root))
    if world.size > 1:
        classifier.model.to(world.device)
    known = {} if name.startswith("timm/") else recorded_settings(weights_file(name, Path(runs_root)))
    config = TrainConfig.from_dict(known)
    return evaluate_classifier(classifier, open_split(data, split, config, root), progress, world)


def recorded_settings(weights: Path) -> dict[str, Any]:
    """The settings of `TrainConfig` that weights were trained with, as far as the file tells."""
    recorded = read_metadata(weights).get("training")
    known = {field.name for field in fields(TrainConfig)}
    settings = recorded.items() if isinstance(recorded, dict) else ()
    return {key: value for key, value in settings if key in known}


def open_split(
    data: str,
    split: str | None = None,
    config: TrainConfig | None = None,
    root: str | os.PathLike[str] | None = None,
) -> DataSet:
    """A split of a data set, for evaluation.

    Args:
        data: cifar100, flowers, or a folder of class folders.
        split: "train" or "val", as a config splits them for training; "test" of cifar100; "all" of a folder. By
            default "test" of cifar100, "val" of flowers and of a folder that brings its own split, else "all".
        config: its `holdout` and `seed` tell what is held out; default settings if None.
        root: data root, as for `swin_core.data.data_root`.

    Raises:
        ConfigError: no such split.
        DataError: the pictures are missing.
    """
    split = split or _DEFAULT_SPLIT.get(data) or ("val" if has_own_split(Path(data)) else "all")
    known = ["train", "val", *({"cifar100": ["test"], "flowers": []}.get(data, ["all"]))]
    if split not in known:
        raise ConfigError(f"{data[:80]!r} has no split {split[:80]!r}; choose from {', '.join(known)}.")
    if split == "test":
        return cifar100(root, "test")
    if split == "all":
        return open_folder(Path(data))
    if data == "flowers":  # both its splits are fixed
        return flower_photos(root, split)
    return splits(replace(config or TrainConfig(), data=data), root)[split == "val"]


def evaluate_classifier(
    classifier: Classifier,
    dataset: DataSet,
    progress: Callable[[int, int], None] | None = None,
    world: World = ALONE,
) -> Evaluation:
    """Evaluate a classifier on a split, through its own preprocessing.

    Classes are matched by name, so that the model may know them in another order or know more of them.

    Args:
        classifier: the model.
        dataset: the pictures.
        progress: called with the pictures done and their number.
        world: the processes that share the pictures; each gets the figures of all.

    Raises:
        DataError: a picture cannot be read, or no class of the data set is one of the model's.
        TargetError: several classes of the model fit a class name of the data set.
    """
    places = match_classes(dataset.classes, classifier.labels)
    kept = [index for index, label in enumerate(dataset.labels) if places[label] is not None]
    left_out = tuple(name for name, place in zip(dataset.classes, places, strict=True) if place is None)
    if not kept:
        raise DataError(
            f"no picture of {dataset.name} is of a class that {classifier.name} knows: it knows "
            f"{listed(classifier.labels)}, and the pictures are of {listed(dataset.classes)}."
        )
    part = dataset if len(kept) == len(dataset) else dataset.subset(kept, dataset.split)
    labels = torch.tensor([places[label] for label in part.labels], device=classifier.device)
    with classifier.lock:
        batches = _batches(classifier, part, labels, progress or (lambda done, count: None), world)
        figures = evaluate(classifier.model, batches, world)
    return Evaluation(classifier.name, dataset.name, dataset.split, classifier.labels, left_out, figures)


def _batches(
    classifier: Classifier, dataset: DataSet, labels: Tensor, progress: Callable[[int, int], None], world: World
) -> Iterator[tuple[Tensor, Tensor]]:
    # It is decoded by several threads, and kept for the next call.
    views = dataset.array(classifier.image_size) if sees_like_training(classifier) else None
    for start in range(world.rank * BATCH_SIZE, len(dataset), world.size * BATCH_SIZE):
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
