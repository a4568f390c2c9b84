"""Invalid and foreign files: an `ImageError` of one line each, with little memory and time."""

import io
import json
import os
import random
import struct
import subprocess
import sys
import threading
import time
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from swin_core.errors import ImageError
from swin_core.images.read import read_image
from tests.fixtures.images import EVERY_FORMAT, encoded, hand_made_png, one_line, png_chunk, smooth_pixels, tiff_encoded

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def pixels() -> np.ndarray:
    return smooth_pixels()


def read_or_refuse(content: bytes, **caps: int) -> Image.Image | None:
    """Return the image, or None if it is refused; the message must be one line."""
    try:
        return read_image(content, **caps)
    except ImageError as error:
        message = str(error)
    assert len(message.splitlines()) == 1
    return None


@pytest.mark.parametrize("kind", EVERY_FORMAT)
def test_a_file_cut_short_is_refused_or_whole(kind: str, pixels: np.ndarray) -> None:
    content = encoded(pixels, kind, **EVERY_FORMAT[kind])
    whole = np.asarray(read_image(content))
    refused = 0
    for length in [*range(1, min(64, len(content)), 3), *np.linspace(64, len(content) - 1, 60).astype(int)]:
        shown = read_or_refuse(content[:length])
        refused += shown is None
        if shown is not None:  # what is missing then is an end mark only
            np.testing.assert_array_equal(np.asarray(shown), whole)
    assert refused > 60


@pytest.mark.parametrize("kind", EVERY_FORMAT)
def test_damaged_bytes_raise_no_other_error(kind: str, pixels: np.ndarray) -> None:
    content = encoded(pixels, kind, **EVERY_FORMAT[kind], exif=Image.Exif()) if kind != "GIF" else encoded(pixels, kind)
    draw = random.Random(0)
    for _ in range(150):
        damaged = bytearray(content)
        for _ in range(draw.choice([1, 3, 20])):
            damaged[draw.randrange(8, min(len(damaged), draw.choice([64, 400, 10**6])))] = draw.randrange(256)
        shown = read_or_refuse(bytes(damaged), max_pixels=10**6)
        assert shown is None or shown.mode == "RGB"


FOREIGN = {
    "SVG": b"<?xml version='1.0'?>\n<!-- drawn -->\n<svg xmlns='http://www.w3.org/2000/svg'></svg>",
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
    "PSD": b"8BPS\0\1" + bytes(20),
    "FITS": b"SIMPLE  =                    T" + b" " * 50,
    # "HEIC" in the advice to install its package; "HEIF" where that is installed and finds no image.
    "HEI": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "HEI ": b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic",
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(20),
    "JPEG XL": b"\xff\x0a" + bytes(20),
    "PDF": b"%PDF-1.7\n",
    "ICO": b"\0\0\1\0\1\0" + bytes(20),
    "DICOM": bytes(128) + b"DICM" + bytes(20),
    "NumPy": b"\x93NUMPY\1\0" + bytes(20),
    "ZIP": b"PK\3\4" + bytes(30),
    "web page": b"<!DOCTYPE html><html><body><svg></svg></body></html>",
    "video": b"\0\0\0\x18ftypisom" + bytes(20),
    "known format": b"just some text, saved as an image",
}


@pytest.mark.parametrize("named", FOREIGN)
def test_foreign_formats_named_png_are_called_by_their_name(named: str, tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(FOREIGN[named])
    with pytest.raises(ImageError, match=named.strip()) as error:
        read_image(path)
    assert one_line(error).startswith(str(path))


def test_foreign_formats_as_pillow_writes_them(pixels: np.ndarray) -> None:
    for kind in ("EPS", "PDF", "PPM", "ICO", "JPEG2000", "TGA", "PCX", "SGI", "XBM"):
        image = Image.fromarray(pixels[:32, :32]).convert("1" if kind == "XBM" else "RGB")
        with pytest.raises(ImageError) as error:
            read_image(encoded(image, kind))
        one_line(error)


# Runs in a process of its own, to measure its peak memory. Prints for each file the name, CPU seconds, MiB and message.
MEASURE = """
import json, resource, sys, time
from swin_core.errors import ImageError
from swin_core.images.read import read_image
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
for path in sys.argv[1:]:
    before, start = peak(), time.process_time()
    try:
        read_image(path)
    except ImageError as error:
        print(json.dumps([path, time.process_time() - start, peak() - before, str(error)]))
"""


def webp_canvas(side: int) -> bytes:
    """An animated WebP of frames of 8 x 8 pixels on a canvas of `side` x `side`."""
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    content = bytearray(encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True))
    place = content.index(b"VP8X") + 12
    content[place : place + 6] = (side - 1).to_bytes(3, "little") * 2
    return bytes(content)


