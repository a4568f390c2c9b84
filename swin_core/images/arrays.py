"""Read arrays of any number of channels and any bit depth: TIFF, `.npy` and `.npz`.

The numbers that decide how much memory a file takes are checked before an array is allocated, and Python objects,
which could run code, are refused.
"""

import io
import logging
import math
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import tifffile

from swin_core.errors import ImageError
from swin_core.images.budget import decoding
from swin_core.images.sources import Source, naming_source, read_bytes, reason

TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_MAX_BYTES = 256 * 2**20  # on disk and in memory; with a copy it fits in the budget for decoding
# Limits of a TIFF, over all its pages: tags of several pages may point at the same values, so its size bounds nothing.
_MAX_STRIPS = 50_000  # tifffile takes some 25 us for each
_MAX_NUMBERS = 2**18  # in tags; readers make a Python number of each
_MAX_PAGES = 4096  # each becomes a channel
_MAX_TAGS = 100_000
_SLACK_BYTES = 2**20  # what tags may hold more than the file: some writers share short values
# Width and height of image and tiles, samples per pixel, rows per strip: the memory for a page is computed from these.
_SINGLE_TAGS = {256, 257, 277, 278, 322, 323}
_STRIP_TAGS = {273, 324}  # offsets of strips and tiles
_BYTE_TYPES = {1, 2, 6, 7}  # values of one byte each, which stay bytes, such as a colour profile
_TYPE_BYTES = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}  # of other types

# tifffile logs about unusual files; without a handler Python would print that to the terminal.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


def read_array(source: Source) -> np.ndarray:
    """Read an array from `.npy`, `.npz` (with a single array) or TIFF, recognised by content.

    Arrays must be `(H, W)` or `(H, W, C)`; pages and planes of a TIFF become channels.

    Returns:
        `(H, W, C)`, with the values of the file, in native byte order.

    Raises:
        ImageError: missing, another format, damaged, larger than 256 MiB, or not numeric.
    """
    with naming_source(source):
        content = read_bytes(source, _MAX_BYTES)
        if content.startswith(b"\x93NUMPY"):
            with decoding.reserve(len(content)):
                array = _read_npy(content)
        elif content.startswith(b"PK\3\4"):
            array = _read_npz(content)
        elif content.startswith(TIFF_SIGNATURES):
            array, _ = read_tiff(content, _MAX_BYTES)
        else:
            raise ImageError("is no array; arrays are read from .npy, .npz and TIFF")
        if array.ndim == 2:
            array = array[:, :, None]
        if array.ndim != 3 or array.size == 0:
            raise ImageError(f"has the shape {array.shape}; height, width and channels are needed")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def read_tiff(content: bytes, max_bytes: int, max_pixels: int | None = None) -> tuple[np.ndarray, bool]:
    """Read the first series of a TIFF.

    Args:
        content: the file.
        max_bytes: largest decoded size.
        max_pixels: largest width times height of an image; None for an array of any shape.

    Returns:
        `(H, W)` or `(H, W, C)`, and whether 0 means white.

    Raises:
        ImageError: damaged, too large, not numeric, or no image.
    """
    with _first_series(content, max_bytes, max_pixels) as (series, size):
        with decoding.reserve(2 * size):
            array, white_is_zero = series.asarray(), series.keyframe.photometric == 0
        if array.size == 0:
            raise ImageError("is a TIFF without pixels; save it again")
        return np.moveaxis(array, 0, 2) if _planes_first(series) else array, white_is_zero


def tiff_bytes(content: bytes, max_bytes: int, max_pixels: int) -> int | None:
    """Return the decoded bytes of the first series of a TIFF without decoding it; None if it is compressed.

    Raises:
        ImageError: what `read_tiff` refuses before it decodes.
    """
    with _first_series(content, max_bytes, max_pixels) as (series, size):
        return size if series.keyframe.compression == 1 else None


@contextmanager
def _first_series(
    content: bytes, max_bytes: int, max_pixels: int | None
) -> Iterator[tuple[tifffile.TiffPageSeries, int]]:
    """Open a TIFF, check the first series, and yield it with its decoded bytes; turn errors into `ImageError`."""
    check_directories(content)
    try:
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            series, page = file.series[0], file.pages.first
            tile_bytes = page.tilewidth * page.tilelength * page.samplesperpixel * series.dtype.itemsize
            if (size := max(series.nbytes, tile_bytes)) > max_bytes:
                raise ImageError(f"takes more than {max_bytes / 2**20:.0f} MiB of memory; make it smaller")
            _check_numeric(series.dtype)
            if max_pixels is not None:
                shape = (*series.shape[1:], series.shape[0]) if _planes_first(series) else series.shape
                if len(shape) != 2 and (len(shape) != 3 or shape[2] not in (3, 4)):
                    raise ImageError(f"is a TIFF of shape {shape}, which is no image; read it as an array")
                if shape[0] * shape[1] > max_pixels:
                    raise ImageError(f"has more than {max_pixels / 1e6:g} million pixels; make it smaller")
            yield series, size
    except ImageError:
        raise
    except MemoryError:
        raise ImageError("takes too much memory to decode; make it smaller") from None
    except Exception as error:  # on crafted bytes tifffile raises errors of many classes
        raise ImageError(f"cannot be read as TIFF ({reason(error)}); save it uncompressed") from error


