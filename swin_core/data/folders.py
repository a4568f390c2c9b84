"""Data sets in folders: one folder of images, or of multichannel arrays, for each class."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from swin_core.data.dataset import DataSet, holdout
from swin_core.errors import ConfigError, DataError
from swin_core.images.arrays import read_array
from swin_core.images.read import IMAGE_SUFFIXES, read_image

ARRAY_SUFFIXES = (".npy", ".npz", ".tif", ".tiff")


def image_folder(
    path: str | os.PathLike[str], split: str | None = None, holdout: float = 0.1, seed: int = 0
) -> DataSet:
    """Open a folder with one folder of images for each class; classes and images are sorted by name.

    Args:
        path: the folder.
        split: None for all images, "train", or "val" for the share `holdout` of each class, rounded down.
        holdout: share held out as "val", between 0 and 1.
        seed: seed of the hold-out.

    Raises:
        ConfigError: another split, or a share out of range.
        DataError: no such folder, no images in it, or a link that leaves it.
    """
    return _class_folders(Path(path), IMAGE_SUFFIXES, read_encoded, split, holdout, seed)


def array_folder(
    path: str | os.PathLike[str], split: str | None = None, holdout: float = 0.1, seed: int = 0
) -> DataSet:
    """Open a folder as `image_folder` does, of `.npy`, `.npz` and TIFF files with any number of channels.

    Values are not rescaled: `array(size)` returns `(N, size, size, C)`, float32.
    """
    return _class_folders(Path(path), ARRAY_SUFFIXES, _read_channels, split, holdout, seed)


def open_folder(folder: Path) -> DataSet:
    """Open all images of a folder of class folders or, where there are none, all arrays."""
    try:
        return image_folder(folder)
    except DataError:
        if not folder.is_dir():
            raise
        try:
            return array_folder(folder)
        except DataError as error:
            raise DataError(f"{folder} has no class folders with images or arrays in them.") from error


def read_encoded(source: bytes | Path, shorter_side: int | None) -> Image.Image:
    """Read an image from bytes or a file, for `DataSet.read`."""
    return read_image(source, shorter_side=shorter_side)


def _read_channels(source: Path, shorter_side: int | None) -> np.ndarray:
    return read_array(source).astype(np.float32)


def _class_folders(
    path: Path,
    suffixes: tuple[str, ...],
    read: Callable[[Any, int | None], Image.Image | np.ndarray],
    split: str | None,
    share: float,
    seed: int,
) -> DataSet:
    if split not in (None, "train", "val"):
        raise ConfigError(f"a folder has the splits train and val, not {split!r}.")
    if not path.is_dir():
        raise DataError(f"there is no folder {str(path)!r}; name one that holds one folder for each class.")
    root = path.resolve()
    names: list[str] = []
    labels: list[int] = []
    classes: list[str] = []
    for folder in _entries(root, root):
        if not folder.is_dir():
            continue
        if files := [file for file in _entries(folder, root) if file.suffix.lower() in suffixes]:
            names += [f"{folder.name}/{file.name}" for file in files]
            labels += [len(classes)] * len(files)
            classes.append(folder.name)
    if not names:
        raise DataError(f"{path} has no class folders with files of the kinds {' '.join(suffixes)}.")
    dataset = DataSet(
        name=root.name,
        split="all",
        classes=tuple(classes),
        labels=np.array(labels, dtype=np.int64),
        names=tuple(names),
        sources=[root / name for name in names],
        read=read,
    )
    if split is None:
        return dataset
    return holdout(dataset, share, seed)[split == "val"]


def _entries(folder: Path, root: Path) -> Iterator[Path]:
    """Yield the entries of `folder` by name, without hidden ones; refuse links that leave `root`."""
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue
        # Not entry.resolve(), which raises RuntimeError for a link to itself.
        if entry.is_symlink() and not Path(os.path.realpath(entry)).is_relative_to(root):
            raise DataError(f"{entry} is a link that leaves {root}; put the file itself there.")
        yield entry
