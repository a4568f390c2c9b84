"""Colours of the points of the map: by class, prediction, right or wrong, confidence, or finding of an audit."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypedDict

import numpy as np

from dashboard.browse.tiles import BrowsedData, class_words
from dashboard.shared import cache
from swin_core.audit.kept import read_audit
from swin_core.audit.maps import audit_folder
from swin_core.evaluation.confusion import worst_classes
from swin_core.evaluation.selection import CatalogPredictions
from swin_core.figures.audit_groups import finding_images
from swin_core.figures.palette import SERIES

CLASS, PREDICTION, RIGHT, CONFIDENCE, FINDING = COLOURINGS = (
    "Class",
    "Prediction",
    "Right or wrong",
    "Confidence",
    "Finding",
)
MOST_COLOURED = 6
"""Classes that have a colour of their own; more cannot be told apart."""
OTHER, NO_FINDING = "other classes", "no finding, or not tested"

_GREY = SERIES[7]
_OWN = SERIES[:6]  # without yellow, which cannot be seen on white
_CONFIDENCES = (0.4, 0.6, 0.8, 0.95)
_CONFIDENCE_COLOURS = (SERIES[5], SERIES[1], _GREY, SERIES[4], SERIES[0])


class LegendEntry(TypedDict):
    """A colour of the map."""

    name: str
    colour: str
    count: int
    faint: bool
    """Whether it stands for all else."""


@dataclass(frozen=True, eq=False)
class Colouring:
    """The colour of each point of a map."""

    names: tuple[str, ...]
    colours: tuple[str, ...]
    """Colours of the names, as "#rrggbb"."""
    kinds: np.ndarray
    """Index of each point's name, `(n,)` int64."""

    def legend(self, shown: np.ndarray) -> list[LegendEntry]:
        """Return the legend, with the number of points that are shown, `(n,)` bool, in each colour."""
        counts = np.bincount(self.kinds[shown], minlength=len(self.names)).tolist()
        return [
            LegendEntry(name=name, colour=colour, count=count, faint=name in (OTHER, NO_FINDING))
            for name, colour, count in zip(self.names, self.colours, counts, strict=True)
        ]


def colourings(data: BrowsedData, results: Sequence[CatalogPredictions], findings: bool) -> list[str]:
    """Return the colourings that are offered: of what is known about the images."""
    labelled = bool(data.catalog.classes)
    offered = {
        CLASS: labelled,
        PREDICTION: bool(results),
        RIGHT: labelled and bool(results),
        CONFIDENCE: bool(results),
        FINDING: findings,
    }
    return [name for name, possible in offered.items() if possible]


def class_colouring(names: Sequence[str], classes: np.ndarray, coloured: Sequence[int]) -> Colouring:
    """Colour some classes, and the others in grey.

    Args:
        names: names of the classes.
        classes: the class of each point, `(n,)` int64; -1 for none.
        coloured: up to `MOST_COLOURED` classes.
    """
    chosen = list(coloured)[:MOST_COLOURED]
    kinds = np.full(len(classes), len(chosen), np.int64)
    for kind, index in enumerate(chosen):
        kinds[classes == index] = kind
    words = [names[index] for index in chosen]
    rest = len(chosen) < len(names) or (classes < 0).any()
    if not rest:
        return Colouring(tuple(words), _OWN[: len(words)], kinds)
    return Colouring((*words, OTHER), (*_OWN[: len(words)], _GREY), kinds)


def first_coloured(classes: np.ndarray, count: int, results: Sequence[CatalogPredictions]) -> list[int]:
    """Return the classes to colour at first: those of most mistakes, where predictions tell, else of most images."""
    if results and results[0].predictions.counted.any() and count == len(results[0].catalog.classes):
        order = worst_classes(results[0].confusion)
    else:
        order = np.argsort(-np.bincount(classes[classes >= 0], minlength=count), kind="stable")
    return sorted(order[:MOST_COLOURED].tolist())


def right_colouring(result: CatalogPredictions, rows: np.ndarray) -> Colouring:
    """Colour wrong and right predictions, and images of unknown classes in grey."""
    right, counted = result.predictions.right[rows], result.predictions.counted[rows]
    kinds = np.where(counted, np.where(right, 1, 0), 2)
    names, colours = ("wrong", "right", "not checked"), (SERIES[5], SERIES[0], _GREY)
    shown = 3 if (kinds == 2).any() else 2
    return Colouring(names[:shown], colours[:shown], kinds)


def confidence_colouring(result: CatalogPredictions, rows: np.ndarray) -> Colouring:
    """Colour five steps of the probability of the likeliest class."""
    kinds = np.searchsorted(_CONFIDENCES, np.nan_to_num(result.predictions.confidence[rows]), side="right")
    edges = [0, *(round(100 * edge) for edge in _CONFIDENCES), 100]
    names = tuple(f"{low} to {high} %" for low, high in pairwise(edges))
    return Colouring(names, _CONFIDENCE_COLOURS, kinds)


def findings_of(data: BrowsedData, model: str | None) -> dict[str, np.ndarray]:
    """Return the images `(N,)` bool of each finding of the kept audits of a model on these splits, by its name."""
    found: dict[str, np.ndarray] = {}
    if model is None:
        return found
    before = 0
    for part in data.catalog.parts:
        audit = read_audit(audit_folder(cache.classifier(model), part))
        for name, rows in finding_images(audit, part.names).items():
            found.setdefault(name, np.zeros(len(data.catalog), bool))[before : before + len(part)] |= rows
        before += len(part)
    return found


def finding_colouring(findings: dict[str, np.ndarray], rows: np.ndarray) -> Colouring:
    """Colour the images of each finding; an image of several has the colour of the first, the strongest."""
    names = list(findings)[:MOST_COLOURED]
    kinds = np.full(len(rows), len(names), np.int64)
    for kind, name in reversed(list(enumerate(names))):
        kinds[findings[name][rows]] = kind
    return Colouring((*names, NO_FINDING), (*_OWN[: len(names)], _GREY), kinds)


def predicted_names(data: BrowsedData, result: CatalogPredictions) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the names of the classes that predictions are of, and the class of each image, `(N,)`; -1 for none.

    They are the data set's where it has labels, else the model's.
    """
    if data.catalog.classes:
        return class_words(data.catalog.classes), result.predicted
    return class_words(result.predictions.labels), result.predictions.predicted
