"""Data sets in folders: one folder of images, or of multichannel arrays, for each class.

Files are recognised by their first bytes, whatever they are called. Images in subfolders of a class folder belong to
the class. Hidden files are left out; any other file that is not used is listed in `DataSet.skipped`.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from swin_core.data.dataset import DataSet, SkippedFile, holdout
from swin_core.data.layout import is_folder
from swin_core.errors import ConfigError, DataError, ImageError, first_names
from swin_core.images.arrays import TIFF_SIGNATURES, read_array
from swin_core.images.read import HEADER_BYTES, IMAGE_SUFFIXES, image_format, read_image
from swin_core.images.sources import read_head

ARRAY_SUFFIXES = (".npy", ".npz", ".tif", ".tiff")

IMAGE, ARRAY, TIFF = "image", "array", "TIFF"
"""Kinds of files; a TIFF may hold either."""

_CHUNK = 256
"""Files that a thread recognises in one go."""
_THREADS = 8
"""Threads that read the first bytes of files: on a disk that is not cached, they wait most of the time."""


def image_folder(
    path: str | os.PathLike[str],
    split: str | None = None,
    holdout: float = 0.1,
    seed: int = 0,
    root: Path | None = None,
) -> DataSet:
    """Open a folder with one folder of images for each class; classes and images are sorted by name.

    Args:
        path: the folder.
        split: None for all images, "train", or "val" for the share `holdout` of each class; see `dataset.holdout`.
        holdout: share held out as "val", between 0 and 1.
        seed: seed of the hold-out.
        root: the folder that links may lead to; by default `path`.

    Raises:
        ConfigError: another split, or a share out of range.
        DataError: no such folder, no images in it, or a class of which no image can be used.
    """
    _check_split(split)
    return _split(_labelled(_find_files(Path(path), root), (IMAGE, TIFF), read_encoded), split, holdout, seed)


def array_folder(
    path: str | os.PathLike[str],
    split: str | None = None,
    holdout: float = 0.1,
    seed: int = 0,
    root: Path | None = None,
) -> DataSet:
    """Open a folder as `image_folder` does, of `.npy`, `.npz` and TIFF files with any number of channels.

    Values are not rescaled: `array(size)` returns `(N, size, size, C)`, float32.
    """
    _check_split(split)
    return _split(_labelled(_find_files(Path(path), root), (ARRAY, TIFF), _read_channels), split, holdout, seed)


def open_folder(folder: Path, root: Path | None = None) -> DataSet:
    """Open all images of a folder of class folders or, where there are none, all arrays.

    Without class folders, the images in the folder itself are opened; they have no labels.

    Raises:
        DataError: as for `image_folder`.
    """
    found = _find_files(folder, root)
    if not found.by_class:
        return _unlabelled(found)
    kinds = {file.kind for files in found.by_class.values() for file in files}
    if IMAGE not in kinds and (ARRAY in kinds or (TIFF in kinds and not _is_image(found))):
        return _labelled(found, (ARRAY, TIFF), _read_channels)
    return _labelled(found, (IMAGE, TIFF), read_encoded)


def read_encoded(source: bytes | Path, shorter_side: int | None) -> Image.Image:
    """Read an image from bytes or a file, for `DataSet.read`."""
    return read_image(source, shorter_side=shorter_side)


def _read_channels(source: Path, shorter_side: int | None) -> np.ndarray:
    return read_array(source).astype(np.float32)


@dataclass(frozen=True)
class _File:
    """A file in a folder of images."""

    path: Path
    name: str
    """Path below the folder."""
    kind: str = ""
    """`IMAGE`, `ARRAY` or `TIFF`; empty for any other."""
    reason: str = ""
    """Why it is none of them."""
    leaves: bool = False
    """Whether it is a link that leads out of the folder."""

    @property
    def looks_like_data(self) -> bool:
        """Whether the file was meant as an image or array; of a link that leaves the folder, nothing is known."""
        return bool(self.kind) or self.leaves or self.path.suffix.lower() in IMAGE_SUFFIXES + ARRAY_SUFFIXES


@dataclass(frozen=True)
class _Found:
    """The files of a folder, by the class folder that they are in; those in the folder itself."""

    folder: Path
    by_class: dict[str, list[_File]]
    """Class folders by name, without those in which nothing looks like data."""
    outside: list[_File]
    """Files in the folder itself."""
    no_class: list[SkippedFile]
    """Class folders in which nothing looks like data."""


def _find_files(path: Path, root: Path | None) -> _Found:
    """List a folder and recognise its files.

    Raises:
        DataError: there is no such folder, or it cannot be listed.
    """
    if not os.path.isdir(path):
        raise DataError(f"there is no folder {str(path)[:200]!r}; name one that holds one folder for each class.")
    folder = path.resolve()
    link_root = folder if root is None else root.resolve()
    by_class: dict[str, list[_File]] = {}
    outside: list[_File] = []
    try:
        for entry in _entries(folder):
            if _leaves(entry, link_root):
                listed = by_class.setdefault(entry.name, []) if is_folder(entry) else outside
                listed.append(_away(folder, entry, link_root))
            elif is_folder(entry):
                by_class[entry.name] = list(_below(entry, folder, link_root, (folder,)))
            else:
                outside.append(_File(Path(entry.path), entry.name))
    except OSError as error:
        raise DataError(f"{folder} cannot be listed: {error.strerror or error}.") from error
    files = _recognised([*outside, *(file for files in by_class.values() for file in files)])
    recognised = {file.path: file for file in files}
    by_class = {name: [recognised[file.path] for file in files] for name, files in by_class.items()}
    return _Found(
        folder,
        {name: files for name, files in by_class.items() if any(file.looks_like_data for file in files)},
        [recognised[file.path] for file in outside],
        [
            SkippedFile(name, name, "is a folder without images")
            for name, files in by_class.items()
            if not any(file.looks_like_data for file in files)
        ],
    )


def _entries(folder: str | Path) -> list[os.DirEntry[str]]:
    """Return the entries of a folder by name, without hidden ones."""
    with os.scandir(folder) as entries:
        return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)


def _below(folder: os.DirEntry[str], top: Path, link_root: Path, parents: tuple[Path, ...]) -> Iterator[_File]:
    """Yield the files in a folder and in its subfolders."""
    real = Path(os.path.realpath(folder.path))
    if real in parents:  # a link to a folder around it
        return
    for entry in _entries(folder.path):
        if _leaves(entry, link_root):
            yield _away(top, entry, link_root)
        elif is_folder(entry):
            yield from _below(entry, top, link_root, (*parents, real))
        else:
            yield _File(Path(entry.path), _name(top, entry))


def _leaves(entry: os.DirEntry[str], link_root: Path) -> bool:
    # Not Path.resolve(), which raises RuntimeError for a link to itself.
    return entry.is_symlink() and not Path(os.path.realpath(entry.path)).is_relative_to(link_root)


def _away(top: Path, entry: os.DirEntry[str], link_root: Path) -> _File:
    return _File(Path(entry.path), _name(top, entry), reason=f"is a link that leaves {link_root}", leaves=True)


def _name(top: Path, entry: os.DirEntry[str]) -> str:
    return os.path.relpath(entry.path, top)


def _recognised(files: Sequence[_File]) -> list[_File]:
    """Return the files with their kinds, from their first bytes."""
    chunks = [files[start : start + _CHUNK] for start in range(0, len(files), _CHUNK)]
    with ThreadPoolExecutor(_THREADS) as pool:
        return [file for chunk in pool.map(lambda chunk: list(map(_recognise, chunk)), chunks) for file in chunk]


def _recognise(file: _File) -> _File:
    if file.reason:
        return file
    try:
        head = read_head(file.path, HEADER_BYTES)
        if head.startswith(TIFF_SIGNATURES):
            kind = TIFF
        elif head.startswith(b"\x93NUMPY") or (head.startswith(b"PK\3\4") and file.path.suffix.lower() == ".npz"):
            kind = ARRAY
        else:
            image_format(head)
            kind = IMAGE
    except ImageError as error:
        return _File(file.path, file.name, reason=str(error))
    return _File(file.path, file.name, kind)


def _is_image(found: _Found) -> bool:
    """Return whether the first TIFF is an image that has three channels or fewer."""
    first = next(file for files in found.by_class.values() for file in files if file.kind == TIFF)
    try:
        read_image(first.path)
    except ImageError:
        return False
    return True


def _labelled(
    found: _Found, kinds: tuple[str, ...], read: Callable[[Any, int | None], Image.Image | np.ndarray]
) -> DataSet:
    """Return the files of some kinds as a data set whose classes are the class folders."""
    used = {name: [file for file in files if file.kind in kinds] for name, files in found.by_class.items()}
    skipped = [
        SkippedFile(file.name, name, file.reason or f"is no {kinds[0]}")
        for name, files in found.by_class.items()
        for file in files
        if file.kind not in kinds
    ]
    if not any(used.values()):
        raise DataError(
            f"{found.folder} has no class folders with {kinds[0]}s in them{_what_there_is(found, skipped)}."
        )
    if lost := [name for name, files in used.items() if not files]:
        examples = first_names([str(file) for file in skipped if file.class_name in lost])
        raise DataError(
            f"{found.folder} has no {kinds[0]} left of {first_names(lost)}: {examples}; "
            "mend these files, or move the folder away."
        )
    return DataSet(
        name=found.folder.name,
        split="all",
        classes=tuple(used),
        labels=np.repeat(np.arange(len(used), dtype=np.int64), [len(files) for files in used.values()]),
        names=tuple(file.name for files in used.values() for file in files),
        sources=[file.path for files in used.values() for file in files],
        read=read,
        skipped=(*skipped, *found.no_class),
    )


def _unlabelled(found: _Found) -> DataSet:
    """Return the images in the folder itself, without labels."""
    used = [file for file in found.outside if file.kind in (IMAGE, TIFF)]
    skipped = [SkippedFile(file.name, "", file.reason or "is no image") for file in found.outside if file not in used]
    if not used:
        raise DataError(
            f"{found.folder} has no class folders with images or arrays in them{_what_there_is(found, skipped)}."
        )
    return DataSet(
        name=found.folder.name,
        split="all",
        classes=(),
        labels=np.full(len(used), -1, np.int64),
        names=tuple(file.name for file in used),
        sources=[file.path for file in used],
        read=read_encoded,
        skipped=(*skipped, *found.no_class),
    )


def _what_there_is(found: _Found, skipped: Sequence[SkippedFile]) -> str:
    """Return the end of a message about a folder without images."""
    if skipped:
        return f": {first_names([str(file) for file in skipped])}"
    if any(file.kind for file in found.outside):
        return "; move the images of each class into a folder of its own"
    return ""


def _check_split(split: str | None) -> None:
    if split not in (None, "train", "val"):
        raise ConfigError(f"a folder has the splits train and val, not {split!r}.")


def _split(dataset: DataSet, split: str | None, share: float, seed: int) -> DataSet:
    return dataset if split is None else holdout(dataset, share, seed)[split == "val"]
