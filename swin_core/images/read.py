"""Convert bytes into an image; nothing else in the project decodes images.

Formats are recognised by content, never by name, and come from an allow-list: those in which photos come: PNG, JPEG,
WebP, AVIF, GIF, BMP, TIFF, and HEIC if the package pillow-heif is installed. Pillow supports some thirty more, among
them one that starts another program (EPS) and many that are seldom tested; these are refused. The sizes in a header are
checked before a pixel is decoded.
"""

import io
import logging
import re
import threading
import warnings
from contextlib import ExitStack, suppress
from functools import cache
from typing import Any

from PIL import Image, ImageOps

from swin_core.errors import ImageError
from swin_core.images.arrays import TIFF_SIGNATURES, check_directories
from swin_core.images.budget import PIXEL_BYTES, decoding
from swin_core.images.lossless import lossless_pixels, lossless_size
from swin_core.images.rgb import to_rgb
from swin_core.images.sources import Source, naming_source, read_bytes, reason
from swin_core.images.unusual_tiff import decode_unusual_tiff

IMAGE_SUFFIXES = (
    ".avif",
    ".bmp",
    ".gif",
    ".heic",
    ".heif",
    ".jfif",
    ".jpe",
    ".jpeg",
    ".jpg",
    ".png",
    ".tif",
    ".tiff",
    ".webp",
)
"""Usual suffixes of image files, for file dialogs; the format itself is recognised by content."""

_MAX_SCANS = 100
"""Most scans of a JPEG: encoders write some ten, and each takes a pass over all pixels."""
_MARKER = re.compile(rb"\xff([\xc0-\xcf\xd8-\xfe])")
"""A marker of a JPEG that ends the data of a scan. Restart markers and bytes FF of the data have other second bytes."""
_START_OF_IMAGE, _END_OF_IMAGE, _START_OF_SCAN = b"\xd8", b"\xd9", b"\xda"
_MAX_CHUNKS = 50_000
"""Most chunks of a PNG; encoders write one for some thousand bytes."""

HEADER_BYTES = 4096
"""Bytes of a file from which its format is recognised."""

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")

