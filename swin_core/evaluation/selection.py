"""Which images of a data set are shown, and in which order: from the choices on the Browse page to rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from swin_core.class_names import match_classes
from swin_core.data.catalog import Catalog, each_class_in_turn
from swin_core.evaluation.confusion import confusion
from swin_core.evaluation.predictions import Predictions

__all__ = [
    "ANY",
    "CONFIDENT",
    "OTHER",
    "RIGHT_HERE",
    "SHOWN",
    "SORTS",
    "WRONG",
    "WRONG_BOTH",
    "WRONG_HERE",
    "CatalogPredictions",
    "ImageQuery",
    "class_choice",
    "class_choices",
    "select",
    "super_choice",
]

ANY = "Any"
OTHER = "another class"
SUPER, CLASS = " (super-class)", " (class)"

SHOWN = ("All", "Right", "Wrong", "Right here, wrong there", "Wrong here, right there", "Wrong in both")
"""What is shown; the last three compare two models."""
ALL, RIGHT, WRONG, RIGHT_HERE, WRONG_HERE, WRONG_BOTH = SHOWN

SORTS = (
    "Each class in turn",
    "Name",
    "Most confident first",
    "Least confident first",
    "Greatest loss first",
    "Smallest loss first",
)
"""The order; the last four need predictions."""
IN_TURN, NAME, CONFIDENT, UNSURE, LOSS, SMALL_LOSS = SORTS


@dataclass(frozen=True)
class ImageQuery:
    """Which images are asked for. All but the search text are values of the tuples above or of `class_choices`."""

    search: str = ""
    truth: str = ANY
    """A class or super-class that the images are of."""
    predicted: str = ANY
    """A class or super-class that the first model takes them for, or `OTHER`."""
    shown: str = ALL
    sort: str = IN_TURN

    @property
    def needs_predictions(self) -> bool:
        """Whether a model's predictions are asked for."""
        return self.predicted != ANY or self.shown != ALL or self.sort in SORTS[2:]


@dataclass(frozen=True, eq=False)
class CatalogPredictions:
    """What one model says about every image of a catalog, in the classes of the data set."""

    predictions: Predictions
    catalog: Catalog

    @classmethod
    def of(cls, catalog: Catalog, parts: Sequence[Predictions]) -> "CatalogPredictions":
        """Put the predictions for the catalog's splits together."""
        found = Predictions(
            parts[0].labels,
            np.concatenate([part.truth for part in parts]),
            np.concatenate([part.predicted for part in parts]),
            np.concatenate([part.top for part in parts]),
            np.concatenate([part.probabilities for part in parts]),
            np.concatenate([part.loss for part in parts]),
        )
        return cls(found, catalog)

    @cached_property
    def classes(self) -> np.ndarray:
        """`(model's classes,)` int64: the data set's class that each is, or -1."""
        result = np.full(len(self.predictions.labels), -1, np.int64)
        for place, index in enumerate(match_classes(self.catalog.classes, self.predictions.labels)):
            if index is not None:
                result[index] = place
        return result

    @cached_property
    def predicted(self) -> np.ndarray:
        """`(N,)` int64: the likeliest class as one of the data set's, or -1; of several that mean it the right one."""
        named = np.where(self.predictions.predicted < 0, -1, self.classes[self.predictions.predicted])
        return np.where(self.predictions.right, self.catalog.labels, named)

    @cached_property
    def confusion(self) -> np.ndarray:
        """`(C, C + 1)` counts of the images that can be judged, in the data set's classes."""
        judged = self.predictions.counted
        return confusion(self.catalog.labels[judged], self.predicted[judged], len(self.catalog.classes))


def class_choices(catalog: Catalog) -> list[str]:
    """`ANY`, the super-classes, then the classes, by name."""
    return [ANY, *map(super_choice, sorted(catalog.coarse_classes)), *map(class_choice, sorted(catalog.classes))]


def class_choice(name: str) -> str:
    """What a class is called among the choices: by its name, which must not be that of another choice."""
    return f"{name}{CLASS}" if name in (ANY, OTHER) or name.endswith((SUPER, CLASS)) else name


def super_choice(name: str) -> str:
    """What a super-class is called among the choices."""
    return f"{name}{SUPER}"


def select(
    catalog: Catalog,
    wanted: ImageQuery,
    first: CatalogPredictions | None = None,
    second: CatalogPredictions | None = None,
) -> np.ndarray:
    """The rows of the images that are asked for, in the order that is asked for, `(n,)` int64.

    What needs a model's predictions is left out of account while they are missing.

    Args:
        catalog: the images.
        wanted: what is asked for.
        first: the model whose predictions are shown.
        second: the model that it is compared with.
    """
    kept = catalog.matching(wanted.search)
    if wanted.truth != ANY:
        kept &= _members(catalog, wanted.truth)[catalog.labels]
    if first is not None:
        if wanted.predicted == OTHER:
            kept &= (first.predicted < 0) & first.predictions.counted
        elif wanted.predicted != ANY:
            members = _members(catalog, wanted.predicted)
            kept &= (first.predicted >= 0) & members[first.predicted]
        kept &= _shown(wanted.shown, first.predictions, None if second is None else second.predictions)
    return _ordered(catalog, np.flatnonzero(kept), wanted.sort, first)


def _members(catalog: Catalog, choice: str) -> np.ndarray:
    """Which of the data set's classes a choice stands for, `(C,)` bool."""
    for place, name in enumerate(catalog.coarse_classes):
        if super_choice(name) == choice:
            return catalog.coarse_of_class() == place
    return np.array([class_choice(name) == choice for name in catalog.classes], bool)


def _shown(shown: str, first: Predictions, second: Predictions | None) -> np.ndarray:
    wrong = first.counted & ~first.right
    if shown == RIGHT:
        return first.right
    if shown == WRONG:
        return wrong
    if shown == ALL or second is None:
        return np.ones(len(first), bool)
    other_wrong = second.counted & ~second.right
    return {
        RIGHT_HERE: first.right & other_wrong,
        WRONG_HERE: wrong & second.right,
        WRONG_BOTH: wrong & other_wrong,
    }[shown]


def _ordered(catalog: Catalog, rows: np.ndarray, sort: str, first: CatalogPredictions | None) -> np.ndarray:
    if sort == NAME:
        return catalog.by_name(rows)
    if sort == IN_TURN or first is None:
        return rows[each_class_in_turn(catalog.labels[rows])]
    values = (first.predictions.confidence if sort in (CONFIDENT, UNSURE) else first.predictions.loss)[rows]
    # Images without a value come last in both directions.
    return rows[np.argsort(-values if sort in (CONFIDENT, LOSS) else values, kind="stable")]
