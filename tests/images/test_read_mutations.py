"""Ten thousand damaged images: each is read or raises an `ImageError` within seconds."""

from __future__ import annotations

import random
import struct
import time
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from swin_core.errors import ImageError
from swin_core.images.read import read_image
from tests.fixtures.images import EVERY_FORMAT, encoded, smooth_pixels

EACH = 625
SECONDS = 5
EXTREMES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFF)


def originals() -> dict[str, bytes]:
    """Sixteen tiny images in all formats and several modes."""
    pixels = smooth_pixels()[:11, :13]
    image = Image.fromarray(pixels)
    alpha = image.convert("RGBA")
    alpha.putalpha(128)
    grey = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    found = {kind: encoded(image, kind, **options) for kind, options in EVERY_FORMAT.items()}
    return found | {
        "PNG, palette": encoded(image.quantize(7), "PNG"),
        "PNG, alpha": encoded(alpha, "PNG"),
        "PNG, 16 bits": encoded(grey, "PNG"),
        "JPEG, progressive": encoded(image, "JPEG", progressive=True, quality=60),
        "JPEG, CMYK": encoded(image.convert("CMYK"), "JPEG"),
        "TIFF, LZW": encoded(image, "TIFF", compression="tiff_lzw"),
        "TIFF, 16 bits": encoded(grey, "TIFF"),
        "WEBP, animated": encoded(image, "WEBP", save_all=True, append_images=[image.rotate(90)]),
        "GIF, animated": encoded(image, "GIF", save_all=True, append_images=[image.rotate(90)]),
    }


def flipped(content: bytearray, draw: random.Random, _others: list[bytes]) -> bytearray:
    for _ in range(draw.choice((1, 2, 8, 64))):
        # Half of them near the beginning, which holds the sizes.
        reach = len(content) if draw.random() < 0.5 else min(64, len(content))
        content[draw.randrange(reach)] ^= 1 << draw.randrange(8)
    return content


def cut(content: bytearray, draw: random.Random, _others: list[bytes]) -> bytearray:
    return content[: draw.randrange(1, len(content))]


def gap(content: bytearray, draw: random.Random, _others: list[bytes]) -> bytearray:
    start = draw.randrange(len(content))
    del content[start : start + draw.randrange(1, 40)]
    return content


def repeated(content: bytearray, draw: random.Random, _others: list[bytes]) -> bytearray:
    start, stop = sorted(draw.randrange(len(content)) for _ in range(2))
    return content[:stop] + content[start:stop] * draw.choice((1, 2, 50)) + content[stop:]


def spliced(content: bytearray, draw: random.Random, others: list[bytes]) -> bytearray:
    """Replace the header by that of another image."""
    other = draw.choice(others)
    length = draw.choice((4, 8, 12, 16, 32, 64, draw.randrange(1, len(other))))
    return bytearray(other[:length]) + content[draw.choice((length, draw.randrange(len(content)))) :]


def extreme(content: bytearray, draw: random.Random, _others: list[bytes]) -> bytearray:
    """Set numbers of two or four bytes in the header to extreme values."""
    for _ in range(draw.choice((1, 1, 2, 4))):
        kind = draw.choice(("<H", ">H", "<I", ">I"))
        place = draw.randrange(min(len(content) - 4, draw.choice((40, 400))))
        number = draw.choice(EXTREMES) & (0xFFFF if kind[1] == "H" else 0xFFFF_FFFF)
        struct.pack_into(kind, content, place, number)
    return content


MUTATIONS: tuple[Callable[..., bytearray], ...] = (flipped, cut, gap, repeated, spliced, extreme)


def test_there_are_ten_thousand() -> None:
    assert len(originals()) * EACH == 10_000


@pytest.mark.parametrize("name", originals())
def test_damaged_images_are_read_or_refused(name: str) -> None:
    images = originals()
    draw = random.Random(name)
    others = [content for other, content in images.items() if other != name]
    read = 0
    filters = list(warnings.filters)
    for number in range(EACH):
        content = bytes(draw.choice(MUTATIONS)(bytearray(images[name]), draw, others))
        start = time.thread_time()
        try:
            image = read_image(content, max_pixels=10**6)
        except ImageError as error:
            line = str(error)
            assert len(line.splitlines()) == 1, (number, line)
            assert len(line) < 400, (number, line)
        else:
            read += 1
            assert image.mode == "RGB"
            assert not image.info
            assert image.width * image.height <= 10**6
        assert time.thread_time() - start < SECONDS, (number, len(content))
    # Some are read and some refused.
    assert 0 < read < EACH
    assert warnings.filters == filters


def test_the_images_themselves_are_read() -> None:
    for name, content in originals().items():
        assert read_image(content).size == (13, 11), name
