"""The data sets on this machine, and their images by name, such as `cifar100/test/1234`.

Names come from widgets and from query parameters, so each is matched against `NAME_PATTERN` before any file is touched;
only folders in the data root and in those of `SWINLENS_DATA` are offered, and those that runs were trained on.
"""

import os
import re
import time
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path

from dashboard.shared.cache import InputImage, read_input_image
from swin_core import runs
from swin_core.data import registry
from swin_core.data.catalog import Catalog
from swin_core.data.dataset import DataSet, data_root
from swin_core.data.folders import open_folder
from swin_core.data.layout import (
    class_folders,
    has_own_split,
    holds_images,
    link_root,
    nested_data_sets,
    offered_folders,
    own_splits,
    subfolders,
)
from swin_core.data.public import PublicDataSet
from swin_core.data.registry import DATA_SETS
from swin_core.errors import DataError, RunError
from swin_core.system.cache import LRUCache

NAME_PATTERN = re.compile(
    r"(?P<set>[^./\\\x00-\x1f\x7f-\x9f\ud800-\udfff][^/\\\x00-\x1f\x7f-\x9f\ud800-\udfff]{0,99})"
    r"/(?P<split>train|val|test|all)/(?P<index>[0-9]{1,8})"
)
"""Name of an image: data set, split, and index in the split.

It excludes `..`, absolute paths, control characters, and surrogates, which no URL can contain.
"""

# The train split of CIFAR-100 takes 125 MB, its test split 25 MB, splits of files nearly nothing. Splits stay while
# they fit: reading one again would hold it twice, since a catalog keeps the first copy.
_splits: LRUCache[DataSet] = LRUCache(32, 200 * 2**20)
# Without the images of a split, a catalog takes some 15 MB for 60,000 of them.
_catalogs: LRUCache[Catalog] = LRUCache(4)
# The data sets in each offered folder.
_listings: LRUCache[list[Path]] = LRUCache(16)
_LISTED_SECONDS = 5.0


@dataclass(frozen=True)
class DataSetEntry:
    """A data set that is on this machine."""

    name: str
    """First part of the names of its images."""
    title: str
    splits: tuple[str, ...]
    """The default split is first: images that training did not use, if there are any."""
    source: "_Source" = field(repr=False)


@dataclass(frozen=True)
class _Source:
    """Where a data set's images are."""

    public: str = ""
    """Name of a registered data set in the data root, or empty for a folder."""
    folder: Path = Path()
    link_root: Path = Path()
    """The folder that links may lead to."""
    holdout: tuple[float, int] | None = None
    """Share and seed of a run's hold-out, for the folder that the run was trained on."""

    def state(self, split: str) -> Hashable:
        """Return what changes when an image is added or removed."""
        if self.public:
            return tuple(map(_stamp, _files(DATA_SETS[self.public], data_root(), split)))
        return _folder_state(self.folder, self.link_root)

    def open(self, split: str) -> DataSet:
        """Open a split.

        Raises:
            DataError: it is malformed.
        """
        if self.public:
            return DATA_SETS[self.public].open(data_root(), split)
        if self.holdout is not None:
            share, seed = self.holdout
            return registry.open_split(str(self.folder), split, share, seed)
        return open_folder(_folder_splits(self.folder, self.link_root)[split], self.link_root)


def data_sets() -> list[DataSetEntry]:
    """Return the registered data sets, then folders by name: of the data root, of `SWINLENS_DATA`, and of runs."""
    root = data_root()
    entries = [entry for public in DATA_SETS.values() if (entry := _registered(public))]
    for folder in _class_folders(root):
        splits = tuple(_folder_splits(folder, folder))
        entries.append(DataSetEntry(folder.name, folder.name, splits, _Source(folder=folder, link_root=folder)))
    return [*entries, *_offered(entries), *_folders_of_runs()]


def _offered(before: list[DataSetEntry]) -> Iterator[DataSetEntry]:
    """Yield the data sets in the folders of `SWINLENS_DATA` that are not among those before."""
    taken = {entry.name for entry in before}
    folders = {os.path.realpath(entry.source.folder) for entry in before if not entry.source.public}
    for root in offered_folders():
        for folder in _listed(root):
            path = (root.name, *folder.relative_to(root).parts)
            suffix = next(text for text in _suffixes() if ":".join(path) + text not in taken)
            name, title = ":".join(path) + suffix, "/".join(path) + suffix
            splits = tuple(_folder_splits(folder, root))
            is_new = os.path.realpath(folder) not in folders
            if is_new and splits and NAME_PATTERN.fullmatch(f"{name}/all/0"):
                taken.add(name)
                yield DataSetEntry(name, title, splits, _Source(folder=folder, link_root=root))


def _suffixes() -> Iterator[str]:
    yield ""
    yield from (f" ({number})" for number in count(2))


