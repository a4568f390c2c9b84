"""Every way in which bytes may fail to be a plain picture: fault 5 to 8 of what the interfaces must survive."""

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

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from swin_core.errors import ImageError
from swin_core.images import read_image

ROOT = Path(__file__).resolve().parent.parent
LOSSLESS = {"PNG": {}, "WEBP": {"lossless": True}, "BMP": {}, "TIFF": {"compression": "tiff_lzw"}}
EVERY_FORMAT = {**LOSSLESS, "GIF": {}, "JPEG": {"quality": 95}, "AVIF": {"quality": 95}}


@pytest.fixture
def pixels() -> np.ndarray:
    """A colour picture of 40 x 56 pixels that no turn or flip maps onto itself, smooth enough for JPEG."""
    rows, columns = np.mgrid[0:40, 0:56]
    channels = (rows * 6, columns * 4, (rows + columns) % 40 * 5)
    return np.stack(channels, axis=2).astype(np.uint8)


def encoded(picture: Image.Image | np.ndarray, kind: str, **options: object) -> bytes:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def opencv_encoded(pixels: np.ndarray, suffix: str) -> bytes:
    order = {3: [2, 1, 0], 4: [2, 1, 0, 3]}.get(pixels.shape[2] if pixels.ndim == 3 else 1)
    done, content = cv2.imencode(suffix, pixels[:, :, order] if order else pixels)
    assert done
    return content.tobytes()


def tiff_encoded(array: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def hand_made_png(width: int, height: int, depth: int, colour: int, raw: bytes, *chunks: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = png_chunk(b"IDAT", zlib.compress(raw, 9))
    return (
        b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + b"".join(chunks) + body + png_chunk(b"IEND", b"")
    )


def one_line(error: pytest.ExceptionInfo[ImageError]) -> str:
    message = str(error.value)
    assert message
    assert len(message.splitlines()) == 1
    return message


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_formats_give_the_pixels_back(kind: str, pixels: np.ndarray) -> None:
    image = read_image(encoded(pixels, kind, **LOSSLESS[kind]))
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), pixels)


@pytest.mark.parametrize(("kind", "most"), [("JPEG", 4), ("AVIF", 6), ("GIF", 24)])
def test_lossy_formats_come_close(kind: str, most: float, pixels: np.ndarray) -> None:
    image = read_image(encoded(pixels, kind, **EVERY_FORMAT[kind]))
    assert image.mode == "RGB"
    assert np.abs(np.asarray(image).astype(int) - pixels).mean() < most


def test_every_kind_of_source_gives_the_same_picture(tmp_path: Path, pixels: np.ndarray) -> None:
    content = encoded(pixels, "PNG")
    path = tmp_path / "a picture.jpg"  # the name lies, the content decides
    path.write_bytes(content)
    (tmp_path / "folder").mkdir()
    stream = io.BytesIO(content)
    stream.read()  # as after a first look by an upload widget
    sources = (content, bytearray(content), path, str(path), tmp_path / "folder" / ".." / path.name, stream)
    for source in sources:
        np.testing.assert_array_equal(np.asarray(read_image(source)), pixels)
    with path.open("rb") as file:
        np.testing.assert_array_equal(np.asarray(read_image(file)), pixels)
    assert not stream.closed


# What a file shows for what it stores, by the EXIF standard's table of where row 0 and column 0 lie.
SHOWN: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: stored.swapaxes(0, 1)[:, ::-1],
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: stored.swapaxes(0, 1)[::-1],
}


@pytest.mark.parametrize("orientation", SHOWN)
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "JPEG"])
def test_each_exif_orientation_gives_the_same_pixels(kind: str, orientation: int, pixels: np.ndarray) -> None:
    candidates = [turn(pixels) for turn in SHOWN.values()]
    stored = next(c for c in candidates if np.array_equal(SHOWN[orientation](c), pixels))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {**EVERY_FORMAT[kind], "exif": exif}
    if kind == "JPEG":
        options |= {"quality": 100, "subsampling": 0}
    image = read_image(encoded(np.ascontiguousarray(stored), kind, **options))
    assert np.asarray(image).shape == pixels.shape
    assert np.abs(np.asarray(image).astype(int) - pixels).max() <= (4 if kind == "JPEG" else 0)


