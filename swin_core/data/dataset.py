"""The images of one split with their labels, read on demand.

A hold-out is drawn from the images' names and a seed alone, so that it depends neither on the order in which a file
system lists a folder nor on the version of a random number generator.
"""

import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from swin_core.errors import ConfigError, DataError, ImageError
from swin_core.images.preprocessing import crop_square

DECODING_THREADS = min(4, os.cpu_count() or 1)
"""Threads that decode images: decoding releases the interpreter's lock only in part, so more gain nothing."""

_decoding = threading.Lock()


def user_folder(variable: str) -> Path:
    """Return the folder that an environment variable names, by default `swinlens` in the user's cache folder."""
    if named := os.environ.get(variable):
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "swinlens"


def data_root(path: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of data sets: `path`, else `SWIN_DATA_ROOT`, else `swinlens` in the user's cache folder."""
    return user_folder("SWIN_DATA_ROOT") if path is None else Path(path).expanduser()


@dataclass(frozen=True)
class SkippedFile:
    """A file in a folder of images that is not used."""

    name: str
    """Path below the folder, such as `roses/notes.txt`."""
    class_name: str
    reason: str
    """What is wrong, without the name: "is empty"."""

    def __str__(self) -> str:
        return f"{self.name} {self.reason}"


@dataclass(frozen=True, eq=False)
class DataSet:
    """Labelled images of one split, read on demand.

    Attributes:
        name: name of the data set.
        split: "train", "test", "val" or "all".
        classes: class names; a label indexes into them. Empty for images without labels.
        labels: `(N,)`, int64; all -1 for images without labels.
        names: one name per image, such as `roses/12240303_80d87f77a3_n.jpg`.
        sources: what `read` turns into an image: encoded bytes, a path, or pixels `(H, W, C)`.
        read: reads one source; the second argument is the length in pixels that the shorter side needs, or None.
        coarse_labels: superclasses `(N,)`, int64, or None.
        coarse_classes: names of the superclasses.
        skipped: files of the data set that are not used; those of the whole data set for each of its splits.
    """

    name: str
    split: str
    classes: tuple[str, ...]
    labels: np.ndarray = field(repr=False)
    names: tuple[str, ...] = field(repr=False)
    sources: Sequence[Any] | np.ndarray = field(repr=False)
    read: Callable[[Any, int | None], Image.Image | np.ndarray] = field(repr=False)
    coarse_labels: np.ndarray | None = field(default=None, repr=False)
    coarse_classes: tuple[str, ...] = field(default=(), repr=False)
    skipped: tuple[SkippedFile, ...] = field(default=(), repr=False)
    _decoded: dict[int | None, np.ndarray] = field(default_factory=dict, init=False, repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int, shorter_side: int | None = None) -> Image.Image:
        """Read image `index` as RGB, at its own size or, if `shorter_side` pixels are enough, at a smaller one.

        Raises:
            DataError: the image cannot be read, or is an array of other channels.
        """
        image = self._read(index, shorter_side)
        if isinstance(image, np.ndarray):
            channels = image.shape[2]
            raise DataError(f"{self.names[index]} is an array of {channels} channels; read it by array().")
        return image

    def array(self, size: int | None = None) -> np.ndarray:
        """Decode all images: shorter side to `size` pixels, then a centre crop.

        The last result is cached, so that the next call with the same size costs nothing.

        Args:
            size: side in pixels; None keeps the images' own size, which must then be the same for all.

        Returns:
            `(N, size, size, 3)`, uint8, read-only; for arrays `(N, size, size, C)`, float32.

        Raises:
            DataError: an image cannot be read, or sizes or channels differ.
        """

        with _decoding:
            if size not in self._decoded:
                rows = self.rows(size)
                if errors := [row for row in rows if isinstance(row, DataError)]:
                    raise DataError(f"{len(errors)} of {len(self)} images cannot be read, the first: {errors[0]}")
                decoded = [row for row in rows if isinstance(row, np.ndarray)]
                shapes = {row.shape for row in decoded}
                if len(shapes) != 1:
                    listed = ", ".join(str(shape) for shape in sorted(shapes)[:3])
                    raise DataError(f"{self.name} has images of different shapes ({listed}); give them one shape.")
                stacked = np.stack(decoded)
                stacked.setflags(write=False)
                self._decoded.clear()
                self._decoded[size] = stacked
            return self._decoded[size]

    def rows(self, size: int | None) -> list[np.ndarray | DataError]:
        """Decode all images as `array` does; an image that cannot be read gives its error instead of pixels."""

        def decode(index: int) -> np.ndarray | DataError:
            try:
                return _square(self._read(index, size), size)
            except DataError as error:
                return error

        # Images in memory are small: handing them to threads would take longer than decoding them.
        if not all(isinstance(source, Path) for source in self.sources):
            return list(map(decode, range(len(self))))
        with ThreadPoolExecutor(DECODING_THREADS) as pool:
            return list(pool.map(decode, range(len(self))))

    def why_unreadable(self, index: int, error: DataError) -> SkippedFile:
        """Return image `index` as a skipped file, with the error that reading it raised."""
        name = self.names[index]
        reason = str(error).removeprefix(str(self.sources[index])).removeprefix(f"{name}:").strip().rstrip(".")
        label = int(self.labels[index])
        return SkippedFile(name, self.classes[label] if label >= 0 else "", reason)

    def subset(self, indices: Sequence[int] | np.ndarray, split: str) -> "DataSet":
        """Return the images at `indices`, in that order, as the split named `split`."""
        chosen = np.asarray(indices, dtype=np.int64)
        sources = self.sources
        return replace(
            self,
            split=split,
            labels=self.labels[chosen],
            names=tuple(self.names[index] for index in chosen),
            sources=sources[chosen] if isinstance(sources, np.ndarray) else [sources[index] for index in chosen],
            coarse_labels=None if self.coarse_labels is None else self.coarse_labels[chosen],
        )

    def _read(self, index: int, shorter_side: int | None) -> Image.Image | np.ndarray:
        try:
            return self.read(self.sources[index], shorter_side)
        except ImageError as error:
            # The error already names a path, but not an image in memory.
            on_disk = isinstance(self.sources[index], Path)
            raise DataError(str(error) if on_disk else f"{self.names[index]}: {error}") from error


def _square(image: Image.Image | np.ndarray, size: int | None) -> np.ndarray:
    """Resize the shorter side to `size`, crop the centre: `(size, size, C)`. None returns the whole image."""
    if size is None:
        return np.asarray(image)
    if isinstance(image, Image.Image):
        return np.asarray(image if image.size == (size, size) else crop_square(image, size))
    planes = np.ascontiguousarray(np.moveaxis(image, 2, 0))
    return np.stack([np.asarray(crop_square(Image.fromarray(plane), size)) for plane in planes], axis=2)


def holdout(dataset: DataSet, fraction: float, seed: int) -> tuple[DataSet, DataSet]:
    """Hold out the share `fraction` of each class, rounded down, but at least one image of a class with two or more.

    The draw depends on the images' names and on `seed` only.

    Returns:
        The remaining images as "train" and the held-out ones as "val", both in the order of `dataset`.

    Raises:
        ConfigError: `fraction` is not between 0 and 1.
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"the share held out must lie between 0 and 1, not {fraction}.")
    digests = [hashlib.sha256(f"{seed}:{name}".encode()).digest() for name in dataset.names]
    held_out = np.zeros(len(dataset), dtype=bool)
    for label in range(len(dataset.classes)):
        members = np.flatnonzero(dataset.labels == label)
        # 0.29 * 100 is 28.999999999999996: the addend keeps exact products exact.
        count = max(int(fraction * len(members) + 1e-9), min(1, len(members) - 1))
        held_out[sorted(members, key=lambda index: digests[index])[:count]] = True
    return dataset.subset(np.flatnonzero(~held_out), "train"), dataset.subset(np.flatnonzero(held_out), "val")


def limited(dataset: DataSet, count: int, seed: int) -> DataSet:
    """Return at most `count` images, drawn at random; all if `count` is 0."""
    if not count:
        return dataset
    order = np.random.default_rng(seed).permutation(len(dataset))
    return dataset.subset(order[:count], dataset.split)
