"""Read arrays of any number of channels and any bit depth: TIFF, `.npy` and `.npz`.

The numbers that decide how much memory a file takes are checked before an array is allocated, and Python objects,
which could run code, are refused.
"""

import io
import logging
import math
import zipfile

import numpy as np
import tifffile

from swin_core.errors import ImageError
from swin_core.images.sources import Source, naming_source, read_bytes, reason

TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_MAX_BYTES = 512 * 2**20  # on disk and in memory
_MAX_STRIPS = 2**18  # of a TIFF; tifffile takes some 25 us for each

# tifffile logs about unusual files; without a handler Python would print that to the terminal.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


def read_array(source: Source) -> np.ndarray:
    """Read an array from `.npy`, `.npz` (with a single array) or TIFF, recognised by content.

    Arrays must be `(H, W)` or `(H, W, C)`; pages and planes of a TIFF become channels.

    Returns:
        `(H, W, C)`, with the values of the file, in native byte order.

    Raises:
        ImageError: missing, another format, damaged, larger than 512 MiB, or not numeric.
    """
    with naming_source(source):
        content = read_bytes(source, _MAX_BYTES)
        if content.startswith(b"\x93NUMPY"):
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


def read_tiff(content: bytes, max_bytes: int) -> tuple[np.ndarray, bool]:
    """Read the first series of a TIFF.

    Args:
        content: the file.
        max_bytes: largest decoded size.

    Returns:
        `(H, W)` or `(H, W, C)`, and whether 0 means white.

    Raises:
        ImageError: damaged, too large, or not numeric.
    """
    try:
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            series, page = file.series[0], file.pages.first
            tile_bytes = page.tilewidth * page.tilelength * page.samplesperpixel * series.dtype.itemsize
            if max(series.nbytes, tile_bytes) > max_bytes:
                raise ImageError(f"takes more than {max_bytes / 2**20:.0f} MiB of memory; make it smaller")
            if len(page.dataoffsets) > _MAX_STRIPS:
                raise ImageError(f"is cut into more than {_MAX_STRIPS} strips or tiles; use larger ones")
            axes, array, white_is_zero = series.axes, series.asarray(), page.photometric == 0
    except ImageError:
        raise
    except Exception as error:  # on crafted bytes tifffile raises errors of many classes
        raise ImageError(f"cannot be read as TIFF ({reason(error)}); save it uncompressed") from error
    _check_numeric(array.dtype)
    if array.size == 0:
        raise ImageError("is a TIFF without pixels; save it again")
    # Planes and pages come first: (C, H, W) -> (H, W, C).
    return np.moveaxis(array, 0, 2) if array.ndim == 3 and axes[-1] == "X" else array, white_is_zero


def _read_npz(content: bytes) -> np.ndarray:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
            if len(members) != 1:
                raise ImageError(f"holds {len(members)} arrays; save the one to read alone")
            if members[0].file_size > _MAX_BYTES:
                raise ImageError(f"takes more than {_MAX_BYTES // 2**20} MiB of memory; make it smaller")
            member = archive.read(members[0])
    except ImageError:
        raise
    except Exception as error:  # on crafted bytes zipfile raises zlib.error, NotImplementedError and others
        raise ImageError(f"is a damaged .npz file ({reason(error)}); save it again") from error
    return _read_npy(member)


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