def test_nothing_of_the_metadata_is_left(tmp_path: Path, pixels: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x010F] = "SecretCamera"
    exif[0x0112] = 6
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.0), 3: "E", 4: (13.0, 24.0, 18.0)})
    for kind, options in (
        ("JPEG", {"comment": b"SecretPlace"}),
        ("PNG", {}),
        ("WEBP", {"xmp": b"<SecretPlace/>"}),
    ):
        content = encoded(pixels, kind, exif=exif, icc_profile=b"SecretProfile", **options)
        assert b"Secret" in content
        image = read_image(content)
        assert image.info == {}
        assert len(image.getexif()) == 0
        for export in ("PNG", "JPEG", "WEBP", "TIFF"):
            written = encoded(image, export)
            assert b"Secret" not in written
            assert Image.open(io.BytesIO(written)).getexif().get_ifd(0x8825) == {}


def test_damaged_exif_does_not_hide_the_picture(pixels: np.ndarray) -> None:
    for exif in (
        b"Exif\0\0MM\0*\0\0\0",
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01" * 40,
        b"Exif\0\0" + b"\xff" * 64,
    ):
        image = read_image(encoded(pixels, "PNG", exif=exif))
        np.testing.assert_array_equal(np.asarray(image), pixels)


@pytest.fixture
def deep() -> np.ndarray:
    """All 65,536 levels once, in 256 x 256."""
    return np.random.default_rng(0).permutation(2**16).astype(np.uint16).reshape(256, 256)


def test_sixteen_bits_are_scaled_and_not_clipped(deep: np.ndarray) -> None:
    grey = np.repeat((deep >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
    for content in (
        opencv_encoded(deep, ".png"),
        tiff_encoded(deep, photometric="minisblack"),
        tiff_encoded(deep, photometric="minisblack", byteorder=">"),
    ):
        np.testing.assert_array_equal(np.asarray(read_image(content)), grey)
    for byteorder in "<>":
        inverted = tiff_encoded(deep, photometric="miniswhite", byteorder=byteorder)
        np.testing.assert_array_equal(np.asarray(read_image(inverted)), 255 - grey)

    colour = np.stack([deep, deep[::-1], deep[:, ::-1]], axis=2)
    for content in (
        opencv_encoded(colour, ".png"),
        opencv_encoded(colour, ".tiff"),
        tiff_encoded(colour, photometric="rgb"),
    ):
        np.testing.assert_array_equal(np.asarray(read_image(content)), colour >> 8)


def test_sixteen_bit_transparency_is_laid_over_white(deep: np.ndarray) -> None:
    alpha = np.where(deep % 2, 65535, 0).astype(np.uint16)
    colour = np.stack([deep, deep.T, deep[::-1], alpha], axis=2)
    expected = np.where(alpha[:, :, None] > 0, colour[:, :, :3] >> 8, 255)
    np.testing.assert_array_equal(np.asarray(read_image(opencv_encoded(colour, ".png"))), expected)

    row = struct.pack(">3H", 300, 301, 65535)
    grey = hand_made_png(3, 1, 16, 0, b"\0" + row, png_chunk(b"tRNS", struct.pack(">H", 300)))
    np.testing.assert_array_equal(np.asarray(read_image(grey))[0, :, 0], [255, 1, 255])
    row = struct.pack(">6H", 0x1234, 0x5678, 0x9ABC, 0x2000, 0x3000, 0x4000)
    key = png_chunk(b"tRNS", struct.pack(">3H", 0x1234, 0x5678, 0x9ABC))
    colour_key = hand_made_png(2, 1, 16, 2, b"\0" + row, key)
    np.testing.assert_array_equal(
        np.asarray(read_image(colour_key))[0], [[255, 255, 255], [0x20, 0x30, 0x40]]
    )


def test_floating_point_tiff_between_zero_and_one() -> None:
    values = np.random.default_rng(0).random((20, 30, 3), dtype=np.float32)
    expected = np.round(values * 255).astype(np.uint8)
    np.testing.assert_array_equal(np.asarray(read_image(tiff_encoded(values, photometric="rgb"))), expected)
    grey = read_image(tiff_encoded(values[:, :, 0], photometric="minisblack"))
    np.testing.assert_array_equal(np.asarray(grey)[:, :, 1], expected[:, :, 0])


@pytest.mark.parametrize("bad", [300.0, -1.0, np.nan, np.inf])
@pytest.mark.parametrize("channels", [1, 3])
def test_floating_point_without_a_known_white_is_refused(bad: float, channels: int) -> None:
    values = np.zeros((8, 8, 3), np.float32)
    values[3, 3] = bad
    photometric = "rgb" if channels == 3 else "minisblack"
    content = tiff_encoded(values if channels == 3 else values[:, :, 0], photometric=photometric)
    with pytest.raises(ImageError, match="which is white") as error:
        read_image(content)
    one_line(error)


def test_transparency_is_laid_over_white(pixels: np.ndarray) -> None:
    alpha = np.zeros(pixels.shape[:2], np.uint8)
    alpha[:20], alpha[20:30] = 255, 128
    weight = alpha[:, :, None] / 255
    expected = pixels * weight + 255 * (1 - weight)
    rgba = np.dstack([pixels, alpha])
    for kind in ("PNG", "WEBP"):
        # Without `exact` WebP drops the colours that nobody should see.
        shown = read_image(
            encoded(rgba, kind, **LOSSLESS[kind], **({"exact": True} if kind == "WEBP" else {}))
        )
        assert np.abs(np.asarray(shown) - expected).max() <= 1
    grey = pixels[:, :, 0]
    shown = read_image(encoded(Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)]), "PNG"))
    assert np.abs(np.asarray(shown)[:, :, 2] - expected[:, :, 0]).max() <= 1


