"""The images of some splits as columns: filtered, searched and sorted by the ten thousands in a few milliseconds."""

from collections.abc import Sequence

import numpy as np

from swin_core.data.dataset import DataSet
from swin_core.errors import ConfigError

__all__ = ["Catalog", "each_class_in_turn"]


class Catalog:
    """What is known of every image without a look at it, one row an image.

    Args:
        parts: splits of one data set; their rows follow one another.

    Raises:
        ConfigError: no split, or splits of different classes.

    Attributes:
        classes: class names.
        coarse_classes: names of the superclasses; empty where the data set has none.
        labels: `(N,)`, int64, into `classes`.
        coarse: `(N,)`, int64, into `coarse_classes`, or all 0.
        files: `(N,)`, the file's name without its folder.
        part: `(N,)`, which of the splits.
        index: `(N,)`, the place in that split.
    """

    def __init__(self, parts: Sequence[DataSet]):
        if not parts or any(part.classes != parts[0].classes for part in parts):
            raise ConfigError("a catalog needs one split or more, all with the same classes.")
        self.parts = tuple(parts)
        self.classes, self.coarse_classes = parts[0].classes, parts[0].coarse_classes
        self.labels = np.concatenate([part.labels for part in parts])
        coarse = [np.zeros(len(part), np.int64) if part.coarse_labels is None else part.coarse_labels for part in parts]
        self.coarse = np.concatenate(coarse)
        self.part = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        self.index = np.concatenate([np.arange(len(part)) for part in parts])
        self.files = np.array([name.rpartition("/")[2] for part in parts for name in part.names], dtype=np.str_)
        self._lower = np.strings.lower(self.files)
        self._rank = np.empty(len(self.files), np.int64)
        self._rank[np.argsort(self._lower, kind="stable")] = np.arange(len(self.files))

    def __len__(self) -> int:
        return len(self.labels)

    def matching(self, text: str) -> np.ndarray:
        """The images of which every word of the text is part of the file's, the class's or the superclass's name.

        Letter case does not count.

        Returns:
            `(N,)`, bool.
        """
        found = np.ones(len(self), bool)
        for word in text.lower().split():
            named = np.strings.find(self._lower, word) >= 0
            for names, column in ((self.classes, self.labels), (self.coarse_classes, self.coarse)):
                fits = np.array(
                    [word in name.lower().replace("_", " ") or word in name.lower() for name in names], bool
                )
                if fits.any():
                    named |= fits[column]
            found &= named
        return found

    def by_name(self, rows: np.ndarray) -> np.ndarray:
        """Some rows, sorted by the files' names."""
        return rows[np.argsort(self._rank[rows], kind="stable")]

    def coarse_of_class(self) -> np.ndarray:
        """The superclass of each class, `(classes,)`, int64; of a class without images 0."""
        result = np.zeros(len(self.classes), np.int64)
        result[self.labels] = self.coarse
        return result


def each_class_in_turn(labels: np.ndarray) -> np.ndarray:
    """An order in which each class has its first image before any has its second, as on a sample sheet.

    Args:
        labels: `(n,)`, int64.

    Returns:
        `(n,)`, int64: places in `labels`.
    """
    grouped = np.argsort(labels, kind="stable")
    ordered = labels[grouped]
    first = np.concatenate([[True], ordered[1:] != ordered[:-1]]) if len(labels) else np.zeros(0, bool)
    starts = np.flatnonzero(first)
    number = np.arange(len(labels)) - np.repeat(starts, np.diff(np.append(starts, len(labels))))
    return grouped[np.lexsort((ordered, number))]
