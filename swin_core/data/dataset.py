"""Data sets: CIFAR-100, flower_photos, and any folder of class folders with images or multichannel arrays.

Splits are fixed by a seed and by the images' names alone, so that they depend neither on the order in which
a file system lists a folder nor on the version of a random number generator.
"""

import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from swin_core.data.cifar100 import find_layout, read_parquet, read_pickles
from swin_core.errors import ConfigError, DataError, ImageError
from swin_core.images.preprocessing import crop_square
from swin_core.images.read import PICTURE_SUFFIXES, read_array, read_image

__all__ = ["DataSet", "array_folder", "cifar100", "data_root", "flower_photos", "holdout", "image_folder"]

ARRAY_SUFFIXES = (".npy", ".npz", ".tif", ".tiff")
FLOWERS = ("daisy", "dandelion", "roses", "sunflowers", "tulips")
_FLOWERS_SEED = 0
# Decoding releases the interpreter's lock in part only; more threads than this gain nothing.
_DECODING_THREADS = min(4, os.cpu_count() or 1)
_DECODING = threading.Lock()


def data_root(path: str | os.PathLike[str] | None = None) -> Path:
    """Find the folder of data sets: `path`, else `SWIN_DATA_ROOT`, else `swinlens` in the user's cache."""
    if path is not None:
        return Path(path).expanduser()
    if named := os.environ.get("SWIN_DATA_ROOT"):
        return Path(named).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "swinlens"


