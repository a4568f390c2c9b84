"""How folders of images are laid out: class folders, splits, data sets in other folders, and which folders are offered.

Only names and the first bytes of a few files are read, so that a page can list folders of many thousands of images.
"""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from swin_core.errors import ImageError
from swin_core.images.read import HEADER_BYTES, image_format
from swin_core.images.sources import read_head

_SPLIT_FOLDERS = {"val": ("val", "valid", "validation"), "test": ("test",), "train": ("train",)}
"""Names of the folder of each split."""

_DEPTH = 4
"""Levels of folders below an offered one that are searched for data sets."""

_TRIED = 20
"""Files of a folder that are tried in search of an image."""


def offered_folders() -> list[Path]:
    """Return the folders that the environment variable `SWINLENS_DATA` names, separated as in `PATH`."""
    return [
        Path(name).expanduser().absolute() for name in os.environ.get("SWINLENS_DATA", "").split(os.pathsep) if name
    ]


def link_root(folder: Path) -> Path:
    """Return the folder that links in a folder may lead to: the offered folder that it lies in, else the folder."""
    real = os.path.realpath(folder)
    return next((root for root in offered_folders() if Path(real).is_relative_to(os.path.realpath(root))), folder)


def own_splits(folder: Path) -> dict[str, Path]:
    """Return the folders of the splits that a folder has: of "val", "test" and "train", in this order."""
    splits = {}
    for split, names in _SPLIT_FOLDERS.items():
        if folders := [folder / name for name in names if (folder / name).is_dir()]:
            splits[split] = folders[0]
    return splits


def has_own_split(folder: Path) -> bool:
    """Return whether a folder holds one folder for training and one for validation, each with the classes in it."""
    own = own_splits(folder)
    return "train" in own and len(own) > 1


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def subfolders(folder: Path, root: Path) -> list[Path]:
    """Return the folders in a folder by name, without hidden ones and without links that lead out of `root`."""
    real = os.path.realpath(root)
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if not entry.name.startswith(".") and is_folder(entry)]
    except OSError:
        return []
    children = [folder / name for name in sorted(names)]
    return [child for child in children if Path(os.path.realpath(child)).is_relative_to(real)]


def holds_images(folder: Path) -> bool:
    """Return whether a folder itself holds images, judged by its first files."""
    try:
        with os.scandir(folder) as entries:
            files = (entry.path for entry in entries if not entry.name.startswith(".") and not is_folder(entry))
            return any(map(_is_image, islice(files, _TRIED)))
    except OSError:
        return False


def class_folders(folder: Path, root: Path) -> list[Path]:
    """Return the folders in a folder that themselves hold images."""
    return [child for child in subfolders(folder, root) if holds_images(child)]


def nested_data_sets(folder: Path, root: Path) -> Iterator[Path]:
    """Yield a folder and the folders in it that can be opened as data sets, outer ones first.

    A data set has class folders, or its own split; or it has images without class folders and lies in no other data
    set.

    Args:
        folder: where to search, a few levels deep.
        root: the folder that links may lead to.
    """
    yield from _nested(folder, root, (), inside=False)


def _nested(folder: Path, root: Path, parents: tuple[str, ...], inside: bool) -> Iterator[Path]:
    real = os.path.realpath(folder)
    if real in parents:  # a link to a folder around it
        return
    split_folders = list(own_splits(folder).values()) if has_own_split(folder) else []
    is_labelled = bool(class_folders(folder, root)) or any(class_folders(split, root) for split in split_folders)
    if is_labelled or (not inside and holds_images(folder)):
        yield folder
    if len(parents) < _DEPTH:
        for child in subfolders(folder, root):
            if child not in split_folders:
                yield from _nested(child, root, (*parents, real), inside or is_labelled)


def _is_image(file: str) -> bool:
    try:
        image_format(read_head(file, HEADER_BYTES))
    except ImageError:
        return False
    return True
