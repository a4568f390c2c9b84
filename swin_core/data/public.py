"""A public data set: what the project has to know to list, open and download it."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from swin_core.data.dataset import DataSet, data_root
from swin_core.errors import ConfigError, DataError


@dataclass(frozen=True)
class Archive:
    """A compressed tar file that holds a data set in one folder."""

    name: str
    """Name of the data set for `swinlens data`."""
    url: str
    size: int
    """Bytes; an upper bound where there is no checksum."""
    sha256: str
    """Empty where the server packs the file anew each time: the first download then records that of its images."""
    folder: str
    """Name of the folder, in the data root and, unless `inside` is set, in the archive."""
    unpacked: int
    """Bytes on disk, to check the free space; an upper bound where there is no checksum."""
    inside: str = ""
    """Where the class folders lie below the archive's top folder; the rest of the archive is not unpacked."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Smallest number of images of each class; counted where there is no checksum."""

    @property
    def file(self) -> str:
        """File name of the archive."""
        return self.url.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class PublicDataSet:
    """A public data set: a module that defines one, and a line in `swin_core.data.registry`, add it to the project."""

    name: str
    """Name in commands, recipes and query parameters."""
    title: str
    splits: tuple[str, ...]
    """Splits on disk. The first one is used for evaluation; without "train" no model can be trained on it by name."""
    open: Callable[[Path, str], DataSet]
    """Opens a split in a data root; raises `DataError` where it is missing or damaged."""
    find: Callable[[Path, str], list[Path]]
    """Returns a split's files, or its folder and class folders, in a data root; an empty list if it is missing."""
    archive: Archive | None = None
    subject: str = "classes"
    """What its classes are, as in "5 flowers"."""

    def locate(self, root: str | os.PathLike[str] | None, split: str) -> list[Path]:
        """Return what `find` returns for a split.

        Raises:
            ConfigError: another split.
            DataError: it is missing.
        """
        if split not in self.splits:
            raise ConfigError(f"{self.title} has the splits {' and '.join(self.splits)}, not {split!r}.")
        folder = data_root(root)
        if paths := self.find(folder, split):
            return paths
        raise DataError(f"{self.title} is not in {folder}; run swinlens data {self.name}, or set SWIN_DATA_ROOT.")

    def folder(self, root: Path) -> Path | None:
        """Return the folder that holds all splits in a data root, or None."""
        paths = [self.find(root, split) for split in self.splits]
        if not all(paths):
            return None
        first = paths[-1][0]
        return first if first.is_dir() else first.parent