def test_transparent_palettes_and_colours(pixels: np.ndarray) -> None:
    palette = Image.fromarray(pixels).quantize(8)
    index, colours = np.asarray(palette), np.array(palette.getpalette()).reshape(-1, 3)
    partly = read_image(encoded(palette, "PNG", transparency=bytes([0, 255, 51, *[255] * 5])))
    levels = np.array([0, 255, 51, *[255] * 5])[index][:, :, None] / 255
    assert np.abs(np.asarray(partly) - (colours[index] * levels + 255 * (1 - levels))).max() <= 1
    for kind in ("PNG", "GIF"):
        shown = np.asarray(read_image(encoded(palette, kind, transparency=3)))
        np.testing.assert_array_equal(shown, np.where((index == 3)[:, :, None], 255, colours[index]))
    keyed = np.asarray(read_image(encoded(pixels, "PNG", transparency=tuple(pixels[5, 7].tolist()))))
    hidden = (pixels == pixels[5, 7]).all(axis=2, keepdims=True)
    np.testing.assert_array_equal(keyed, np.where(hidden, 255, pixels))


def test_one_bit_grey_and_cmyk(pixels: np.ndarray) -> None:
    bits = pixels[:, :, 0] > 100
    shown = np.asarray(read_image(encoded(Image.fromarray(bits), "PNG")))
    np.testing.assert_array_equal(shown, np.repeat(bits[:, :, None], 3, axis=2) * 255)

    ink = np.dstack([pixels, 60 - pixels[:, :, 1] // 4])
    cmyk = Image.fromarray(ink, "CMYK")
    paper = 1 - ink.astype(float) / 255
    expected = 255 * paper[:, :, :3] * paper[:, :, 3:]
    for kind, options in (("TIFF", {}), ("JPEG", {"quality": 100, "subsampling": 0})):
        assert np.abs(np.asarray(read_image(encoded(cmyk, kind, **options))) - expected).max() < 6


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "MPO"])
def test_first_frame_of_several(kind: str, pixels: np.ndarray) -> None:
    first = Image.fromarray(pixels)
    others = [first.transpose(Image.Transpose.FLIP_TOP_BOTTOM), Image.new("RGB", first.size, "red")]
    options = {"lossless": True} if kind == "WEBP" else {}
    alone = encoded(first, "JPEG" if kind == "MPO" else kind, **options)
    several = encoded(first, kind, save_all=True, append_images=others, **options)
    assert Image.open(io.BytesIO(several)).n_frames == 3
    np.testing.assert_array_equal(np.asarray(read_image(several)), np.asarray(read_image(alone)))


