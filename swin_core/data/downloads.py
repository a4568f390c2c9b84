"""Fetch the public data sets: resume, checksum, and extraction that leaves all of a data set or nothing.

A download grows as `<archive>.part` in the data root, so that an interrupted one goes on where it stopped.
Only after its checksum is right is it unpacked, into a hidden folder beside the final one, whose name is then
changed in one step. An archive that its server packs anew for each request has no checksum: its images are counted.
"""

import gzip
import hashlib
import http.client
import os
import shutil
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm import tqdm

from swin_core.data.cifar100 import find_layout
from swin_core.data.dataset import FLOWERS, data_root
from swin_core.errors import DataError, DownloadError
from swin_core.images.read import PICTURE_SUFFIXES

__all__ = ["ARCHIVES", "Archive", "find", "prepare"]

_CHUNK = 2**20  # bytes
_TIMEOUT = 30  # seconds without a byte


@dataclass(frozen=True)
class Archive:
    """A compressed tar file that holds a data set in one folder."""

    url: str
    size: int
    """Bytes; at most so many where there is no checksum."""
    sha256: str
    """Empty where the server packs the file anew for each request, so that no checksum holds."""
    folder: str
    """The folder in the archive, and in the data root."""
    unpacked: int
    """Bytes on disk, for the check of free space."""
    inside: str = ""
    """Where the class folders lie below the archive's first folder, if that is not `folder`; the rest is left out."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Least number of images of each class, to be counted where there is no checksum."""

    @property
    def file(self) -> str:
        """The archive's file name."""
        return self.url.rsplit("/", 1)[-1]


# The checksums are those that Keras (CIFAR-100) and TensorFlow Datasets (flower_photos) hold for these files.
ARCHIVES = {
    "cifar100": Archive(
        url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        size=169_001_437,
        sha256="85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
        folder="cifar-100-python",
        unpacked=190_000_000,
    ),
    "flower_photos": Archive(
        url="https://storage.googleapis.com/download.tensorflow.org/example_images/flower_photos.tgz",
        size=228_813_984,
        sha256="4c54ace7911aaffe13a365c34f650e71dd5bf1be0a58b464e5a7183e3e595d9c",
        folder="flower_photos",
        unpacked=240_000_000,
    ),
    "cats_dogs": Archive(
        url="https://github.com/ardamavi/Dog-Cat-Classifier/archive/refs/heads/master.tar.gz",
        size=400_000_000,
        sha256="",
        folder="cats_dogs",
        unpacked=100_000_000,
        inside="Data/Train_Data",
        counts={"cat": 600, "dog": 600},
    ),
}


def prepare(name: str, root: str | os.PathLike[str] | None = None) -> tuple[Path, bool]:
    """Bring the data set `name` into the data root, unless it is there.

    An archive that was put into the data root by hand is used instead of a download, and kept.

    Args:
        name: one of `ARCHIVES`.
        root: the data root; see `swin_core.data.dataset.data_root`.

    Returns:
        The folder that holds the data set, and whether it was fetched now.

    Raises:
        DownloadError: no network, no space, a broken connection, a wrong checksum. Nothing is half-extracted.
    """
    archive, place = ARCHIVES[name], data_root(root)
    if found := find(name, place):
        return found, False
    try:
        place.mkdir(parents=True, exist_ok=True)
        with FileLock(place / f".{archive.file}.lock", timeout=0):
            _fetch_and_unpack(archive, place)
    except Timeout:
        raise DownloadError(f"{name} is being fetched into {place} already; wait until that is done") from None
    except (OSError, ValueError) as error:  # ValueError: a path with NUL
        reason = getattr(error, "strerror", None) or error
        raise DownloadError(f"{place} cannot be written ({reason}); free it or name another folder") from error
    return place / archive.folder, True


def find(name: str, place: Path) -> Path | None:
    """Folder of a data set in a data root, in any layout that `swin_core.data` reads, or None."""
    if counts := ARCHIVES[name].counts:
        folder = place / ARCHIVES[name].folder
        return folder if all((folder / kind).is_dir() for kind in counts) else None
    if name == "flower_photos":
        folders = (place / "flower_photos", place)
        return next((folder for folder in folders if all((folder / kind).is_dir() for kind in FLOWERS)), None)
    try:
        find_layout(place, "test")
        return find_layout(place, "train")[0].parent
    except DataError:
        return None


def _fetch_and_unpack(archive: Archive, place: Path) -> None:
    final, by_hand, part = place / archive.folder, place / archive.file, place / f"{archive.file}.part"
    if final.exists():
        raise DownloadError(f"{final} is there but is not the whole data set; move it away and run this again")
    free, needed = shutil.disk_usage(place).free, archive.size + archive.unpacked
    if free < needed:
        raise DownloadError(f"{place} has {free / 1e6:.0f} MB free of {needed / 1e6:.0f} MB needed; make room")
    if by_hand.is_file():
        if not _intact(by_hand, archive):
            raise DownloadError(f"{by_hand} is damaged (wrong checksum); delete it and run this again")
        _unpack(by_hand, archive, final)
        return
    resumed = _fetch(archive, part)
    if resumed and not _intact(part, archive):
        # The part may be of another version of the file: once more, from the start.
        part.unlink()
        _fetch(archive, part)
    if not _intact(part, archive):
        part.unlink()
        raise DownloadError(f"{archive.url} arrived damaged (wrong checksum) and was deleted; run this again")
    _unpack(part, archive, final)
    part.unlink()