def wide_tiles() -> bytes:
    """A TIFF of 16 x 16 pixels in one tile that claims 60,000 x 60,000."""
    content = bytearray(tiff_encoded(np.zeros((16, 16), np.uint8), tile=(16, 16), compression="zlib"))
    entries = struct.unpack_from("<I", content, 4)[0] + 2
    for place in range(entries, entries + 12 * struct.unpack_from("<H", content, entries - 2)[0], 12):
        tag = struct.unpack_from("<H", content, place)[0]
        if tag in (322, 323):
            struct.pack_into("<HII", content, place + 2, 4, 1, 60_000)
    return bytes(content)


BOMBS: dict[str, Callable[[], bytes]] = {
    "one-bit PNG": lambda: hand_made_png(20_000, 20_000, 1, 0, bytes(2501 * 20_000)),
    "PNG that Pillow warns of": lambda: hand_made_png(9_500, 9_500, 8, 0, bytes(9_501 * 9_500)),
    "WebP canvas": lambda: webp_canvas(16_383),
    "GIF screen": lambda: (
        b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + encoded(np.zeros((8, 8), np.uint8), "GIF")[10:]
    ),
    "BMP header": lambda: (
        b"BM" + struct.pack("<IIIIiiHHIIiiII", 1000, 0, 54, 40, 30_000, 30_000, 1, 24, 0, 0, 0, 0, 0, 0)
    ),
    "TIFF tiles": wide_tiles,
}


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list]:
    """Seconds, MiB and error message of reading each decompression bomb."""
    paths = {name: tmp_path_factory.mktemp("bomb") / "image.png" for name in BOMBS}
    for name, path in paths.items():
        path.write_bytes(BOMBS[name]())
        assert path.stat().st_size < 2**20
    command = [sys.executable, "-W", "error:::PIL", "-c", MEASURE, *map(str, paths.values())]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=250, check=True)
    assert done.stderr == ""
    rows = {path: rest for path, *rest in map(json.loads, done.stdout.splitlines())}
    return {name: rows[str(path)] for name, path in paths.items()}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_before_it_is_decoded(bomb: str, refusals: dict[str, list]) -> None:
    seconds, mebibytes, message = refusals[bomb]
    assert seconds < 2
    assert mebibytes < 200
    assert "million pixels" in message
    assert len(message.splitlines()) == 1


def test_a_text_chunk_that_unpacks_to_much_is_refused() -> None:
    text = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(80 * 2**20), 9))
    with pytest.raises(ImageError) as error:
        read_image(hand_made_png(1, 1, 8, 0, b"\0\0", text))
    one_line(error)


def test_caps_on_bytes_and_pixels(pixels: np.ndarray, tmp_path: Path) -> None:
    content = encoded(pixels, "PNG")
    path = tmp_path / "a.png"
    path.write_bytes(content)
    for source in (content, io.BytesIO(content), path):
        read_image(source, max_bytes=len(content), max_pixels=pixels.shape[0] * pixels.shape[1])
        with pytest.raises(ImageError, match="MiB"):
            read_image(source, max_bytes=len(content) - 1)
        with pytest.raises(ImageError, match="pixels"):
            read_image(source, max_pixels=pixels.shape[0] * pixels.shape[1] - 1)


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    start = time.perf_counter()
    for path in (
        "pipe.png",
        "empty.png",
        "folder.png",
        "loop.png",
        "missing.png",
        "../missing/../../a.png",
        "nul\0.png",
        "two\nlines.png",
        "x" * 5000,
        "/dev/zero",
        "",
    ):
        with pytest.raises(ImageError) as error:
            read_image(os.path.join(tmp_path, path) if path else "")
        one_line(error)
    assert time.perf_counter() - start < 2
    for stream in (io.StringIO("text"), io.BytesIO(b"")):
        with pytest.raises(ImageError) as error:
            read_image(stream)  # type: ignore[arg-type]
        one_line(error)


