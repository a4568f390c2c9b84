"""Confusion matrices: counts by true and predicted class, of classes or of groups of them."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Mistake:
    """A pair of classes that were confused, by their indices in the matrix."""

    truth: int
    predicted: int
    count: int
    share: float
    """Share of the images of the true class, 0 to 1."""


def confusion(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Count images by true and predicted class.

    Args:
        truth: true classes in `[0, classes)`, `(N,)` int64.
        predicted: predicted classes in `[-1, classes)`, `(N,)` int64; -1 stands for any other class.
        classes: number C of classes.

    Returns:
        `(C, C + 1)` int64, rows by true class; the last column counts other classes.
    """
    columns = np.where(predicted < 0, classes, predicted)
    cells = truth * (classes + 1) + columns
    return np.bincount(cells, minlength=classes * (classes + 1)).reshape(classes, classes + 1)


def grouped(matrix: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    """Sum a confusion matrix over groups of classes.

    Args:
        matrix: `(C, C + 1)`, from `confusion`.
        groups: the group of each class, `(C,)` int64.
        count: number G of groups.

    Returns:
        `(G, G + 1)` int64.
    """
    member = np.zeros((len(groups) + 1, count + 1), np.int64)
    member[np.arange(len(groups)), groups] = 1
    member[-1, -1] = 1
    return member[:-1, :-1].T @ matrix @ member


def most_frequent(matrix: np.ndarray, at_most: int) -> list[Mistake]:
    """Return the `at_most` mistakes with the most images; of equal counts, the greater share comes first."""
    counts = _off_diagonal(matrix)
    with np.errstate(invalid="ignore"):
        shares = np.nan_to_num(counts / matrix.sum(1, keepdims=True))
    order = np.lexsort((-shares.ravel(), -counts.ravel()))[:at_most]
    pairs = zip(*np.unravel_index(order, counts.shape), strict=True)
    mistakes = [Mistake(int(i), int(j), int(counts[i, j]), float(shares[i, j])) for i, j in pairs]
    return [mistake for mistake in mistakes if mistake.count]


def worst_classes(matrix: np.ndarray) -> np.ndarray:
    """Return the classes `(C,)` by the number of mistakes that involve them, most first."""
    wrong = _off_diagonal(matrix)
    return np.argsort(-(wrong.sum(1) + wrong[:, :-1].sum(0)), kind="stable")


def _off_diagonal(matrix: np.ndarray) -> np.ndarray:
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    return wrong
