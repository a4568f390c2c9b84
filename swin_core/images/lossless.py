"""Pixels of lossless images in which nothing is left to interpret: a third of the time that Pillow takes for them.

That is what data sets of small images are made of, and there opening a file costs more than its pixels. Only files
are read here that say by themselves that they are whole and hold 8-bit RGB alone, without transparency, metadata or
further frames; all others, and all errors, are left to the reader that knows them.
"""

import struct
import zlib

import cv2
import numpy as np

__all__ = ["lossless_pixels"]

_PNG = b"\x89PNG\r\n\x1a\n"


def lossless_pixels(content: bytes, max_pixels: int) -> np.ndarray | None:
    """Decode a plain lossless WebP or PNG.

    Args:
        content: the file.
        max_pixels: largest width times height.

    Returns:
        `(H, W, 3)` uint8, RGB; None for every other file, for one with more pixels and for one that is damaged.
    """
    side = _webp_size(content) or _png_size(content)
    if side is None or not 0 < side[0] * side[1] <= max_pixels:
        return None
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    return None if pixels is None or pixels.shape != (side[1], side[0], 3) else pixels


def _webp_size(content: bytes) -> tuple[int, int] | None:
    """Width and height of a simple lossless WebP (RFC 9649, sections 2.6 and 3.4) without alpha."""
    if content[:4] != b"RIFF" or content[8:16] != b"WEBPVP8L" or len(content) < 25:
        return None
    riff, chunk = struct.unpack_from("<I", content, 4)[0], struct.unpack_from("<I", content, 16)[0]
    signature, bits = struct.unpack_from("<BI", content, 20)
    # Chunks are padded to an even length.
    whole = riff == len(content) - 8 and chunk + chunk % 2 == len(content) - 20
    if not whole or signature != 0x2F or bits >> 28:  # the uppermost bits: alpha, and the version
        return None
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


def _png_size(content: bytes) -> tuple[int, int] | None:
    """Width and height of a PNG of 8-bit RGB whose chunks are its pixels alone, with the right check sums."""
    if not content.startswith(_PNG):
        return None
    at, kinds = len(_PNG), []
    while at + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        end = at + 8 + length
        if end + 4 > len(content) or zlib.crc32(content[at + 4 : end]) != struct.unpack_from(">I", content, end)[0]:
            return None
        kinds.append(kind)
        at = end + 4
    if at != len(content) or kinds[:1] != [b"IHDR"] or kinds[-1:] != [b"IEND"] or set(kinds[1:-1]) != {b"IDAT"}:
        return None
    width, height, depth, colour = struct.unpack_from(">IIBB", content, 16)
    return (width, height) if (depth, colour) == (8, 2) else None
