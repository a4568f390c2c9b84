"""The data sets on this machine, and their images by name, such as `cifar100/test/1234`.

Names come from widgets and from query parameters, so each is matched against `NAME_PATTERN` before any file is touched;
folders are offered only if they lie in the data root.
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
from swin_core.data.registry import DATA_SETS, own_splits
from swin_core.errors import DataError
from swin_core.images.read import IMAGE_SUFFIXES
from swin_core.system.cache import LRUCache

NAME_PATTERN = re.compile(
    r"(?P<set>[^./\\\x00-\x1f\x7f-\x9f\ud800-\udfff][^/\\\x00-\x1f\x7f-\x9f\ud800-\udfff]{0,99})"
    r"/(?P<split>train|val|test|all)/(?P<index>[0-9]{1,8})"
)
"""Name of an image: data set, split, and index in the split.

It excludes `..`, absolute paths, control characters, and surrogates, which no URL can contain.
"""

# The train split of CIFAR-100 takes 125 MB, its test split 25 MB, splits of files nearly nothing.
_splits: LRUCache[DataSet] = LRUCache(4)


@dataclass(frozen=True)
class DataSetEntry:
    """A data set that is on this machine."""

    name: str
    """First part of the names of its images."""
    title: str
    splits: tuple[str, ...]
    """The default split is first: images that training did not use, if there are any."""


def data_sets() -> list[DataSetEntry]:
    """Return the data sets in the data root: the registered ones first, then folders of class folders by name."""
    root = data_root()
    entries = []
    for public in DATA_SETS.values():
        if splits := tuple(split for split in public.splits if _files(public, root, split)):
            entries.append(DataSetEntry(public.name, public.title, splits))
    for folder in _class_folders(root):
        entries.append(DataSetEntry(folder.name, folder.name, tuple(_folder_splits(folder))))
    return entries


def image_name(data_set: str, split: str, index: int) -> str:
    """Return the name of an image."""
    return f"{data_set}/{split}/{index}"


def data_image(name: str) -> InputImage:
    """Return an image by its name. Its title is the file's name and its truth is its class.

    Raises:
        DataError: there is no such data set, split or image, or the image cannot be read.
    """
    data, index = find_image(name)
    file = data.names[index].rpartition("/")[2]
    truth = data.classes[int(data.labels[index])].replace("_", " ")
    return read_input_image(image_state(name, data, index), file, truth, partial(data.image, index))


def image_state(name: str, data: DataSet, index: int) -> Hashable:
    """Return a cache key of an image's content: its name and its file's name, time and size.

    A file that is added or removed shifts the indices of later ones, hence the file's name.
    """
    source = data.sources[index]
    return name, data.names[index], _stamp(source) if isinstance(source, Path) else (len(data), str(data_root()))


def find_image(name: str) -> tuple[DataSet, int]:
    """Return the split that contains a named image, and the image's index in it.

    Raises:
        DataError: there is no such data set, split or image.
    """
    match = NAME_PATTERN.fullmatch(name)
    if match is None:
        raise DataError(f"there is no image {name[:80]!r}: an image of a data set has a name like cifar100/test/1234.")
    data, index = open_split(match["set"], match["split"]), int(match["index"])
    if index >= len(data):
        raise DataError(f"there is no image {name}: this split has {len(data)} of them, counted from 0.")
    return data, index


def open_split(data_set: str, split: str) -> DataSet:
    """Return a split of a data set, opened once for each state of its files.

    Raises:
        DataError: it is not on this machine, or it is malformed.
    """
    root = data_root()
    public = DATA_SETS.get(data_set)
    if public and split in public.splits:
        state = tuple(map(_stamp, _files(public, root, split)))
        return _splits.get((root, data_set, split, state), lambda: public.open(root, split))
    for folder in _class_folders(root):
        if folder.name == data_set and (path := _folder_splits(folder).get(split)):
            return _splits.get((root, data_set, split, _folder_state(path)), partial(image_folder, path))
    raise DataError(
        f"there is no data set {data_set[:80]} with a split {split[:80]} in {root}; "
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


def _folder_splits(folder: Path) -> dict[str, Path]:
    """Return the folders of the splits that hold class folders, by the name of the split."""
    own = {split: path for split, path in own_splits(folder).items() if _has_classes(path)}
    return own or ({"all": folder} if _has_classes(folder) else {})


def _has_classes(folder: Path) -> bool:
    return any(_has_images(child) for child in _folders(folder))


def _has_images(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(Path(entry.name).suffix.lower() in IMAGE_SUFFIXES for entry in entries)
    except OSError:
        return False


def _folders(folder: Path) -> list[Path]:
    """Return the folders in a folder, without hidden ones and without links that lead out of it."""
    try:
        children = [child for child in folder.iterdir() if child.is_dir() and not child.name.startswith(".")]
    except OSError:
        return []
    real = Path(os.path.realpath(folder))
    return [child for child in children if Path(os.path.realpath(child)).is_relative_to(real)]


def _folder_state(folder: Path) -> tuple[Hashable, ...]:
    """Return the times of the class folders, which change when an image is added or removed."""
    return tuple(map(_stamp, (folder, *sorted(_folders(folder)))))


def _stamp(path: Path) -> Hashable:
    try:
        status = path.stat()
    except OSError:
        return str(path), None
    return str(path), status.st_mtime_ns, status.st_size