def _fetch(archive: Archive, part: Path) -> bool:
    """Download to `part`, going on after what it holds; returns whether it held something that was kept."""
    have = part.stat().st_size if part.exists() and archive.sha256 else 0
    if have >= archive.size:
        return True
    request = urllib.request.Request(archive.url, headers={"User-Agent": "swinlens"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
            # Status 200 answers a request for the rest where a server cannot go on: the whole file comes.
            start = have if response.status == 206 else 0
            length = response.headers.get("Content-Length")
            if archive.sha256 and length is not None and int(length) != archive.size - start:
                raise _unreachable(archive, part, f"{length} bytes are offered, not {archive.size - start}")
            received = _receive(response, part, start, archive)
    except urllib.error.HTTPError as error:
        raise _unreachable(archive, part, f"HTTP status {error.code}") from error
    except urllib.error.URLError as error:
        raise _unreachable(archive, part, str(error.reason)) from error
    except (TimeoutError, ConnectionError, http.client.HTTPException, ValueError) as error:
        raise _unreachable(archive, part, str(error) or type(error).__name__) from error
    if archive.sha256 and received < archive.size:
        raise DownloadError(
            f"the connection broke after {received / 1e6:.1f} of {archive.size / 1e6:.1f} MB of {archive.url}; "
            "run this again to go on from there"
        )
    return start > 0


def _receive(response: http.client.HTTPResponse, part: Path, start: int, archive: Archive) -> int:
    """Append to `part` from byte `start` until the stream ends or breaks; returns the bytes it holds then."""
    bar = tqdm(
        desc=archive.file,
        initial=start,
        total=archive.size if archive.sha256 else None,
        unit="B",
        unit_scale=True,
        disable=None,  # none where the output is no terminal
    )
    with part.open("ab" if start else "wb") as file, bar:
        while file.tell() <= archive.size:
            try:
                chunk = response.read(_CHUNK)
            except (OSError, http.client.HTTPException):
                break
            if not chunk:
                break
            file.write(chunk)
            bar.update(len(chunk))
        return file.tell()


def _unreachable(archive: Archive, part: Path, reason: str) -> DownloadError:
    by_hand = part.with_suffix("")
    return DownloadError(
        f"{archive.url} could not be fetched ({reason}); check the network and run this again, "
        f"or put the file at {by_hand} from another machine"
    )


def _intact(path: Path, archive: Archive) -> bool:
    if not archive.sha256:
        return True  # its images are counted when it is unpacked
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == archive.sha256


def _unpack(path: Path, archive: Archive, final: Path) -> None:
    # A fixed name, so that what a killed run left is found and removed by the next one.
    unfinished = final.with_name(f".{archive.folder}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        with tarfile.open(path, "r:gz") as tar:
            for member in tqdm(tar, desc="unpacking", unit=" files", disable=None):
                if _wanted(member, archive):
                    _extract(tar, member, unfinished)
        _count(unfinished / archive.folder, archive)
        if not (unfinished / archive.folder).is_dir():
            raise DownloadError(f"{archive.url} holds no folder {archive.folder}")
        (unfinished / archive.folder).rename(final)
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DownloadError(f"{archive.url} cannot be unpacked ({error}); nothing was kept of it") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _wanted(member: tarfile.TarInfo, archive: Archive) -> bool:
    """Whether a member is unpacked; of an archive that holds more than the data set it gets its place in it."""
    if not archive.inside:
        return True
    below = member.name.partition("/")[2]
    if not below.startswith(f"{archive.inside}/"):
        return False
    kind, _, name = below.removeprefix(f"{archive.inside}/").partition("/")
    if kind.lower() not in archive.counts or not name.lower().endswith(PICTURE_SUFFIXES):
        return False
    member.name = f"{archive.folder}/{kind.lower()}/{name}"
    return True


def _count(folder: Path, archive: Archive) -> None:
    """Refuse an archive without a checksum that has fewer images than the data set."""
    for kind, least in archive.counts.items():
        count = len(list((folder / kind).iterdir())) if (folder / kind).is_dir() else 0
        if count < least:
            raise DownloadError(
                f"{archive.url} holds {count} images of {kind!r}, not {least} or more, so it is not the data set "
                "that it was; nothing was kept of it"
            )


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """Write one member below `folder`, by hand: tarfile's own filters are missing before Python 3.11.4.

    As no link is ever made, a name can lead out of the folder by itself only.
    """
    target = Path(os.path.normpath(folder / member.name))
    if not target.is_relative_to(folder) or not (member.isfile() or member.isdir()):
        raise tarfile.ReadError(f"{member.name!r} is a link, a device, or lies outside the folder")
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    content = tar.extractfile(member)
    assert content is not None
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        shutil.copyfileobj(content, file)
