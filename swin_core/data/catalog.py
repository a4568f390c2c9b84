"""The images of some splits as columns, to filter, search and sort tens of thousands in a few milliseconds."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from swin_core.data.dataset import DataSet
from swin_core.errors import ConfigError


class Catalog:
    """A table of images, one per row, without their pixels.

    Args:
        parts: splits of one data set, concatenated.

    Raises:
        ConfigError: no split, or splits of different classes.

    Attributes:
        classes: class names.
        coarse_classes: names of the superclasses; empty where the data set has none.
        labels: `(N,)`, int64, into `classes`.
        coarse: `(N,)`, int64, into `coarse_classes`, or all 0.
        files: file names without folders, `(N,)`.
        part: index of the split, `(N,)`.
        index: index in that split, `(N,)`.
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

    def image(self, row: int) -> Image.Image:
        """Decode the image of a row.

        Raises:
            DataError: it cannot be read.
        """
        return self.parts[int(self.part[row])].image(int(self.index[row]))

    def matching(self, text: str) -> np.ndarray:
        """Return which images match a search text, `(N,)` bool.

        Every word must be part of the name of the file, the class or the superclass; letter case does not count.
        """
        matches = np.ones(len(self), bool)
        for word in text.lower().split():
            in_name = np.strings.find(self._lower, word) >= 0
            for names, column in ((self.classes, self.labels), (self.coarse_classes, self.coarse)):
                lower = [name.lower() for name in names]
                of_class = np.array([word in name.replace("_", " ") or word in name for name in lower], bool)
                if of_class.any():
                    in_name |= of_class[column]
            matches &= in_name
        return matches

    def by_name(self, rows: np.ndarray) -> np.ndarray:
        """Sort rows by file name."""
        return rows[np.argsort(self._rank[rows], kind="stable")]

    def coarse_of_class(self) -> np.ndarray:
        """Return the superclass of each class, `(classes,)` int64; 0 for a class without images."""
        result = np.zeros(len(self.classes), np.int64)
        result[self.labels] = self.coarse
        return result


def each_class_in_turn(labels: np.ndarray) -> np.ndarray:
    """Order images so that each class has its first image before any has its second, as on a sample sheet.

    Args:
        labels: `(n,)`, int64.

    Returns:
        Indices into `labels`, `(n,)` int64.
    """
    by_class = np.argsort(labels, kind="stable")
    ordered = labels[by_class]
    first = np.concatenate([[True], ordered[1:] != ordered[:-1]]) if len(labels) else np.zeros(0, bool)
    starts = np.flatnonzero(first)
    number = np.arange(len(labels)) - np.repeat(starts, np.diff(np.append(starts, len(labels))))
    return by_class[np.lexsort((ordered, number))]
