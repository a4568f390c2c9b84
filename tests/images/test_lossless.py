"""Lossless images decoded by OpenCV: the pixels equal Pillow's, and files that need interpretation are left to it."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from swin_core.images.lossless import lossless_pixels, lossless_size

DRAW = np.random.default_rng(0)


def encoded(pixels: np.ndarray, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def by_opencv(content: bytes) -> np.ndarray | None:
    size = lossless_size(content)
    return None if size is None or 0 in size else lossless_pixels(content, size)


def by_pillow(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def pixels_of(height: int, width: int) -> np.ndarray:
    return DRAW.integers(0, 256, (height, width, 3), np.uint8)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize("size", [(1, 1), (32, 32), (7, 13), (200, 3)])
@pytest.mark.parametrize(("kind", "options"), [("WEBP", {"lossless": True}), ("PNG", {}), ("PNG", {"optimize": True})])
def test_the_pixels_are_those_that_were_saved(kind: str, options: dict[str, object], size: tuple[int, int]) -> None:
    pixels = pixels_of(*size)
    found = by_opencv(encoded(pixels, kind, **options))
    assert found is not None
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, pixels)


def test_a_flat_image_and_few_colours() -> None:
    for pixels in (np.zeros((8, 8, 3), np.uint8), np.tile(np.uint8([[[0, 9, 255], [1, 2, 3]]]), (4, 4, 1))):
        for content in (encoded(pixels, "WEBP", lossless=True), encoded(pixels, "PNG")):
            np.testing.assert_array_equal(by_opencv(content), pixels)


def with_exif(pixels: np.ndarray, kind: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    return encoded(pixels, kind, exif=exif.tobytes(), lossless=True)


def notes(**values: bytes) -> PngImagePlugin.PngInfo:
    found = PngImagePlugin.PngInfo()
    for kind, value in values.items():
        found.add(kind.encode(), value)
    return found


PIXELS = pixels_of(6, 5)
LEFT_ALONE = {
    "a lossy WebP": encoded(PIXELS, "WEBP"),
    "transparency, WebP": encoded(np.dstack([PIXELS, PIXELS[..., :1]]), "WEBP", lossless=True, exact=True),
    "transparency, PNG": encoded(np.dstack([PIXELS, PIXELS[..., :1]]), "PNG"),
    "a transparent colour": encoded(PIXELS, "PNG", transparency=(1, 2, 3)),
    "turned, WebP": with_exif(PIXELS, "WEBP"),
    "turned, PNG": with_exif(PIXELS, "PNG"),
    "a gamma of its own": encoded(PIXELS, "PNG", pnginfo=notes(gAMA=struct.pack(">I", 100_000))),
    "grey": encoded(PIXELS[..., 0], "PNG"),
    "grey of 16 bits": encoded(PIXELS[..., 0].astype(np.uint16), "PNG"),
    "a JPEG": encoded(PIXELS, "JPEG"),
    "nothing": b"",
    "a PNG's first bytes": encoded(PIXELS, "PNG")[:20],
    "a PNG with more after it": encoded(PIXELS, "PNG") + b"\0",
    "a WebP with more after it": encoded(PIXELS, "WEBP", lossless=True) + b"\0\0",
    "a WebP's first bytes": encoded(PIXELS, "WEBP", lossless=True)[:22],
}


@pytest.mark.parametrize("what", LEFT_ALONE)
def test_what_needs_interpretation_is_left_to_the_reader(what: str) -> None:
    assert by_opencv(LEFT_ALONE[what]) is None


@pytest.mark.parametrize("kind", ["WEBP", "PNG"])
def test_the_size_is_known_before_the_pixels_are_decoded(kind: str) -> None:
    assert lossless_size(encoded(PIXELS, kind, lossless=True)) == (5, 6)


@pytest.mark.parametrize("kind", ["WEBP", "PNG"])
def test_damage_is_found_or_gives_what_pillow_gives(kind: str) -> None:
    content = encoded(pixels_of(12, 12) // 32 * 32, kind, lossless=True)
    read = 0
    for _ in range(400):
        damaged = bytearray(content)
        for at in DRAW.integers(0, len(content), DRAW.integers(1, 4)):
            damaged[at] = DRAW.integers(0, 256)
        found = by_opencv(bytes(damaged))
        if found is not None:
            read += bytes(damaged) != content
            np.testing.assert_array_equal(found, by_pillow(bytes(damaged)))
    assert (read > 0) == (kind == "WEBP")  # a PNG has check sums


def test_broken_pixels_with_the_right_check_sum_are_no_image() -> None:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
    full = zlib.compress(bytes(8 * 25))
    for data in (full[:-6], b"no zlib at all", b"", zlib.compress(bytes(30)), zlib.compress(b"\x09" * 8 * 25)):
        content = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", data) + chunk(b"IEND", b"")
        found = by_opencv(content)
        try:
            right = by_pillow(content)
        except Exception:
            right = None
        assert (found is None) == (right is None), data
        if found is not None:
            np.testing.assert_array_equal(found, right)