@dataclass(frozen=True, eq=False)
class DataSet:
    """Labelled images of one split, read when they are asked for.

    Attributes:
        name: the data set's name.
        split: "train", "test", "val" or "all".
        classes: class names; a label indexes into them.
        labels: `(N,)`, int64.
        names: one name an image, such as `roses/12240303_80d87f77a3_n.jpg`.
        sources: what `read` turns into an image: encoded bytes, a path, or pixels `(H, W, C)`.
        read: reads one source; the second argument is the shorter side wanted, in pixels, or None for all.
        coarse_labels: superclasses `(N,)`, int64, where the data set has them.
        coarse_classes: names of the superclasses.
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
    _decoded: dict[int | None, np.ndarray] = field(default_factory=dict, init=False, repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int, shorter_side: int | None = None) -> Image.Image:
        """Read image `index`, RGB, at its own size; or somewhat smaller if `shorter_side` pixels are enough.

        Raises `DataError` if it cannot be read, or has other channels than an image.
        """
        picture = self._read(index, shorter_side)
        if isinstance(picture, np.ndarray):
            channels = picture.shape[2]
            raise DataError(f"{self.names[index]} is an array of {channels} channels; read it by array()")
        return picture

    def array(self, size: int | None = None) -> np.ndarray:
        """Decode all images once: shorter side to `size` pixels, centre crop.

        The newest result is kept in memory, so that the next call with the same size costs nothing.

        Args:
            size: side in pixels; None keeps the images' own size, which must then be one size for all.

        Returns:
            `(N, size, size, 3)`, uint8, read-only; of arrays `(N, size, size, C)`, float32.

        Raises:
            DataError: an image cannot be read, or sizes or channels differ.
        """
        with _DECODING:
            if size not in self._decoded:
                rows, broken = self._decode(size)
                if broken:
                    first = next(iter(broken.values()))
                    raise DataError(f"{len(broken)} of {len(self)} images cannot be read, the first: {first}")
                self._keep(size, rows)
            return self._decoded[size]

    def readable(self, size: int) -> tuple["DataSet", tuple[str, ...]]:
        """Leave out the images that cannot be read.

        Args:
            size: side in pixels; the next call of `array(size)` finds the result ready.

        Returns:
            The data set without them, and one line on each image left out.
        """
        with _DECODING:
            rows, broken = self._decode(size)
            rest = self.subset([index for index in range(len(self)) if index not in broken], self.split)
            if len(rest):
                rest._keep(size, rows)
            return rest, tuple(broken.values())

    def subset(self, indices: Sequence[int] | np.ndarray, split: str) -> "DataSet":
        """Take the images at `indices`, in that order, as the split named `split`."""
        chosen = np.asarray(indices, dtype=np.int64)
        sources = self.sources
        taken = sources[chosen] if isinstance(sources, np.ndarray) else [sources[index] for index in chosen]
        return replace(
            self,
            split=split,
            labels=self.labels[chosen],
            names=tuple(self.names[index] for index in chosen),
            sources=taken,
            coarse_labels=None if self.coarse_labels is None else self.coarse_labels[chosen],
        )

    def _read(self, index: int, size: int | None) -> Image.Image | np.ndarray:
        try:
            return self.read(self.sources[index], size)
        except ImageError as error:
            # A path is named by the error already.
            named = isinstance(self.sources[index], Path)
            raise DataError(str(error) if named else f"{self.names[index]}: {error}") from error

    def _decode(self, size: int | None) -> tuple[list[np.ndarray], dict[int, str]]:
        def row(index: int) -> np.ndarray | str:
            try:
                return _square(self._read(index, size), size)
            except DataError as error:
                return str(error)

        if all(isinstance(source, Path) for source in self.sources):
            with ThreadPoolExecutor(_DECODING_THREADS) as pool:
                rows = list(pool.map(row, range(len(self))))
        else:
            # Images in memory are small: threads would take longer over handing them out than over decoding them.
            rows = list(map(row, range(len(self))))
        broken = {index: row for index, row in enumerate(rows) if isinstance(row, str)}
        return [row for row in rows if not isinstance(row, str)], broken

    def _keep(self, size: int | None, rows: list[np.ndarray]) -> None:
        shapes = {row.shape for row in rows}
        if len(shapes) != 1:
            kinds = ", ".join(str(shape) for shape in sorted(shapes)[:3])
            raise DataError(f"{self.name} has images of different shapes ({kinds}); make them alike")
        decoded = np.stack(rows)
        decoded.setflags(write=False)
        self._decoded.clear()
        self._decoded[size] = decoded


def _square(picture: Image.Image | np.ndarray, size: int | None) -> np.ndarray:
    """`(size, size, C)`: what a model of that size sees of the image, or all of it if `size` is None."""
    if size is None:
        return np.asarray(picture)
    if isinstance(picture, Image.Image):
        return np.asarray(picture if picture.size == (size, size) else crop_square(picture, size))
    planes = np.ascontiguousarray(np.moveaxis(picture, 2, 0))
    return np.stack([np.asarray(crop_square(Image.fromarray(plane), size)) for plane in planes], axis=2)


def cifar100(root: str | os.PathLike[str] | None = None, split: str = "train") -> DataSet:
    """CIFAR-100 (Krizhevsky 2009): 32-pixel images of 100 classes in 20 superclasses.

    Args:
        root: the data root; the files may lie in it, in its `cifar100` or in its `cifar-100-python`, in the
            hub's parquet layout or in the original one.
        split: "train" (50,000) or "test" (10,000).

    Raises:
        ConfigError: another split.
        DataError: the files are missing, malformed, or would run code.
    """
    if split not in ("train", "test"):
        raise ConfigError(f"CIFAR-100 has the splits train and test, not {split!r}")
    files = find_layout(data_root(root), split)
    content = read_parquet(files) if files[0].suffix == ".parquet" else read_pickles(files[0])
    return DataSet(
        name="cifar100",
        split=split,
        classes=content.classes,
        labels=content.labels,
        names=content.names,
        sources=content.pictures,
        read=_read_picture if files[0].suffix == ".parquet" else _read_pixels,
        coarse_labels=content.coarse_labels,
        coarse_classes=content.coarse_classes,
    )


def flower_photos(root: str | os.PathLike[str] | None = None, split: str = "train") -> DataSet:
    """TensorFlow's flower_photos: 3,670 photos of five kinds of flower.

    Args:
        root: the data root; the class folders lie in it or in its `flower_photos`.
        split: "train" (3,306) or "val" (364: one tenth of each class, rounded down, by a fixed seed).

    Raises:
        ConfigError: another split.
        DataError: a class folder is missing.
    """
    if split not in ("train", "val"):
        raise ConfigError(f"flower_photos has the splits train and val, not {split!r}")
    place = data_root(root)
    folder = place / "flower_photos" if (place / "flower_photos").is_dir() else place
    if missing := [name for name in FLOWERS if not (folder / name).is_dir()]:
        raise DataError(
            f"flower_photos is not in {place} (no folder {missing[0]}); "
            "run swinlens data flower_photos, or set SWIN_DATA_ROOT"
        )
    dataset = image_folder(folder, split, seed=_FLOWERS_SEED)
    if dataset.classes != FLOWERS:
        raise DataError(f"{folder} has other class folders than flower_photos; read it by image_folder")
    return replace(dataset, name="flower_photos")


def image_folder(
    path: str | os.PathLike[str], split: str | None = None, holdout: float = 0.1, seed: int = 0
) -> DataSet:
    """Any folder with one folder of images a class; classes and images are sorted by name.

    Args:
        path: the folder.
        split: None for all images, "train", or "val" for the share `holdout` of each class, rounded down.
        holdout: share held out for "val", between 0 and 1.
        seed: which images are held out.

    Raises:
        ConfigError: another split, or a share outside its range.
        DataError: no such folder, no images in it, or a link that leaves it.
    """
    return _class_folders(Path(path), PICTURE_SUFFIXES, _read_picture, split, holdout, seed)


def array_folder(
    path: str | os.PathLike[str], split: str | None = None, holdout: float = 0.1, seed: int = 0
) -> DataSet:
    """The like of `image_folder` for `.npy`, `.npz` and TIFF files of any number of channels and bit depth.

    Values are not rescaled; `array(size)` gives `(N, size, size, C)`, float32.
    """
    return _class_folders(Path(path), ARRAY_SUFFIXES, _read_channels, split, holdout, seed)


def holdout(dataset: DataSet, fraction: float, seed: int) -> tuple[DataSet, DataSet]:
    """Hold out the share `fraction` of each class, rounded down.

    Which images these are depends on their names and on `seed` only.

    Returns:
        What is left, as "train", and what is held out, as "val"; both in the order of `dataset`.

    Raises:
        ConfigError: `fraction` is not between 0 and 1.
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"the share held out must lie between 0 and 1, not {fraction}")
    digests = [hashlib.sha256(f"{seed}:{name}".encode()).digest() for name in dataset.names]
    held = np.zeros(len(dataset), dtype=bool)
    for label in range(len(dataset.classes)):
        members = np.flatnonzero(dataset.labels == label)
        # 0.29 * 100 is 28.999999999999996: the addend keeps what is whole on paper whole.
        count = int(fraction * len(members) + 1e-9)
        held[sorted(members, key=lambda index: digests[index])[:count]] = True
    return dataset.subset(np.flatnonzero(~held), "train"), dataset.subset(np.flatnonzero(held), "val")