# Signatures of files: offset, bytes, and Pillow's name of the format.
_FORMATS: tuple[tuple[int, bytes | tuple[bytes, ...], str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"\xff\xd8\xff", "JPEG"),
    (8, b"WEBP", "WEBP"),
    (0, b"GIF8", "GIF"),
    (0, b"BM", "BMP"),
    (0, TIFF_SIGNATURES, "TIFF"),
    (4, (b"ftypavif", b"ftypavis"), "AVIF"),
    (4, tuple(b"ftyp" + brand for brand in _HEIF_BRANDS), "HEIF"),
)
_REFUSED: tuple[tuple[int, bytes | tuple[bytes, ...], str], ...] = (
    (0, (b"%!PS", b"\xc5\xd0\xd3\xc6"), "a PostScript drawing (EPS)"),
    (0, b"8BPS", "a Photoshop document (PSD)"),
    (0, b"SIMPLE  =", "a FITS file"),
    (0, b"%PDF", "a PDF document"),
    (0, (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"), "a JPEG 2000 image"),
    (0, (b"\0\0\0\x0cJXL ", b"\xff\x0a"), "a JPEG XL image"),
    (0, b"\0\0\1\0", "an icon (ICO)"),
    (0, b"v/1\1", "an OpenEXR image"),
    (0, b"#?RADIANCE", "a Radiance HDR image"),
    (128, b"DICM", "a DICOM file"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"PK\3\4", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (4, (b"ftypqt", b"ftypisom", b"ftypmp4"), "a video"),
    (4, b"ftyp", "a video or an image in a video's container"),
)


class _CheckedExif(Image.Exif):
    """EXIF data whose directory is checked before Pillow reads it: tags that share bytes would take much memory.

    Pillow reads the data of a JPEG and an AVIF while it opens them, so there is no other place for the check.
    """

    def load(self, data: bytes) -> None:
        try:
            check_directories(data.removeprefix(b"Exif\0\0"))
        except ImageError as error:
            raise SyntaxError(str(error)) from error  # Pillow's own for damaged data
        super().load(data)


Image.Exif = _CheckedExif  # type: ignore[misc]

# Pillow logs about unusual files; without a handler Python would print that to the terminal.
logging.getLogger("PIL").addHandler(logging.NullHandler())


class _QuietPillow:
    """Hides Pillow's warnings while any thread decodes; faults are raised as `ImageError` instead.

    Warning filters are shared by all threads, so the first thread to enter sets them and the last to leave restores
    them.
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
    """Read an image as RGB, oriented by its EXIF data, with transparency over white.

    Values of 16 bits are reduced to their upper 8; floating-point values must be in 0 to 1. Of an animation the first
    frame is read. Colour profiles are not applied, as in the training of the models.

    Args:
        source: a path, the bytes, or a binary file (read from its start).
        max_bytes: largest encoded size.
        max_pixels: largest width times height.
        shorter_side: in pixels; a JPEG is decoded at an eighth, a quarter or half of its size if its shorter side keeps
            at least twice this length, which saves most of the time for large photos.

    Returns:
        Mode RGB, without metadata.

    Raises:
        ImageError: missing, too large, of an unsupported format, or damaged.
    """
    with naming_source(source):
        content = read_bytes(source, max_bytes)
        if (size := lossless_size(content)) and 0 < size[0] * size[1] <= max_pixels:
            with decoding.reserve(PIXEL_BYTES * size[0] * size[1]):
                if (pixels := lossless_pixels(content, size)) is not None:
                    return Image.fromarray(pixels)
        kind = image_format(content)
        try:
            with _quiet_pillow:
                image = _decode(content, kind, max_pixels, shorter_side)
        except Image.UnidentifiedImageError:
            if kind != "TIFF":
                raise ImageError(f"is a damaged {kind} file; save or fetch it again") from None
            image = decode_unusual_tiff(content, max_pixels)
    image.info = {}
    return image


def image_format(content: bytes) -> str:
    """Return Pillow's name of the format of an image, recognised by its first bytes; `HEADER_BYTES` are enough.

    Raises:
        ImageError: no image, an unsupported format, or HEIC without the package pillow-heif.
    """
    kind = next((kind for offset, signature, kind in _FORMATS if content.startswith(signature, offset)), "")
    if kind == "HEIF" and b"avif" in content[16:64]:  # AVIF under a general brand, such as mif1
        return "AVIF"
    if kind == "HEIF" and not _reads_heif():
        raise ImageError("is a HEIC image; pip install 'swinlens[heic]' to read it, or save it as PNG or JPEG")
    if kind:
        return kind
    refused = next((kind for offset, signature, kind in _REFUSED if content.startswith(signature, offset)), "")
    head = content[:4096].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not refused and head.startswith(b"<"):
        refused = "an SVG drawing" if b"<svg" in head and b"<html" not in head else "a web page or XML"
    if refused:
        raise ImageError(f"is {refused}, which is not read here; save it as PNG or JPEG")
    raise ImageError("is not an image of a known format; save it as PNG or JPEG")


@cache
def _reads_heif() -> bool:
    """Return whether pillow-heif is installed, which adds the format HEIF to Pillow."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def _decode(content: bytes, kind: str, max_pixels: int, shorter_side: int | None) -> Image.Image:
    if kind == "TIFF":
        check_directories(content)
    if kind == "JPEG":
        _check_scans(content)
    if kind == "PNG":
        _check_chunks(content)
    too_large = ImageError(f"has more than {max_pixels / 1e6:g} million pixels; make it smaller")
    try:
        with Image.open(io.BytesIO(content), formats=[kind]) as image:
            # The tiles of a TIFF may be larger than the image; the decoder allocates whole tiles.
            tags: Any = getattr(image, "tag_v2", {})
            pixels = max(image.width * image.height, tags.get(322, 0) * tags.get(323, 0))
            if pixels > max_pixels:
                raise too_large
            if shorter_side is not None and kind == "JPEG":
                image.draft(None, (2 * shorter_side, 2 * shorter_side))
            if image.tile and image.tile[0].args == "RGB;16B" and "transparency" in image.info:
                # The transparent colour has 16 bits; Pillow reduces the pixels to the upper 8, but not this colour.
                image.info["transparency"] = tuple(level >> 8 for level in image.info["transparency"])
            with decoding.reserve(PIXEL_BYTES * (image.width * image.height if kind == "JPEG" else pixels)):
                image.load()
                # Damaged EXIF data raise errors of many classes; the pixels are readable all the same.
                with suppress(Exception):
                    ImageOps.exif_transpose(image, in_place=True)
                # A TIFF may hold 12 bits in 16. The rotated image has no tags, so they were read before.
                return to_rgb(image, tags.get(258, (16,))[0], tags.get(262) == 0)
    except (ImageError, Image.UnidentifiedImageError):
        raise
    except Image.DecompressionBombError:  # Pillow's own, higher limit
        raise too_large from None
    except Exception as error:  # on crafted bytes Pillow raises errors of many classes, SyntaxError among them
        raise ImageError(f"is a damaged or cut-short {kind} file ({reason(error)}); save or fetch it again") from error


def _check_scans(content: bytes) -> None:
    """Refuse a JPEG of very many scans. What follows its end, such as the video of a motion photo, is not searched."""
    at = scans = 0
    while (marker := _MARKER.search(content, at)) and marker[1] != _END_OF_IMAGE:
        scans += marker[1] == _START_OF_SCAN
        if scans > _MAX_SCANS:
            raise ImageError(f"is a JPEG of more than {_MAX_SCANS} scans; save it again")
        length = int.from_bytes(content[marker.end() : marker.end() + 2], "big")  # counts its own two bytes
        at = marker.end() + (0 if marker[1] == _START_OF_IMAGE else max(length, 2))


def _check_chunks(content: bytes) -> None:
    """Refuse a PNG of very many chunks, for each of which Pillow calls Python functions."""
    at = 8
    for _ in range(_MAX_CHUNKS):
        if at >= len(content):
            return
        at += 12 + int.from_bytes(content[at : at + 4], "big")  # length, name, data, checksum
    raise ImageError(f"is a PNG of more than {_MAX_CHUNKS:,} chunks; save it again")
