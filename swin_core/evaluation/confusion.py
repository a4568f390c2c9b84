"""Which classes are taken for which: counts from columns of class indices, with nothing but arithmetic."""

from dataclasses import dataclass

import numpy as np

__all__ = ["Mistake", "confusion", "grouped", "most_frequent", "worst_classes"]


@dataclass(frozen=True)
class Mistake:
    """A class that was taken for another one, by their places in the matrix."""

    truth: int
    predicted: int
    count: int
    share: float
    """Of all images of the right class, 0 to 1."""


def confusion(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Count images by right and predicted class.

    Args:
        truth: `(N,)` int64, classes in `[0, classes)`.
        predicted: `(N,)` int64, in `[-1, classes)`; -1 is a class that is not among these.
        classes: their number C.

    Returns:
        `(C, C + 1)` int64; rows are the right class, the last column is a class that is not among these.
    """
    columns = np.where(predicted < 0, classes, predicted)
    cells = truth * (classes + 1) + columns
    return np.bincount(cells, minlength=classes * (classes + 1)).reshape(classes, classes + 1)


def grouped(matrix: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    """The same counts for groups of classes.

    Args:
        matrix: `(C, C + 1)`, as `confusion` gives it.
        groups: `(C,)` int64, the group of each class.
        count: number G of groups.

    Returns:
        `(G, G + 1)` int64.
    """
    member = np.zeros((len(groups) + 1, count + 1), np.int64)
    member[np.arange(len(groups)), groups] = 1
    member[-1, -1] = 1
    return member[:-1, :-1].T @ matrix @ member


def most_frequent(matrix: np.ndarray, at_most: int) -> list[Mistake]:
    """The mistakes with the most images, most first; of equal ones those with the greater share.

    Args:
        matrix: `(C, C + 1)`, as `confusion` gives it.
        at_most: how many.
    """
    counts = _off_diagonal(matrix)
    with np.errstate(invalid="ignore"):
        shares = np.nan_to_num(counts / matrix.sum(1, keepdims=True))
    order = np.lexsort((-shares.ravel(), -counts.ravel()))[:at_most]
    places = zip(*np.unravel_index(order, counts.shape), strict=True)
    found = [Mistake(int(i), int(j), int(counts[i, j]), float(shares[i, j])) for i, j in places]
    return [mistake for mistake in found if mistake.count]


def worst_classes(matrix: np.ndarray) -> np.ndarray:
    """The classes by their part in mistakes, most first: images of theirs and images taken for theirs, `(C,)`."""
    wrong = _off_diagonal(matrix)
    return np.argsort(-(wrong.sum(1) + wrong[:, :-1].sum(0)), kind="stable")


def _off_diagonal(matrix: np.ndarray) -> np.ndarray:
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    return wrong