def _class_folders(
    path: Path,
    suffixes: tuple[str, ...],
    read: Callable[[Any, int | None], Image.Image | np.ndarray],
    split: str | None,
    fraction: float,
    seed: int,
) -> DataSet:
    if split not in (None, "train", "val"):
        raise ConfigError(f"a folder has the splits train and val, not {split!r}")
    if not path.is_dir():
        raise DataError(f"there is no folder {str(path)!r}; name one that holds one folder for each class")
    root = path.resolve()
    names: list[str] = []
    labels: list[int] = []
    classes: list[str] = []
    for folder in _inside(root, root):
        if not folder.is_dir():
            continue
        if members := [file for file in _inside(folder, root) if file.suffix.lower() in suffixes]:
            names += [f"{folder.name}/{file.name}" for file in members]
            labels += [len(classes)] * len(members)
            classes.append(folder.name)
    if not names:
        raise DataError(f"{path} has no class folders with files of the kinds {' '.join(suffixes)}")
    every = DataSet(
        name=root.name,
        split="all",
        classes=tuple(classes),
        labels=np.array(labels, dtype=np.int64),
        names=tuple(names),
        sources=[root / name for name in names],
        read=read,
    )
    if split is None:
        return every
    train, held = holdout(every, fraction, seed)
    return train if split == "train" else held


def _inside(folder: Path, root: Path) -> Iterator[Path]:
    """Yield the entries of `folder` sorted by name, without hidden ones; refuse links that leave `root`."""
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue
        # Not entry.resolve(), which raises RuntimeError on a link to itself.
        if entry.is_symlink() and not Path(os.path.realpath(entry)).is_relative_to(root):
            raise DataError(f"{entry} is a link that leaves {root}; put the file itself there")
        yield entry


def _read_picture(source: bytes | Path, size: int | None) -> Image.Image:
    return read_image(source, shorter_side=size)


def _read_pixels(source: np.ndarray, size: int | None) -> Image.Image:
    return Image.fromarray(source)


def _read_channels(source: Path, size: int | None) -> np.ndarray:
    return read_array(source).astype(np.float32)
