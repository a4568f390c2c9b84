"""Download the public data sets: resume, check, and unpack a data set completely or not at all.

A download grows as `<archive>.part` in the data root, so that an interrupted one resumes. After its checksum was
verified, it is unpacked into a hidden folder, which is then renamed in one step.

For an archive without a checksum (its server packs it anew for each request) the unpacked files are checked instead:
their size, number and format, and from the second download on their checksum, since the first one records it.
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
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm import tqdm

from swin_core.data.dataset import data_root
from swin_core.data.public import Archive, PublicDataSet
from swin_core.data.registry import DATA_SETS
from swin_core.errors import DownloadError, ImageError
from swin_core.images.read import HEADER_BYTES, IMAGE_SUFFIXES, image_format
from swin_core.images.sources import read_head
from swin_core.system.atomic import atomic_write

_CHUNK = 2**20  # bytes
_TIMEOUT = 30  # seconds without a byte


def downloadable() -> dict[str, PublicDataSet]:
    """Return the registered data sets that can be downloaded, by the name of their archive."""
    return {public.archive.name: public for public in DATA_SETS.values() if public.archive}


def prepare(name: str, root: str | os.PathLike[str] | None = None) -> tuple[Path, bool]:
    """Download a data set into the data root, unless it is there.

    An archive that the user put into the data root is used instead of a download, and kept.

    Args:
        name: a key of `downloadable()`, or the name of one of these data sets.
        root: the data root; see `swin_core.data.dataset.data_root`.

    Returns:
        The folder that holds the data set, and whether it was unpacked now.

    Raises:
        DownloadError: no network, no space, a broken connection, or a wrong checksum. Nothing is left half-unpacked.
    """
    known = downloadable()
    public = known.get(name) or next(public for public in known.values() if public.name == name)
    folder = data_root(root)
    archive = public.archive
    assert archive is not None
    if existing := public.folder(folder):
        return existing, False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{archive.file}.lock", timeout=0):
            _fetch_and_unpack(archive, folder)
    except Timeout:
        raise DownloadError(f"{name} is being downloaded into {folder} already; wait until that is done.") from None
    except (OSError, ValueError) as error:  # ValueError: a path with NUL
        reason = getattr(error, "strerror", None) or error
        raise DownloadError(f"{folder} cannot be written ({reason}); free it or name another folder.") from error
    return folder / archive.folder, True


def _fetch_and_unpack(archive: Archive, root: Path) -> None:
    final, by_hand, part = root / archive.folder, root / archive.file, root / f"{archive.file}.part"
    if final.exists():
        raise DownloadError(f"{final} is there but is not the whole data set; move it away and run this again.")
    free, needed = shutil.disk_usage(root).free, archive.size + archive.unpacked
    if free < needed:
        raise DownloadError(f"{root} has {free / 1e6:.0f} MB free of {needed / 1e6:.0f} MB needed; make room.")
    if by_hand.is_file():
        if not _intact(by_hand, archive):
            raise DownloadError(f"{by_hand} is damaged (wrong checksum); delete it and run this again.")
        _unpack(by_hand, archive, final)
        return
    resumed = _fetch(archive, part)
    if resumed and not _intact(part, archive):
        # The part may belong to another version of the file: start again.
        part.unlink()
        _fetch(archive, part)
    if not _intact(part, archive):
        part.unlink()
        raise DownloadError(f"{archive.url} arrived damaged (wrong checksum) and was deleted; run this again.")
    _unpack(part, archive, final)
    part.unlink()


def _fetch(archive: Archive, part: Path) -> bool:
    """Download to `part`, resuming after the bytes it holds; return whether any of them were kept."""
    have = part.stat().st_size if part.exists() and archive.sha256 else 0
    if have >= archive.size:
        return True
    request = urllib.request.Request(archive.url, headers={"User-Agent": "swinlens"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
            # A server that cannot resume answers with status 200 and the whole file.
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
    if not archive.sha256 and received > archive.size:
        part.unlink()
        raise _unexpected(archive, f"has more than {archive.size / 1e6:.0f} MB")
    if archive.sha256 and received < archive.size:
        raise DownloadError(
            f"the connection broke after {received / 1e6:.1f} of {archive.size / 1e6:.1f} MB of {archive.url}; "
            "run this again to go on from there."
        )
    return start > 0


def _receive(response: http.client.HTTPResponse, part: Path, start: int, archive: Archive) -> int:
    """Write the stream to `part` from byte `start` until it ends or breaks; return the size of `part`."""
    bar = tqdm(
        desc=archive.file,
        initial=start,
        total=archive.size if archive.sha256 else None,
        unit="B",
        unit_scale=True,
        disable=None,  # no bar where the output is not a terminal
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
        f"or put the file at {by_hand} from another machine."
    )


def _intact(path: Path, archive: Archive) -> bool:
    if not archive.sha256:
        return True  # the images are counted after unpacking
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == archive.sha256


def _unpack(path: Path, archive: Archive, final: Path) -> None:
    # A fixed name, so that the next run removes what a killed one left.
    unfinished = final.with_name(f".{archive.folder}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unpacked = 0
        with tarfile.open(path, "r:gz") as tar:
            for member in tqdm(tar, desc="unpacking", unit=" files", disable=None):
                if not _belongs(member, archive):
                    continue
                unpacked += member.size
                if not archive.sha256 and unpacked > archive.unpacked:
                    raise _unexpected(archive, f"unpacks to more than {archive.unpacked / 1e6:.0f} MB")
                _extract(tar, member, unfinished)
        if not (unfinished / archive.folder).is_dir():
            raise DownloadError(f"{archive.url} holds no folder {archive.folder}.")
        if not archive.sha256:
            _check_images(unfinished / archive.folder, archive, final.with_suffix(".sha256"))
        (unfinished / archive.folder).rename(final)
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DownloadError(f"{archive.url} cannot be unpacked ({error}); nothing was kept.") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _belongs(member: tarfile.TarInfo, archive: Archive) -> bool:
    """Return whether a member belongs to the data set; if the archive has `inside`, give it its path there."""
    if not archive.inside:
        return True
    below = member.name.partition("/")[2]
    if not below.startswith(f"{archive.inside}/"):
        return False
    kind, _, name = below.removeprefix(f"{archive.inside}/").partition("/")
    if kind.lower() not in archive.counts or not name.lower().endswith(IMAGE_SUFFIXES):
        return False
    member.name = f"{archive.folder}/{kind.lower()}/{name}"
    return True


def _check_images(folder: Path, archive: Archive, record: Path) -> None:
    """Refuse an archive without a checksum that has too few images, other files, or other images than the first time.

    Args:
        folder: the unpacked images, in one folder for each class.
        archive: what they are of.
        record: where the checksum of the first download is kept.
    """
    for kind, least in archive.counts.items():
        count = len(list((folder / kind).iterdir())) if (folder / kind).is_dir() else 0
        if count < least:
            raise _unexpected(archive, f"holds {count} images of {kind!r} instead of at least {least}")
    total = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = file.relative_to(folder).as_posix()
        try:
            image_format(read_head(file, HEADER_BYTES))
        except ImageError as error:
            raise _unexpected(archive, f"holds {name}, which {error}") from error
        total.update(f"{name}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    digest = total.hexdigest()
    first = record.read_text().strip() if record.is_file() else digest
    if digest != first:
        raise DownloadError(
            f"{archive.url} holds other images than at the first download (checksum {digest[:12]} instead of "
            f"{first[:12]}); nothing was kept. If they were changed on purpose, delete {record} and run this again."
        )
    with atomic_write(record) as draft:
        draft.write(f"{digest}\n".encode())


def _unexpected(archive: Archive, what: str) -> DownloadError:
    return DownloadError(f"{archive.url} {what}, so it is not the expected data set; nothing was kept.")


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """Write one member below `folder`; tarfile's own filters are missing before Python 3.11.4.

    No link is ever created, so only the member's own name can lead out of the folder.
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
