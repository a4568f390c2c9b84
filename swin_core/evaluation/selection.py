"""Select and sort the images of a data set by the filters of the Browse page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from swin_core.class_names import match_classes
from swin_core.data.catalog import Catalog, each_class_in_turn
from swin_core.evaluation.confusion import confusion
from swin_core.evaluation.predictions import Predictions

ANY = "Any"
OTHER = "another class"
SUPER, CLASS = " (super-class)", " (class)"

SHOWN = ("All", "Right", "Wrong", "Models disagree", "Only A right", "Only B right", "Both wrong")
"""Filters by correctness; the last four compare two models, A and B."""
ALL, RIGHT, WRONG, DISAGREE, ONLY_A, ONLY_B, BOTH_WRONG = SHOWN
COMPARING = SHOWN[3:]

SORTS = (
    "Each class in turn",
    "Name",
    "Most confident first",
    "Least confident first",
    "Greatest loss first",
    "Smallest loss first",
)
"""Sort orders; the last four need predictions."""
IN_TURN, NAME, CONFIDENT, UNSURE, LOSS, SMALL_LOSS = SORTS


@dataclass(frozen=True)
class ImageQuery:
    """Filters and order. All but the search text are values of the tuples above or of `class_choices`."""

    search: str = ""
    truth: str = ANY
    """True class or super-class."""
    predicted: str = ANY
    """Class or super-class that the first model predicts, or `OTHER`; without labels a class of the model."""
    shown: str = ALL
    sort: str = IN_TURN

    @property
    def needs_predictions(self) -> bool:
        """Whether the filters or the order use predictions."""
        return self.predicted != ANY or self.shown != ALL or self.sort in SORTS[2:]


@dataclass(frozen=True, eq=False)
class CatalogPredictions:
    """A model's predictions for every image of a catalog, in the classes of the data set."""

    predictions: Predictions
    catalog: Catalog
    names: tuple[str, ...] = ()
    """Names of the catalog's classes as they are matched to the model's labels; empty for their own."""

    @classmethod
    def of(
        cls, catalog: Catalog, parts: Sequence[Predictions], by_hand: Mapping[str, str] | None = None
    ) -> "CatalogPredictions":
        """Join the predictions for the catalog's splits; `by_hand` has the model's label for some classes."""
        columns = ("truth", "predicted", "top", "probabilities", "loss")
        joined = (np.concatenate([getattr(part, name) for part in parts]) for name in columns)
        names = tuple((by_hand or {}).get(name, name) for name in catalog.classes)
        return cls(Predictions(parts[0].labels, *joined), catalog, names)

    @cached_property
    def classes(self) -> np.ndarray:
        """The data set's class of each of the model's K classes, `(K,)` int64; -1 for none."""
        result = np.full(len(self.predictions.labels), -1, np.int64)
        for label, index in enumerate(match_classes(self.names or self.catalog.classes, self.predictions.labels)):
            if index is not None:
                result[index] = label
        return result

    @cached_property
    def predicted(self) -> np.ndarray:
        """The likeliest class as one of the data set's, `(N,)` int64; -1 for none.

        Where the model has one class for several of the data set, the true one is taken.
        """
        predicted = np.where(self.predictions.predicted < 0, -1, self.classes[self.predictions.predicted])
        return np.where(self.predictions.right, self.catalog.labels, predicted)

    @cached_property
    def answers(self) -> np.ndarray:
        """The likeliest class by its name, `(N,)`: the data set's where it has it; empty if the image was not read."""
        known = np.array([*self.catalog.classes, ""])[self.predicted]
        own = np.array([*self.predictions.labels, ""])[self.predictions.predicted]
        return np.where(self.predicted >= 0, known, own)

    @cached_property
    def confusion(self) -> np.ndarray:
        """Confusion matrix over the data set's classes, `(C, C + 1)`, of the images that count."""
        counted = self.predictions.counted
        return confusion(self.catalog.labels[counted], self.predicted[counted], len(self.catalog.classes))


def class_choices(catalog: Catalog) -> list[str]:
    """Return `ANY`, the super-classes by name, then the classes by name."""
    return [ANY, *map(super_choice, sorted(catalog.coarse_classes)), *map(class_choice, sorted(catalog.classes))]


def class_choice(name: str) -> str:
    """Return the choice for a class: its name, with a suffix where another choice has that name."""
    return f"{name}{CLASS}" if name in (ANY, OTHER) or name.endswith((SUPER, CLASS)) else name


def super_choice(name: str) -> str:
    """Return the choice for a super-class."""
    return f"{name}{SUPER}"


def select(
    catalog: Catalog,
    query: ImageQuery,
    first: CatalogPredictions | None = None,
    second: CatalogPredictions | None = None,
) -> np.ndarray:
    """Return the rows of the images that a query selects, in its order, `(n,)` int64.

    Filters and orders that need missing predictions are ignored.

    Args:
        catalog: the images.
        query: filters and order.
        first: predictions of the model that is shown.
        second: predictions of the model that it is compared with.
    """
    kept = catalog.matching(query.search)
    if query.truth != ANY:
        kept &= _members(catalog, query.truth)[catalog.labels]
    if first is not None:
        if query.predicted == OTHER:
            kept &= (first.predicted < 0) & first.predictions.counted
        elif query.predicted != ANY and not catalog.classes:
            kept &= np.array([class_choice(name) == query.predicted for name in first.predictions.labels] + [False])[
                first.predictions.predicted
            ]
        elif query.predicted != ANY:
            members = _members(catalog, query.predicted)
            kept &= (first.predicted >= 0) & members[first.predicted]
        if query.shown in (RIGHT, WRONG):
            kept &= first.predictions.right if query.shown == RIGHT else _wrong(first)
        elif query.shown != ALL and second is not None:
            kept &= compared(query.shown, first, second)
    return _ordered(catalog, np.flatnonzero(kept), query.sort, first)


def _members(catalog: Catalog, choice: str) -> np.ndarray:
    """Return which of the data set's classes a choice stands for, `(C,)` bool."""
    for index, name in enumerate(catalog.coarse_classes):
        if super_choice(name) == choice:
            return catalog.coarse_of_class() == index
    return np.array([class_choice(name) == choice for name in catalog.classes], bool)


def compared(shown: str, first: CatalogPredictions, second: CatalogPredictions) -> np.ndarray:
    """Return which images one of `COMPARING` selects of two models, `(N,)` bool."""
    if shown == DISAGREE:
        return (first.answers != second.answers) & (first.answers != "") & (second.answers != "")
    return {
        ONLY_A: first.predictions.right & _wrong(second),
        ONLY_B: _wrong(first) & second.predictions.right,
        BOTH_WRONG: _wrong(first) & _wrong(second),
    }[shown]


def _wrong(result: CatalogPredictions) -> np.ndarray:
    return result.predictions.counted & ~result.predictions.right


def _ordered(catalog: Catalog, rows: np.ndarray, sort: str, first: CatalogPredictions | None) -> np.ndarray:
    if sort == NAME:
        return catalog.by_name(rows)
    if sort == IN_TURN or first is None:
        return rows[each_class_in_turn(catalog.labels[rows])]
    values = (first.predictions.confidence if sort in (CONFIDENT, UNSURE) else first.predictions.loss)[rows]
    # Images without a value come last in both directions.
    return rows[np.argsort(-values if sort in (CONFIDENT, LOSS) else values, kind="stable")]