def test_pillows_warnings_stay_inside(pixels: np.ndarray, capfd: pytest.CaptureFixture[str]) -> None:
    animation = png_chunk(b"acTL", struct.pack(">II", 0, 0))
    odd = [
        hand_made_png(4, 4, 8, 0, bytes(20), animation),
        encoded(pixels, "PNG", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0" + b"\x12\x01\x03\0" * 9),
        encoded(pixels, "TIFF")[:-40],
        hand_made_png(9_500, 9_500, 1, 0, bytes(1_189 * 9_500)),
        encoded(Image.fromarray(pixels).quantize(4), "PNG", transparency=bytes([0, 9, 99, 255])),
    ]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # The files must be such that Pillow alone would warn.
        for content in odd:
            try:
                Image.open(io.BytesIO(content)).convert("RGB").getexif()
            except Exception:
                continue
        assert len(caught) >= 2
        caught.clear()
        before = list(warnings.filters)
        for content in odd:
            try:
                read_image(content)
            except ImageError:
                continue
        assert caught == []
        assert warnings.filters == before
    assert capfd.readouterr() == ("", "")


def test_threads_read_alike_and_leave_the_warning_filters_alone(pixels: np.ndarray) -> None:
    contents = [encoded(pixels, kind, **options) for kind, options in EVERY_FORMAT.items()] * 20
    alone = [np.asarray(read_image(content)) for content in contents]
    before = list(warnings.filters)
    barrier = threading.Barrier(8)

    def read_all(_: int) -> list[np.ndarray]:
        barrier.wait()
        return [np.asarray(read_image(content)) for content in contents]

    with ThreadPoolExecutor(8) as pool:
        for together in pool.map(read_all, range(8)):
            assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))
    assert warnings.filters == before


def test_a_jpeg_of_many_scans_and_a_png_of_many_chunks_are_refused(pixels: np.ndarray) -> None:
    """Each scan takes a pass over all pixels: 2,000 of 4,000 x 4,000 pixels took minutes."""
    jpeg = encoded(pixels, "JPEG", progressive=True)
    last = jpeg.rindex(b"\xff\xda")
    read_image(jpeg[:last] + jpeg[last:-2] * 20 + jpeg[-2:])
    with pytest.raises(ImageError, match=r"is a JPEG of more than 100 scans; save it again\.?$"):
        read_image(jpeg[:last] + jpeg[last:-2] * 200 + jpeg[-2:])
    hidden = jpeg[:2] + b"\xff\xfe\0\4\xff\xd9" + jpeg[2:last] + jpeg[last:-2] * 200  # a comment like the end
    with pytest.raises(ImageError, match="of more than 100 scans"):
        read_image(hidden + jpeg[-2:])
    png, chunk = encoded(pixels, "PNG"), png_chunk(b"aaAa", b"")
    read_image(png[:33] + chunk * 1000 + png[33:])
    with pytest.raises(ImageError, match=r"is a PNG of more than 50,000 chunks; save it again\.?$"):
        read_image(png[:33] + chunk * 60_000 + png[33:])


def test_what_follows_a_jpeg_is_not_searched_for_scans(pixels: np.ndarray) -> None:
    """A motion photo has a video behind its image, in which the bytes of a marker stand by chance."""
    video = np.random.default_rng(0).bytes(8_000_000)
    assert video.count(b"\xff\xda") > 100
    for options in ({}, {"progressive": True}):
        jpeg = encoded(pixels, "JPEG", **options)
        assert np.array_equal(read_image(jpeg + video), read_image(jpeg))