def trainable_folders() -> list[str]:
    """Return the folders of `SWINLENS_DATA`, and those in them, that a model can be trained on."""
    return [
        str(folder)
        for root in offered_folders()
        for folder in _listed(root)
        if len(class_folders(folder, root)) > 1 or has_own_split(folder)
    ]


def _listed(root: Path) -> list[Path]:
    """Return the data sets in an offered folder; the search is repeated after some seconds."""
    return _listings.get((root, time.monotonic() // _LISTED_SECONDS), lambda: list(nested_data_sets(root, root)))


def _folders_of_runs() -> list[DataSetEntry]:
    """Return the folders that runs were trained on, each once for each hold-out, as the newest run divides it."""
    entries: dict[_Source, DataSetEntry] = {}
    try:
        folders = sorted(runs.runs_root().absolute().iterdir(), reverse=True)
    except OSError:
        return []
    for folder in folders:
        entry = _folder_of_run(folder)
        if entry is not None:
            entries.setdefault(entry.source, entry)
    return list(entries.values())


def _folder_of_run(run: Path) -> DataSetEntry | None:
    """Return the folder that a run was trained on, divided as in the run; None if there is no such folder."""
    config = runs.read_config(run)
    data, share, seed = config.get("data"), config.get("holdout"), config.get("seed")
    if not (isinstance(data, str) and isinstance(share, float) and isinstance(seed, int)):
        return None
    folder = Path(data).absolute()
    if not data or data in DATA_SETS or not folder.is_dir():
        return None
    name = f"{folder.name}@{run.name}"
    if not NAME_PATTERN.fullmatch(f"{name}/all/0"):
        return None
    splits: tuple[str, ...] = ("val", "train", "all")
    if has_own_split(folder):
        splits = ("val", "train", "test") if "test" in own_splits(folder) else ("val", "train")
    source = _Source(folder=folder, link_root=link_root(folder), holdout=(share, seed))
    return DataSetEntry(name, f"{folder.name}, as run {run.name} divides it", splits, source)


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
    label = int(data.labels[index])
    truth = data.classes[label].replace("_", " ") if label >= 0 else ""
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
    entry = _entry(data_set)
    if entry is not None and split in entry.splits:
        return _splits.get((data_root(), data_set, split, entry.source.state(split)), partial(entry.source.open, split))
    raise DataError(
        f"there is no data set {data_set[:80]} with a split {split[:80]} in {data_root()}; run swinlens data, or set "
        "SWIN_DATA_ROOT or SWINLENS_DATA to the folder that holds it."
    )


def open_catalog(data_set: str, splits: Sequence[str]) -> Catalog:
    """Return the table of some splits of a data set, made once for each state of their files.

    Raises:
        DataError: a split is not on this machine, or it is malformed.
    """
    parts = tuple(open_split(data_set, split) for split in splits)
    return _catalogs.get(parts, lambda: Catalog(parts))


def _entry(name: str) -> DataSetEntry | None:
    """Return a data set by its name; None if it is not offered."""
    if name in DATA_SETS:
        return _registered(DATA_SETS[name])
    if entry := next((entry for entry in data_sets() if entry.name == name), None):
        return entry
    try:  # an older run than the one whose division is offered
        entry = _folder_of_run(runs.find(name.rpartition("@")[2]).folder)
    except RunError:
        return None
    return entry if entry and entry.name == name else None


def _registered(public: PublicDataSet) -> DataSetEntry | None:
    splits = tuple(split for split in public.splits if _files(public, data_root(), split))
    return DataSetEntry(public.name, public.title, splits, _Source(public.name)) if splits else None


def _files(public: PublicDataSet, root: Path, split: str) -> list[Path]:
    try:
        return public.find(root, split)
    except OSError:
        return []


def _class_folders(root: Path) -> Iterator[Path]:
    """Yield the folders in the data root with class folders, or with `train` and `val` that hold class folders."""
    public = {path for known in DATA_SETS.values() for split in known.splits for path in _files(known, root, split)}
    for folder in subfolders(root, root):
        offered = NAME_PATTERN.fullmatch(f"{folder.name}/all/0") and folder.name not in DATA_SETS
        if offered and folder not in public and _folder_splits(folder, folder):
            yield folder


def _folder_splits(folder: Path, root: Path) -> dict[str, Path]:
    """Return the folders of the splits that hold class folders, by the name of the split."""
    own = {split: path for split, path in own_splits(folder).items() if class_folders(path, root)}
    return own or ({"all": folder} if class_folders(folder, root) or holds_images(folder) else {})


def _folder_state(folder: Path, root: Path) -> tuple[Hashable, ...]:
    """Return the times of the folders in a folder, which change when an image is added or removed."""
    return _stamp(folder), *(_folder_state(child, root) for child in subfolders(folder, root))


def _stamp(path: Path) -> Hashable:
    try:
        status = path.stat()
    except OSError:
        return str(path), None
    return str(path), status.st_mtime_ns, status.st_size
