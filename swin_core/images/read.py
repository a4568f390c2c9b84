"""The only place where bytes become an image, or an array of many channels.

What is read is told from the content, never from the name. Formats are an allow-list: those in which
photos come (PNG, JPEG, WebP, AVIF, GIF, BMP, TIFF). Pillow knows some thirty more, among them one that
starts another program (EPS) and many that are seldom tested; they are refused. The numbers that decide how
much memory a file takes are read from its header and checked before a pixel is decoded.
"""

import io
import logging
import math
import os
import stat
import threading
import warnings
import zipfile
from contextlib import ExitStack
from typing import Any, BinaryIO

import numpy as np
import tifffile
from PIL import Image, ImageOps

from swin_core.errors import ImageError
from swin_core.images.lossless import lossless_pixels

__all__ = ["PICTURE_SUFFIXES", "read_array", "read_image"]

PICTURE_SUFFIXES = (".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

Source = str | os.PathLike[str] | bytes | bytearray | BinaryIO

_LARGEST_ARRAY = 512 * 2**20  # bytes, on disk and in memory
_MOST_STRIPS = 2**18  # of a TIFF; each takes tifffile some 25 us
# What a file begins with: offset, bytes, name. The names of images are Pillow's names of formats.
_PICTURES = (
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"\xff\xd8\xff", "JPEG"),
    (8, b"WEBP", "WEBP"),
    (0, b"GIF8", "GIF"),
    (0, b"BM", "BMP"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "TIFF"),
    (0, b"MM\0+", "TIFF"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftypavis", "AVIF"),
)
_REFUSED = (
    (0, b"%!PS", "a PostScript drawing (EPS)"),
    (0, b"\xc5\xd0\xd3\xc6", "a PostScript drawing (EPS)"),
    (0, b"8BPS", "a Photoshop document (PSD)"),
    (0, b"SIMPLE  =", "a FITS file"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000 image"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL image"),
    (0, b"\xff\x0a", "a JPEG XL image"),
    (0, b"\0\0\1\0", "an icon (ICO)"),
    (0, b"v/1\1", "an OpenEXR image"),
    (0, b"#?RADIANCE", "a Radiance HDR image"),
    (128, b"DICM", "a DICOM file"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"PK\3\4", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (4, b"ftypqt", "a video"),
    (4, b"ftypisom", "a video"),
    (4, b"ftypmp4", "a video"),
    (4, b"ftyp", "a HEIC image"),
)

# Both libraries log on odd files; without a handler of any kind Python would print that to the terminal.
for _library in ("PIL", "tifffile"):
    logging.getLogger(_library).addHandler(logging.NullHandler())


class _QuietPillow:
    """Hides Pillow's warnings while any thread decodes: faults come out as `ImageError` or not at all.

    The filters of warnings belong to all threads, so the first thread in sets them and the last one out
    restores them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._filters = ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._filters.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", module=r"PIL\.")
            self._inside += 1

    def __exit__(self, *_error: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._filters.close()


_quiet_pillow = _QuietPillow()


def read_image(
    source: Source,
    max_bytes: int = 50 * 2**20,
    max_pixels: int = 50_000_000,
    shorter_side: int | None = None,
) -> Image.Image:
    """Read one image as a person sees it: turned as its EXIF data say, transparency over white, 8 bits.

    Of 16 bits the upper 8 are kept; floating-point images must lie between 0 and 1. Of an animation the
    first frame is read. Colour profiles are not applied, as they are not in the training of the models.

    Args:
        source: a path, the bytes, or a binary file (read from its start).
        max_bytes: largest encoded size.
        max_pixels: largest width times height.
        shorter_side: in pixels; a JPEG is then decoded at an eighth, a quarter or half of its size if its
            shorter side keeps at least twice this length, which saves most of the time for large photos.

    Returns:
        Mode RGB, without metadata.

    Raises:
        ImageError: no such file, too large, no image of a known format, or damaged.
    """
    try:
        content = _content(source, max_bytes)
        if (pixels := lossless_pixels(content, max_pixels)) is not None:
            return Image.fromarray(pixels)
        kind = _recognise(content)
        try:
            with _quiet_pillow:
                picture = _decode(content, kind, max_pixels, shorter_side)
        except Image.UnidentifiedImageError:
            if kind != "TIFF":
                raise ImageError(f"is a damaged {kind} file; save or fetch it again") from None
            picture = _rare_tiff(content, max_pixels)
    except ImageError as error:
        raise ImageError(f"{_name(source)} {error}") from error.__cause__
    picture.info = {}
    return picture


def read_array(source: Source) -> np.ndarray:
    """Read an array of any number of channels and any bit depth from `.npy`, `.npz` (of one array) or TIFF.

    Arrays must lie as `(H, W)` or `(H, W, C)`; pages and planes of a TIFF count as channels.

    Returns:
        `(H, W, C)`, values untouched, in the machine's byte order.

    Raises:
        ImageError: no such file, another format, damaged, larger than 512 MiB, or not of numbers.
    """
    try:
        content = _content(source, _LARGEST_ARRAY)
        if content.startswith(b"\x93NUMPY"):
            array = _numpy_array(content)
        elif content.startswith(b"PK\3\4"):
            array = _zipped_array(content)
        elif any(content.startswith(magic) for _, magic, kind in _PICTURES if kind == "TIFF"):
            array, _ = _tiff_array(content, _LARGEST_ARRAY)
        else:
            raise ImageError("is no array; arrays are read from .npy, .npz and TIFF")
        if array.ndim == 2:
            array = array[:, :, None]
        if array.ndim != 3 or array.size == 0:
            raise ImageError(f"has the shape {array.shape}; height, width and channels are needed")
    except ImageError as error:
        raise ImageError(f"{_name(source)} {error}") from error.__cause__
    return array.astype(array.dtype.newbyteorder("="), copy=False)


# The functions below raise `ImageError` with the end of a sentence, which the two above begin with a name.


def _name(source: Source) -> str:
    if not isinstance(source, str | os.PathLike):
        return "the file"
    return "".join(letter if letter.isprintable() else "?" for letter in os.fsdecode(source))


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _content(source: Source, max_bytes: int) -> bytes:
    try:
        if isinstance(source, bytes | bytearray):
            content = bytes(source[: max_bytes + 1])
        elif isinstance(source, str | os.PathLike):
            content = _read_regular_file(source, max_bytes)
        else:
            if source.seekable():
                source.seek(0)
            content = source.read(max_bytes + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with NUL, or a file that is closed
        reason = (error.strerror if isinstance(error, OSError) else None) or _reason(error)
        raise ImageError(f"cannot be read ({reason}); choose another file") from error
    if not isinstance(content, bytes):
        raise ImageError("is open as text; open it in binary mode")
    if len(content) > max_bytes:
        raise ImageError(f"has more than {max_bytes / 2**20:g} MiB; make it smaller")
    if not content:
        raise ImageError("is empty; save or fetch it again")
    return content


def _read_regular_file(path: str | os.PathLike[str], max_bytes: int) -> bytes:
    # Without O_NONBLOCK the mere opening of a named pipe would wait for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ImageError("is a folder or a device; choose a file")
    with open(descriptor, "rb") as file:
        return file.read(max_bytes + 1)


def _recognise(content: bytes) -> str:
    for offset, magic, kind in _PICTURES:
        if content.startswith(magic, offset):
            return kind
    found = next((kind for offset, magic, kind in _REFUSED if content.startswith(magic, offset)), "")
    head = content[:4096].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not found and head.startswith(b"<"):
        found = "an SVG drawing" if b"<svg" in head and b"<html" not in head else "a web page or XML"
    if found:
        raise ImageError(f"is {found}, which is not read here; save it as PNG or JPEG")
    raise ImageError("is not an image of a known format; save it as PNG or JPEG")


def _decode(content: bytes, kind: str, max_pixels: int, shorter_side: int | None) -> Image.Image:
    try:
        with Image.open(io.BytesIO(content), formats=[kind]) as image:
            # A TIFF of few pixels may be made of tiles of many, which the decoder makes room for.
            tags: Any = getattr(image, "tag_v2", {})
            if max(image.width * image.height, tags.get(322, 0) * tags.get(323, 0)) > max_pixels:
                raise _too_many_pixels(max_pixels)
            if shorter_side is not None and kind == "JPEG":
                image.draft(None, (2 * shorter_side, 2 * shorter_side))
            if image.tile and image.tile[0].args == "RGB;16B" and "transparency" in image.info:
                # The transparent colour is given in 16 bits, of which Pillow keeps the upper 8 in the pixels.
                image.info["transparency"] = tuple(level >> 8 for level in image.info["transparency"])
            image.load()
            # Turning makes a plain image, which no longer knows its tags; a TIFF may hold 12 bits in 16.
            return _flatten(_turn(image), tags.get(258, (16,))[0], tags.get(262) == 0)
    except (ImageError, Image.UnidentifiedImageError):
        raise
    except Image.DecompressionBombError:  # Pillow's own limit, which lies higher
        raise _too_many_pixels(max_pixels) from None
    except Exception as error:  # on crafted bytes Pillow raises errors of many kinds, SyntaxError among them
        raise ImageError(f"is a damaged or cut-short {kind} file ({_reason(error)}); save or fetch it again") from error


def _too_many_pixels(max_pixels: int) -> ImageError:
    return ImageError(f"has more than {max_pixels / 1e6:g} million pixels; make it smaller")


def _turn(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF data raise errors of many kinds, and do not make the pixels unreadable
        return image


def _flatten(image: Image.Image, depth: int = 16, white_is_zero: bool = False) -> Image.Image:
    """Convert any mode to RGB, transparency over white; `depth` and `white_is_zero` concern 16-bit grey."""
    if image.mode.startswith("I;16"):
        values = np.asarray(image)
        levels = _levels(values, depth)
        if white_is_zero:  # Pillow leaves this to us at this depth
            levels = 255 - levels
        if isinstance(key := image.info.get("transparency"), int):
            levels = np.where(values == key, np.uint8(255), levels)
        return Image.fromarray(levels).convert("RGB")
    if image.mode in ("I", "F"):
        return Image.fromarray(_levels(np.asarray(image))).convert("RGB")
    if image.has_transparency_data or image.mode == "La":
        over = image.convert("LA" if image.mode == "La" else "RGBA").convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")
    return image.convert("RGB")


def _levels(values: np.ndarray, depth: int = 16) -> np.ndarray:
    """Scale to 0..255 where it is known which value is white."""
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:
        return (values >> (depth - 8)).astype(np.uint8)
    low, high = float(values.min()), float(values.max())
    if values.dtype.kind == "f" and low >= 0 and high <= 1:  # false for NaN
        return np.round(values * 255).astype(np.uint8)
    raise ImageError(
        f"holds values from {low:g} to {high:g}, and nothing says which is white; "
        "save it with 8 or 16 bits, or scale it to 0..1"
    )


def _rare_tiff(content: bytes, max_pixels: int) -> Image.Image:
    """Read a TIFF that Pillow cannot, such as floating-point RGB."""
    array, white_is_zero = _tiff_array(content, 16 * max_pixels)
    if array.ndim != 2 and (array.ndim != 3 or array.shape[2] not in (3, 4)):
        raise ImageError(f"is a TIFF of shape {array.shape}, which is no image; read it as an array")
    levels = _levels(array)
    return _flatten(Image.fromarray(255 - levels if white_is_zero else levels))


def _tiff_array(content: bytes, max_bytes: int) -> tuple[np.ndarray, bool]:
    """Read the first series of a TIFF; the flag says that its zero means white."""
    try:
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            series, page = file.series[0], file.pages.first
            tile_bytes = page.tilewidth * page.tilelength * page.samplesperpixel * series.dtype.itemsize
            if max(series.nbytes, tile_bytes) > max_bytes:
                raise ImageError(f"takes more than {max_bytes / 2**20:.0f} MiB of memory; make it smaller")
            if len(page.dataoffsets) > _MOST_STRIPS:
                raise ImageError(f"is cut into more than {_MOST_STRIPS} strips or tiles; use larger ones")
            axes, array, white_is_zero = series.axes, series.asarray(), page.photometric == 0
    except ImageError:
        raise
    except Exception as error:  # on crafted bytes tifffile raises errors of many kinds
        raise ImageError(f"cannot be read as TIFF ({_reason(error)}); save it uncompressed") from error
    _check_numbers(array.dtype)
    if array.size == 0:
        raise ImageError("is a TIFF without pixels; save it again")
    # Planes and pages come first: (C, H, W) -> (H, W, C).
    return np.moveaxis(array, 0, 2) if array.ndim == 3 and axes[-1] == "X" else array, white_is_zero


def _check_numbers(dtype: np.dtype) -> None:
    if dtype.hasobject:
        raise ImageError("holds Python objects, which could run code; save it as numbers")
    if dtype.kind not in "buif":
        raise ImageError(f"holds values of type {dtype}; real numbers are needed")


def _zipped_array(content: bytes) -> np.ndarray:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
            if len(members) != 1:
                raise ImageError(f"holds {len(members)} arrays; save the one to read alone")
            if members[0].file_size > _LARGEST_ARRAY:
                raise ImageError(f"takes more than {_LARGEST_ARRAY // 2**20} MiB of memory; make it smaller")
            member = archive.read(members[0])
    except ImageError:
        raise
    except Exception as error:  # on crafted bytes zipfile raises zlib.error, NotImplementedError and others
        raise ImageError(f"is a damaged .npz file ({_reason(error)}); save it again") from error
    return _numpy_array(member)


def _numpy_array(content: bytes) -> np.ndarray:
    """Read `.npy`; the header's shape is compared with the bytes that are there before room is made."""
    file = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        old = version == (1, 0)
        read_header = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
        shape, column_major, dtype = read_header(file)
    except Exception as error:  # the header is Python source, and parsing it fails in many ways
        raise ImageError("is a damaged .npy file; save it again") from error
    _check_numbers(dtype)
    count = math.prod(shape)
    if min(shape, default=0) < 0 or count * dtype.itemsize > len(content) - file.tell():
        raise ImageError("is a cut-short .npy file; save it again")
    values = np.frombuffer(content, dtype, count, offset=file.tell())
    return values.reshape(shape, order="F" if column_major else "C").copy()