def _planes_first(series: tifffile.TiffPageSeries) -> bool:
    """Return whether planes or pages come before the rows: (C, H, W) instead of (H, W, C)."""
    return len(series.shape) == 3 and series.axes[-1] == "X"


def check_directories(content: bytes) -> None:
    """Refuse a TIFF whose directories alone take long to read or much memory; no other reader looks at them first.

    Readers make a Python number of every value of a tag, and multiply values that they expect to be single numbers.

    Raises:
        ImageError: pages in a loop, too many pages, tags, strips or values, or several values where the format has one.
    """
    order = "<" if content.startswith(b"II") else ">"
    if content[2:4] in (b"+\0", b"\0+"):
        _check_pages(content, order, 8, "Q", "HHQ8x", "Q")
    if content[2:4] != b"+\0":  # Pillow takes a large TIFF of this byte order for a classic one
        _check_pages(content, order, 4, "H", "HHI4x", "I")


def _check_pages(content: bytes, order: str, header: int, length: str, entry: str, link: str) -> None:
    """Refuse what `check_directories` refuses, for one reading of the file.

    Args:
        content: the file.
        order: "<" or ">", as in formats of `struct`, as are the following.
        header: where the offset of the first page lies.
        length: of the number of tags.
        entry: of a tag: number, type, count.
        link: of an offset.
    """
    strips = numbers = size = tags = 0
    seen: set[int] = set()
    try:
        (offset,) = struct.unpack_from(order + link, content, header)
        while offset:
            if offset in seen:
                raise ImageError("is a damaged TIFF file (its pages form a loop); save it again")
            seen.add(offset)
            if len(seen) > _MAX_PAGES:
                raise ImageError(f"has more than {_MAX_PAGES} pages; save the one to read alone")
            (count_of_tags,) = struct.unpack_from(order + length, content, offset)
            tags += count_of_tags
            if tags > _MAX_TAGS:
                raise ImageError(f"has more than {_MAX_TAGS:,} tags; save it again")
            offset += struct.calcsize(order + length)
            for _ in range(count_of_tags):
                tag, kind, count = struct.unpack_from(order + entry, content, offset)
                if count > 1 and tag in _SINGLE_TAGS:
                    raise ImageError(f"is a damaged TIFF file (tag {tag} has {count} values); save it again")
                strips += count if tag in _STRIP_TAGS else 0
                if strips > _MAX_STRIPS:
                    raise ImageError(f"is cut into more than {_MAX_STRIPS:,} strips or tiles; use larger ones")
                numbers += count if kind not in _BYTE_TYPES else 0
                if numbers > _MAX_NUMBERS:
                    raise ImageError(f"has tags of more than {_MAX_NUMBERS:,} numbers; save it again without metadata")
                size += count * _TYPE_BYTES.get(kind, 1)
                if size > len(content) + _SLACK_BYTES:
                    raise ImageError("is a damaged TIFF file (its tags hold more than the file); save it again")
                offset += struct.calcsize(order + entry)
            (offset,) = struct.unpack_from(order + link, content, offset)
    except struct.error:  # cut short: the readers say where
        return


def _read_npz(content: bytes) -> np.ndarray:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
            if len(members) != 1:
                raise ImageError(f"holds {len(members)} arrays; save the one to read alone")
            if members[0].file_size > _MAX_BYTES:
                raise ImageError(f"takes more than {_MAX_BYTES // 2**20} MiB of memory; make it smaller")
            with decoding.reserve(2 * members[0].file_size):
                return _read_npy(archive.read(members[0]))
    except ImageError:
        raise
    except Exception as error:  # on crafted bytes zipfile raises zlib.error, NotImplementedError and others
        raise ImageError(f"is a damaged .npz file ({reason(error)}); save it again") from error


def _read_npy(content: bytes) -> np.ndarray:
    """Read `.npy`; the shape in the header must not ask for more bytes than there are."""
    file = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        old = version == (1, 0)
        read_header = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
        shape, column_major, dtype = read_header(file)
    except Exception as error:  # the header is Python source, and parsing it fails in many ways
        raise ImageError("is a damaged .npy file; save it again") from error
    _check_numeric(dtype)
    count = math.prod(shape)
    if min(shape, default=0) < 0 or count * dtype.itemsize > len(content) - file.tell():
        raise ImageError("is a cut-short .npy file; save it again")
    values = np.frombuffer(content, dtype, count, offset=file.tell())
    return values.reshape(shape, order="F" if column_major else "C").copy()


def _check_numeric(dtype: np.dtype) -> None:
    if dtype.hasobject:
        raise ImageError("holds Python objects, which could run code; save it as numbers")
    if dtype.kind not in "buif":
        raise ImageError(f"holds values of type {dtype}; real numbers are needed")
