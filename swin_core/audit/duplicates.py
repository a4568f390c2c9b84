"""Duplicates within and between splits: copies fake accuracy, and copies with different labels cannot be learned.

Images are compared by a perceptual hash (the signs of the 63 lowest frequencies of the cosine transform against their
median; Zauner 2010) and by a thumbnail. Both are kept on disk, so that other models' audits need not read the images.
"""

import hashlib
import logging
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.fft import dctn
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from swin_core.data.dataset import DECODING_THREADS, DataSet
from swin_core.errors import DataError
from swin_core.evaluation.predictions import cache_root, data_state
from swin_core.system.atomic import atomic_write

log = logging.getLogger(__name__)

BITS = 4
"""Most bits in which the hashes of near duplicates differ."""
GREY_LEVELS = 8
"""Largest mean difference of the thumbnails of near duplicates."""

_SIDE, _FREQUENCIES, _THUMBNAIL = 32, 8, 8
_BANDS = BITS + 1
"""Hashes that differ in at most `BITS` bits are equal in one of so many bands."""
_CHUNK = 256
"""Images in one file of the cache."""


@dataclass(frozen=True)
class DuplicateImage:
    """One of several copies."""

    split: str
    name: str
    class_name: str


@dataclass(frozen=True)
class Duplicates:
    """Images that are copies of one another."""

    exact: bool
    """Whether all have the same pixels."""
    images: tuple[DuplicateImage, ...]

    @property
    def across_splits(self) -> bool:
        """Whether they lie in several splits."""
        return len({image.split for image in self.images}) > 1

    @property
    def across_classes(self) -> bool:
        """Whether they have several labels."""
        return len({image.class_name for image in self.images}) > 1


@dataclass(frozen=True, eq=False)
class Hashes:
    """Perceptual hashes of the N images of a split."""

    bits: np.ndarray
    """`(N,)` uint64."""
    thumbnails: np.ndarray
    """`(N, 192)` uint8."""
    readable: np.ndarray
    """`(N,)` bool."""


