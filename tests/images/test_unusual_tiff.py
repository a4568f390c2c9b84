"""TIFFs that Pillow cannot decode: the same pixels from either process, within limits of memory and time."""

import io
import json
import signal
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from swin_core.errors import ImageError
from swin_core.images import unusual_tiff
from swin_core.images.read import read_image
from tests.fixtures.images import encoded, tiff_encoded

ROOT = Path(__file__).resolve().parents[2]

# Runs in a process of its own, to measure its memory and that of the process that it starts, in MiB.
MEASURE = """
import json, resource, sys
from swin_core.errors import ImageError
from swin_core.images.read import read_image
def peak(who):
    return resource.getrusage(who).ru_maxrss / 1024
before, message = peak(resource.RUSAGE_SELF), ""
try:
    read_image(sys.argv[1])
except ImageError as error:
    message = str(error)
print(json.dumps([message, peak(resource.RUSAGE_SELF) - before, peak(resource.RUSAGE_CHILDREN)]))
"""


def inflating(size: int) -> bytes:
    """A floating-point TIFF of 64 x 64 pixels whose strip inflates to `size` bytes."""
    content = tiff_encoded(np.zeros((64, 64, 3), np.float32), photometric="rgb", compression="zlib")
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        tags = file.pages.first.tags
        offsets, lengths = tags["StripOffsets"], tags["StripByteCounts"]
    deflate = zlib.compressobj(1)
    strip = b"".join(deflate.compress(bytes(2**20)) for _ in range(size >> 20)) + deflate.flush()
    changed = bytearray(content)
    struct.pack_into("<HII", changed, offsets.offset + 2, 4, 1, len(content))
    struct.pack_into("<HII", changed, lengths.offset + 2, 4, 1, len(strip))
    return bytes(changed) + strip


def test_a_strip_that_inflates_costs_only_its_child(tmp_path: Path) -> None:
    path = tmp_path / "bomb.tif"
    path.write_bytes(inflating(800 << 20))
    done = subprocess.run([sys.executable, "-c", MEASURE, str(path)], cwd=ROOT, capture_output=True, text=True)
    message, here, apart = json.loads(done.stdout)
    assert "takes too much memory" in message
    assert here < 100
    assert 0 < apart < 450


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8"])
@pytest.mark.parametrize("channels", [3, 4])
def test_child_and_parent_give_the_same_pixels(dtype: str, channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random((30, 40, channels))
    values = (values * 255 if dtype == "uint8" else values).astype(dtype)
    content = tiff_encoded(values, photometric="rgb")
    here = unusual_tiff.decode_unusual_tiff(content, 2000)
    monkeypatch.setattr(unusual_tiff, "_SMALL_BYTES", 0)
    monkeypatch.setattr(unusual_tiff, "_BAND_PIXELS", 500_000)
    np.testing.assert_array_equal(unusual_tiff.decode_unusual_tiff(content, 2000), here)
    if channels == 3 and dtype != "uint8":
        np.testing.assert_array_equal(here, np.round(values.astype(np.float32) * np.float32(255)).astype(np.uint8))


def test_the_child_says_what_is_wrong() -> None:
    for values, message in (
        (np.full((9, 9), 7.0), "nothing says which is white"),
        (np.zeros((9, 9, 3, 2)), "which is no image"),
        (np.zeros((50, 50)), "has more than 0.002 million pixels"),
    ):
        with pytest.raises(ImageError, match=message):
            read_image(tiff_encoded(values, photometric="minisblack", compression="zlib"), max_pixels=2000)


def test_a_child_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unusual_tiff, "_WALL_SECONDS", 0.01)
    content = tiff_encoded(np.zeros((9, 9, 3)), photometric="rgb", compression="zlib")
    with pytest.raises(ImageError, match="takes too much memory or time to decode; make it smaller"):
        read_image(content)


SPINNING = """
import itertools
from swin_core.images import unusual_tiff
unusual_tiff._CPU_SECONDS = 0
unusual_tiff.read_tiff = lambda *_: max(itertools.count())
unusual_tiff.main()
"""
"""The child with next to no processor time, at a TIFF that takes for ever."""


def test_a_child_that_computes_too_long_is_ended_by_its_own_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long before the time on the clock is over, which a busy machine stretches."""
    children = []
    start = subprocess.Popen

    def spin(command: list[str], **named: Any) -> subprocess.Popen[bytes]:
        children.append(start([sys.executable, "-c", SPINNING, *command[3:]], **named))
        return children[-1]

    monkeypatch.setattr(unusual_tiff.subprocess, "Popen", spin)
    content = tiff_encoded(np.zeros((9, 9, 3)), photometric="rgb", compression="zlib")
    with pytest.raises(ImageError, match="takes too much memory or time to decode; make it smaller"):
        read_image(content)
    assert [child.returncode for child in children] == [-signal.SIGXCPU]


def test_exif_tags_that_share_bytes_are_not_read() -> None:
    """Tags of a PNG of 2 MB held 800 MiB; the image is read without them."""
    tags = [(40_000 + number, 7, 2**20, 8) for number in range(400)]
    directory = b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    exif = Image.Exif()
    with pytest.raises(SyntaxError, match="tags hold more than the file"):
        exif.load(directory + bytes(2**20))
    content = encoded(np.zeros((8, 8, 3), np.uint8), "PNG", exif=directory + bytes(2**20))
    assert read_image(content).size == (8, 8)
