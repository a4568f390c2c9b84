"""Before and after a repair: accuracy of two models on images with and without what an audit found, by class."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from swin_core.audit.bench import Bench
from swin_core.audit.candidates import frame
from swin_core.audit.fitting import FINEST, rectangle
from swin_core.audit.interventions import Content, Intervention, Place, Shift
from swin_core.audit.maps import GRID
from swin_core.audit.results import Tested
from swin_core.data.dataset import DataSet
from swin_core.errors import DataError
from swin_core.evaluation.metrics import batch_size
from swin_core.evaluation.predictions import true_classes
from swin_core.system.progress import Progress, counter
from swin_core.zoo.classifier import Classifier

MOST = 100
"""Images of a group, drawn at random."""


@dataclass(frozen=True)
class Group:
    """Images of one class, with or without what was found."""

    class_name: str
    present: bool
    """Whether they have it: in the class it is as it was or removed, in the others it was put in or not."""
    images: int
    before: float
    """Share of the images that the audited model predicts right."""
    after: float
    """The same for the repaired model."""


@dataclass(frozen=True)
class Repair:
    """What a repair changed, for one finding."""

    model: str
    """Name of the repaired model."""
    groups: tuple[Group, ...]
    """The group that was worst before comes first."""

    trained_on: int
    """Images of the groups that one of the models was trained on."""

    @property
    def images(self) -> int:
        """Number of images of all groups; each is in two of them."""
        return sum(group.images for group in self.groups) // 2

    @property
    def worst(self) -> tuple[float, float]:
        """Accuracy of the worst group, before and after."""
        return min(group.before for group in self.groups), min(group.after for group in self.groups)

    @property
    def mean(self) -> tuple[float, float]:
        """Mean accuracy of the groups, before and after."""
        before, after = (np.mean([getattr(group, name) for group in self.groups]) for name in ("before", "after"))
        return float(before), float(after)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self) | {"worst": self.worst, "mean": self.mean}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Repair":
        """Undo `to_dict`.

        Raises:
            KeyError, TypeError: the values are not those of a repair.
        """
        return cls(values["model"], tuple(Group(**group) for group in values["groups"]), values["trained_on"])


def compare_repair(
    before: Classifier,
    after: Classifier,
    dataset: DataSet,
    finding: Tested,
    seed: int = 0,
    trained_on: np.ndarray | None = None,
    progress: Progress | None = None,
) -> Repair:
    """Measure two models by group on images with and without what was found.

    Args:
        before: the audited model.
        after: the repaired one.
        dataset: the images that were audited, with labels.
        finding: what was found.
        seed: seed of the choice of images.
        trained_on: which images one of the models was trained on, `(N,)` bool; None for none.
        progress: called with the number of predictions made and their total; an error that it raises ends it.

    Raises:
        DataError: the finding's images are not there any more, or the models do not know the classes.
    """
    rows_by_name = {name: row for row, name in enumerate(dataset.names)}
    benches = Bench(before, dataset), Bench(after, dataset)
    carriers = np.array([rows_by_name[name] for name in finding.names if name in rows_by_name], np.int64)
    random = np.random.default_rng(seed)
    carriers = benches[0].readable(np.sort(random.permutation(carriers)[:MOST]))
    if not len(carriers):
        raise DataError(f"none of the finding's images is in {dataset.name}; audit the model on these images again.")
    intervention = _intervention(finding, rows_by_name)
    own = int(dataset.labels[carriers[0]])
    truths = [true_classes(bench.classifier, dataset) for bench in benches]
    known = [row for row in range(len(dataset)) if all(truth[row] >= 0 for truth in truths)]
    if own < 0 or not known:
        raise DataError("a comparison by group needs images with labels that both models know; choose others.")
    parts = []
    for label in np.unique(dataset.labels[known]).tolist():
        members = carriers if label == own else np.array(known)[dataset.labels[known] == label]
        members = benches[0].readable(np.sort(random.permutation(members)[:MOST]))
        if len(members):
            parts.append((label, members, random.choice(carriers, len(members))))
    tick = counter(progress, 2 * len(benches) * sum(len(members) for _, members, _ in parts))
    groups = []
    for label, members, donors in parts:
        for present in (True, False):
            change = "" if present == (label == own) else "insert" if present else "remove"
            shares = [
                float((_predicted(bench, intervention, change, members, donors, tick) == truth[members]).mean())
                for bench, truth in zip(benches, truths, strict=True)
            ]
            groups.append(Group(dataset.classes[label], present, len(members), *shares))
    measured = np.concatenate([members for _, members, _ in parts])
    seen = 0 if trained_on is None else int(trained_on[measured].sum())
    return Repair(after.name, tuple(sorted(groups, key=lambda group: group.before)), seen)


def _predicted(
    bench: Bench,
    intervention: Intervention,
    change: str,
    rows: np.ndarray,
    donors: np.ndarray,
    tick: Callable[[int], None],
) -> np.ndarray:
    """Return the likeliest class of images that are as they are, or changed by "insert" or "remove"."""
    step = batch_size(bench.classifier.device, bench.classifier.image_size)
    predicted = []
    for part in (slice(start, start + step) for start in range(0, len(rows), step)):
        views = bench.views(rows[part])
        if change == "insert":
            views = intervention.insert(bench.views(donors[part]), views, donors[part], rows[part], False)
        elif change == "remove":
            views = intervention.remove(views, rows[part], False)
        predicted.append(bench.probabilities(views).argmax(1))
        tick(len(views))
    return np.concatenate(predicted)


def _intervention(finding: Tested, rows: dict[str, int]) -> Intervention:
    """Return the intervention that a finding was tested by."""
    if finding.statistic:
        return Shift(finding.statistic, finding.by)
    if finding.region is not None:
        return Place(region_mask(finding.region, finding.frame))
    corners = zip(finding.names, finding.corners, strict=True)
    return Content({rows[name]: corner for name, corner in corners if name in rows})


def region_mask(region: Sequence[float], is_frame: bool) -> np.ndarray:
    """Return a finding's region as a mask, `(n, n)` bool, whose grid holds the edges of any fitted rectangle."""
    if is_frame:
        return frame()
    # Fitted edges are on a grid of 16, 32, 48 or 64, and a finding does not keep which: 192 is a multiple of each.
    count = math.lcm(*(GRID * steps for steps in range(1, FINEST + 1)))
    left, top, right, bottom = (round(edge * count) for edge in region)
    return rectangle((left, top, right, bottom), count)