def find_duplicates(
    datasets: Sequence[DataSet], tick: Callable[[int], None], root: Path | None = None
) -> tuple[Duplicates, ...]:
    """Return the groups of duplicates in some splits of a data set, those across splits first, then larger ones.

    Args:
        datasets: the splits.
        tick: called with a number of images that were compared.
        root: folder of the caches; `cache_root()` if None.
    """
    hashes = _joined([image_hashes(dataset, tick, root) for dataset in datasets])
    rows = np.flatnonzero(hashes.readable)
    labels = near_groups(hashes.bits[rows], hashes.thumbnails[rows])
    order = np.argsort(labels, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
    starts = np.cumsum([0, *map(len, datasets)])
    found = []
    for group in sorted((rows[group] for group in groups if len(group) > 1), key=lambda group: int(group[0])):
        places = np.searchsorted(starts, group, side="right") - 1
        members = [(datasets[place], row) for place, row in zip(places, (group - starts[places]).tolist(), strict=True)]
        found.append(Duplicates(_same_pixels(members), tuple(_named(dataset, row) for dataset, row in members)))
    return tuple(sorted(found, key=lambda group: (not group.across_splits, -len(group.images))))


def _named(dataset: DataSet, row: int) -> DuplicateImage:
    label = int(dataset.labels[row])
    return DuplicateImage(dataset.split, dataset.names[row], dataset.classes[label] if label >= 0 else "")


def _same_pixels(members: Sequence[tuple[DataSet, int]]) -> bool:
    """Return whether all of some images have the same pixels."""
    digests = set()
    for dataset, row in members:
        try:
            image = dataset.image(row)
        except DataError:
            return False
        digests.add(hashlib.sha256(repr(image.size).encode() + image.tobytes()).digest())
    return len(digests) == 1


def near_groups(bits: np.ndarray, thumbnails: np.ndarray) -> np.ndarray:
    """Return the group of each image, `(N,)`: images that are nearly the same are in one group, also by way of others.

    Each pair of hashes that differ in at most `BITS` bits is equal in one of the bands, so only images that share a
    band are compared. They are compared at one distance in the sorted band after another, and images that are in one
    group already are not compared again, so that memory grows with the number of images and not of pairs.

    Args:
        bits: hashes, `(N,)` uint64.
        thumbnails: `(N, pixels)` uint8.
    """
    table = np.concatenate([np.ascontiguousarray(bits)[:, None].view(np.uint8), thumbnails], 1)
    _, unique, copies = np.unique(table, axis=0, return_index=True, return_inverse=True)
    bits, thumbnails = bits[unique], thumbnails[unique]
    groups = np.arange(len(unique))
    width = 64 // _BANDS
    for band in range(_BANDS):
        part = (bits >> np.uint64(band * width)) & np.uint64(2**width - 1)
        rows = np.argsort(part, kind="stable")
        ordered = part[rows]
        alive, step = np.arange(len(rows)), 1
        while len(alive := alive[alive + step < len(rows)]):
            alive = alive[ordered[alive] == ordered[alive + step]]
            one, other = rows[alive], rows[alive + step]
            near = (groups[one] != groups[other]) & (np.bitwise_count(bits[one] ^ bits[other]) <= BITS)
            one, other = one[near], other[near]
            alike = np.abs(thumbnails[one].astype(np.int16) - thumbnails[other]).mean(1) <= GREY_LEVELS
            if alike.any():
                ends = groups[one[alike]], groups[other[alike]]
                graph = coo_matrix((np.ones(len(ends[0]), bool), ends), (len(unique), len(unique)))
                groups = connected_components(graph, directed=False)[1][groups]
            step += 1
    return groups[copies.ravel()]


def image_hashes(dataset: DataSet, tick: Callable[[int], None], root: Path | None = None) -> Hashes:
    """Return the hashes of a split. They are kept on disk in parts; those that are there are not computed again.

    Args:
        dataset: the split.
        tick: called with a number of images that were hashed; an error that it raises ends the computation.
        root: folder of the caches; `cache_root()` if None.
    """
    folder = (root or cache_root()) / "hashes" / data_state(dataset)[:40]
    parts = []
    with ThreadPoolExecutor(DECODING_THREADS) as pool:
        for start in range(0, len(dataset), _CHUNK):
            rows = range(start, min(start + _CHUNK, len(dataset)))
            file = folder / f"{start:08d}.npz"
            part = _read(file, len(rows))
            if part is None:
                part = _joined([*pool.map(lambda row: _image_hash(dataset, row), rows)])
                try:
                    folder.mkdir(parents=True, exist_ok=True)
                    with atomic_write(file) as stream:
                        np.savez(stream, **vars(part))
                except OSError as error:
                    log.warning("hashes are not kept: %s cannot be written (%s)", file, error)
            parts.append(part)
            tick(len(rows))
    return _joined(parts)


def _image_hash(dataset: DataSet, row: int) -> Hashes:
    """Return the hashes of one image, which may be unreadable; then it is named elsewhere."""
    try:
        image = dataset.image(row, 2 * _SIDE)
    except DataError:
        return Hashes(np.zeros(1, np.uint64), np.zeros((1, 3 * _THUMBNAIL**2), np.uint8), np.zeros(1, bool))
    thumbnail = np.asarray(image.resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BOX))
    return Hashes(np.array([perceptual_hash(image)], np.uint64), thumbnail.reshape(1, -1), np.ones(1, bool))


def _joined(parts: Sequence[Hashes]) -> Hashes:
    return Hashes(*(np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(Hashes)))


def perceptual_hash(image: Image.Image) -> int:
    """Return the hash of an RGB image, 64 bits."""
    grey = np.asarray(image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS), np.float64)
    low = dctn(grey, norm="ortho")[:_FREQUENCIES, :_FREQUENCIES].ravel()[1:]  # the first is the mean
    return int(np.packbits([False, *(low > np.median(low))]).view(">u8")[0])


def _read(file: Path, count: int) -> Hashes | None:
    try:
        with np.load(file, allow_pickle=False) as content:
            hashes = Hashes(content["bits"], content["thumbnails"], content["readable"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return hashes if len(hashes.bits) == len(hashes.thumbnails) == len(hashes.readable) == count else None
