"""The data sets on this machine, and their images by name, such as `cifar100/test/1234`.

A name comes from an address or a widget, so it is checked against an allow-list before any file is looked at, and a
folder is offered only if it lies in the data root.
"""

import os
import re
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dashboard.shared.cache import InputImage, read_input_image
from swin_core.data.dataset import DataSet, data_root
from swin_core.data.folders import image_folder
from swin_core.data.public import PublicDataSet
from swin_core.data.registry import DATA_SETS
from swin_core.errors import DataError
from swin_core.images.read import IMAGE_SUFFIXES
from swin_core.system.cache import LRUCache

__all__ = [
    "NAME_PATTERN",
    "DataSetEntry",
    "data_image",
    "data_sets",
    "find_image",
    "image_name",
    "image_state",
    "open_split",
]

NAME_PATTERN = re.compile(
    r"(?P<set>[^./\\\x00-\x1f\x7f-\x9f\ud800-\udfff][^/\\\x00-\x1f\x7f-\x9f\ud800-\udfff]{0,99})"
    r"/(?P<split>train|val|test|all)/(?P<index>[0-9]{1,8})"
)
"""Name of an image: data set, split, and place in the split from 0.

No `..`, no absolute path, no control character fits it; nor do bytes that are no text, which no address can hold.
"""

_NO_PICTURE = "an image of a data set is named like cifar100/test/1234"
# A CIFAR-100 train split takes 125 MB, the test split 25 MB, a split of files next to nothing.
_splits: LRUCache[DataSet] = LRUCache(4)


@dataclass(frozen=True)
class DataSetEntry:
    """A data set that is on this machine."""

    name: str
    """As in the names of its images."""
    title: str
    splits: tuple[str, ...]
    """The one to start with is first: images that training holds back, where there are such."""


def data_sets() -> list[DataSetEntry]:
    """Return the data sets in the data root: the registered ones first, then folders of class folders by name."""
    root = data_root()
    found = []
    for public in DATA_SETS.values():
        if splits := tuple(split for split in public.splits if _files(public, root, split)):
            found.append(DataSetEntry(public.name, public.title, splits))
    return found + [DataSetEntry(folder.name, folder.name, _folder_splits(folder)) for folder in _class_folders(root)]


def image_name(collection: str, split: str, index: int) -> str:
    """The name of the image at a place of a split."""
    return f"{collection}/{split}/{index}"


def data_image(name: str) -> InputImage:
    """The image of that name, such as `flowers/val/17`, with its file's name as title and its class as truth.

    Raises:
        DataError: no such name, data set, split or image; or the image cannot be read.
    """
    data, index = find_image(name)
    file = data.names[index].rpartition("/")[2]
    truth = data.classes[int(data.labels[index])].replace("_", " ")
    return read_input_image(image_state(name, data, index), file, truth, partial(data.image, index))


def image_state(name: str, data: DataSet, index: int) -> Hashable:
    """What tells an image from another one that had its name before: the image's file, its time and size."""
    source = data.sources[index]
    # The name of the file too: one that is added or taken away moves the places of those behind it.
    return name, data.names[index], _stamp(source) if isinstance(source, Path) else (len(data), str(data_root()))


def find_image(name: str) -> tuple[DataSet, int]:
    """The split that an image's name is of, and the image's place in it.

    Raises:
        DataError: no such name, data set, split or image.
    """
    found = NAME_PATTERN.fullmatch(name)
    if found is None:
        raise DataError(f"There is no image {name[:80]!r}: {_NO_PICTURE}.")
    data, index = open_split(found["set"], found["split"]), int(found["index"])
    if index >= len(data):
        raise DataError(f"There is no image {name}: this split has {len(data)} of them, counted from 0.")
    return data, index


def open_split(collection: str, split: str) -> DataSet:
    """A split of a data set, opened once for each state of its files.

    Raises:
        DataError: it is not on this machine, or malformed.
    """
    root = data_root()
    public = DATA_SETS.get(collection)
    if public and split in public.splits:
        state = tuple(map(_stamp, _files(public, root, split)))
        return _splits.get((root, collection, split, state), lambda: public.open(root, split))
    for folder in _class_folders(root):
        if folder.name == collection and split in _folder_splits(folder):
            place = folder if split == "all" else folder / split
            return _splits.get((root, collection, split, _folder_state(place)), partial(image_folder, place))
    raise DataError(
        f"There is no data set {collection[:80]} with a split {split[:80]} in {root}; "
        "run swinlens data, or set SWIN_DATA_ROOT to the folder that holds it."
    )


def _files(public: PublicDataSet, root: Path, split: str) -> list[Path]:
    try:
        return public.find(root, split)
    except OSError:
        return []


def _class_folders(root: Path) -> Iterator[Path]:
    """Yield the folders in the data root with class folders, or with `train` and `val` that hold class folders."""
    public = {path for known in DATA_SETS.values() for split in known.splits for path in _files(known, root, split)}
    for folder in sorted(_folders(root)):
        offered = NAME_PATTERN.fullmatch(f"{folder.name}/all/0") and folder.name not in DATA_SETS
        if offered and folder not in public and _folder_splits(folder):
            yield folder


def _folder_splits(folder: Path) -> tuple[str, ...]:
    own = tuple(split for split in ("val", "test", "train") if _holds_classes(folder / split))
    return own or (("all",) if _holds_classes(folder) else ())


def _holds_classes(folder: Path) -> bool:
    return any(_holds_a_picture(child) for child in _folders(folder))


def _holds_a_picture(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(Path(entry.name).suffix.lower() in IMAGE_SUFFIXES for entry in entries)
    except OSError:
        return False


def _folders(folder: Path) -> list[Path]:
    """The folders in a folder, without hidden ones and without links that lead out of it."""
    try:
        there = [child for child in folder.iterdir() if child.is_dir() and not child.name.startswith(".")]
    except OSError:
        return []
    inside = Path(os.path.realpath(folder))
    return [child for child in there if Path(os.path.realpath(child)).is_relative_to(inside)]


def _folder_state(folder: Path) -> tuple[Hashable, ...]:
    """What changes when an image is added or taken away: the times of the class folders."""
    return tuple(_stamp(place) for place in (folder, *sorted(_folders(folder))))


def _stamp(path: Path) -> Hashable:
    try:
        seen = path.stat()
    except OSError:
        return str(path), None
    return str(path), seen.st_mtime_ns, seen.st_size