@pytest.mark.parametrize("kind", EVERY_FORMAT)
def test_a_file_cut_short_is_refused_or_whole(kind: str, pixels: np.ndarray) -> None:
    content = encoded(pixels, kind, **EVERY_FORMAT[kind])
    whole = np.asarray(read_image(content))
    refused = 0
    for length in [*range(1, min(64, len(content)), 3), *np.linspace(64, len(content) - 1, 60).astype(int)]:
        try:
            shown = read_image(content[:length])
        except ImageError as error:
            assert len(str(error).splitlines()) == 1
            refused += 1
        else:
            # What is missing then is an end mark only.
            np.testing.assert_array_equal(np.asarray(shown), whole)
    assert refused > 60


@pytest.mark.parametrize("kind", EVERY_FORMAT)
def test_damaged_bytes_raise_no_other_error(kind: str, pixels: np.ndarray) -> None:
    content = (
        encoded(pixels, kind, **EVERY_FORMAT[kind], exif=Image.Exif())
        if kind != "GIF"
        else encoded(pixels, kind)
    )
    draw = random.Random(0)
    for _ in range(150):
        damaged = bytearray(content)
        for _ in range(draw.choice([1, 3, 20])):
            damaged[draw.randrange(8, min(len(damaged), draw.choice([64, 400, 10**6])))] = draw.randrange(256)
        try:
            assert read_image(bytes(damaged), max_pixels=10**6).mode == "RGB"
        except ImageError as error:
            assert len(str(error).splitlines()) == 1


FOREIGN = {
    "SVG": b"<?xml version='1.0'?>\n<!-- drawn -->\n<svg xmlns='http://www.w3.org/2000/svg'></svg>",
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
    "PSD": b"8BPS\0\1" + bytes(20),
    "FITS": b"SIMPLE  =                    T" + b" " * 50,
    "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "HEIC ": b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic",
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(20),
    "JPEG XL": b"\xff\x0a" + bytes(20),
    "PDF": b"%PDF-1.7\n",
    "ICO": b"\0\0\1\0\1\0" + bytes(20),
    "DICOM": bytes(128) + b"DICM" + bytes(20),
    "NumPy": b"\x93NUMPY\1\0" + bytes(20),
    "ZIP": b"PK\3\4" + bytes(30),
    "web page": b"<!DOCTYPE html><html><body><svg></svg></body></html>",
    "video": b"\0\0\0\x18ftypisom" + bytes(20),
    "known format": b"just some text, saved as a picture",
}


@pytest.mark.parametrize("named", FOREIGN)
def test_foreign_formats_named_png_are_called_by_their_name(named: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(FOREIGN[named])
    with pytest.raises(ImageError, match=named.strip()) as error:
        read_image(path)
    assert one_line(error).startswith(str(path))


def test_foreign_formats_as_pillow_writes_them(pixels: np.ndarray) -> None:
    for kind in ("EPS", "PDF", "PPM", "ICO", "JPEG2000", "TGA", "PCX", "SGI", "XBM"):
        picture = Image.fromarray(pixels[:32, :32]).convert("1" if kind == "XBM" else "RGB")
        with pytest.raises(ImageError) as error:
            read_image(encoded(picture, kind))
        one_line(error)


# Runs alone, so that its peak of memory is its own. Of each file it prints the name, the seconds and the MiB that
# the refusal took, and the message.
MEASURE = """
import json, resource, sys, time
from swin_core.errors import ImageError
from swin_core.images import read_image
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
for path in sys.argv[1:]:
    before, start = peak(), time.perf_counter()
    try:
        read_image(path)
    except ImageError as error:
        print(json.dumps([path, time.perf_counter() - start, peak() - before, str(error)]))
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
    """Seconds, MiB and message of the refusal of each bomb."""
    paths = {name: tmp_path_factory.mktemp("bomb") / "picture.png" for name in BOMBS}
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


def test_large_jpegs_are_decoded_smaller_on_request() -> None:
    rows, columns = np.mgrid[0:800, 0:1200]
    large = np.stack([rows / 4, columns / 6, (rows + columns) / 10], axis=2).astype(np.uint8)
    content = encoded(large, "JPEG", quality=95)
    smaller = read_image(content, shorter_side=100)
    assert smaller.size == (300, 200)
    expected = Image.fromarray(large).resize((300, 200), Image.Resampling.BOX)
    assert np.abs(np.asarray(smaller).astype(int) - np.asarray(expected)).max() < 6
    assert read_image(content, shorter_side=500).size == (1200, 800)
    assert read_image(encoded(large, "PNG"), shorter_side=100).size == (1200, 800)
