"""Decode plain lossless PNG and WebP with OpenCV, which is faster than Pillow.

Data sets of small images consist of such files. `read_image` then takes 80 instead of 110 microseconds for 32 x 32
pixels, 2 seconds less for the 60,000 images of CIFAR-100; at 224 x 224 pixels it saves a tenth (one core).

Only complete files of 8-bit RGB are decoded here, without transparency, metadata or further frames, so there is nothing
to interpret. All other files, and all errors, are left to Pillow.
"""

import struct
import zlib

import cv2
import numpy as np

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def lossless_size(content: bytes) -> tuple[int, int] | None:
    """Return width and height of a plain lossless WebP or PNG; None for other files."""
    return _webp_size(content) or _png_size(content)


def lossless_pixels(content: bytes, size: tuple[int, int]) -> np.ndarray | None:
    """Decode a file of which `lossless_size` returned the width and height.

    Returns:
        `(H, W, 3)` uint8, RGB; None for a damaged file.
    """
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    return None if pixels is None or pixels.shape != (size[1], size[0], 3) else pixels


def _webp_size(content: bytes) -> tuple[int, int] | None:
    """Return width and height of a simple lossless WebP without alpha (RFC 9649, sections 2.6 and 3.4), or None."""
    if content[:4] != b"RIFF" or content[8:16] != b"WEBPVP8L" or len(content) < 25:
        return None
    riff, chunk = struct.unpack_from("<I", content, 4)[0], struct.unpack_from("<I", content, 16)[0]
    signature, bits = struct.unpack_from("<BI", content, 20)
    complete = riff == len(content) - 8 and chunk + chunk % 2 == len(content) - 20  # padded to even
    if not complete or signature != 0x2F or bits >> 28:  # the upper bits: alpha and version
        return None
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


def _png_size(content: bytes) -> tuple[int, int] | None:
    """Return width and height of an 8-bit RGB PNG that holds only pixels, with correct checksums, or None."""
    if not content.startswith(_PNG_SIGNATURE):
        return None
    position, kinds = len(_PNG_SIGNATURE), []
    while position + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        end = position + 8 + length
        if content[end : end + 4] != struct.pack(">I", zlib.crc32(content[position + 4 : end])):
            return None
        kinds.append(kind)
        position = end + 4
    if position != len(content) or kinds[:1] != [b"IHDR"] or kinds[-1:] != [b"IEND"] or set(kinds[1:-1]) != {b"IDAT"}:
        return None
    width, height, depth, colour = struct.unpack_from(">IIBB", content, 16)
    return (width, height) if (depth, colour) == (8, 2) else None
