"""Valid images: every format, orientation, bit depth, palette and transparency."""

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from swin_core.errors import ImageError
from swin_core.images.read import read_image
from tests.fixtures.images import (
    EVERY_FORMAT,
    LOSSLESS,
    encoded,
    hand_made_png,
    one_line,
    opencv_encoded,
    png_chunk,
    smooth_pixels,
    tiff_encoded,
)


@pytest.fixture
def pixels() -> np.ndarray:
    return smooth_pixels()


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


def test_every_kind_of_source_gives_the_same_image(tmp_path: Path, pixels: np.ndarray) -> None:
    content = encoded(pixels, "PNG")
    path = tmp_path / "an image.jpg"  # the name lies, the content decides
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


def test_damaged_exif_does_not_hide_the_image(pixels: np.ndarray) -> None:
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
    np.testing.assert_array_equal(np.asarray(read_image(colour_key))[0], [[255, 255, 255], [0x20, 0x30, 0x40]])


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


@pytest.mark.parametrize("shape", [(8, 9), (8, 9, 3), (5, 8, 9), (2, 3, 8, 9)])
@pytest.mark.parametrize("dtype", ["int32", "uint32", "complex64", "float64"])
def test_tiffs_that_are_no_images_are_refused_by_one_line(dtype: str, shape: tuple[int, ...]) -> None:
    values = (np.arange(np.prod(shape)).reshape(shape) % 100).astype(dtype)
    content = tiff_encoded(values, photometric="rgb" if shape == (8, 9, 3) else "minisblack")
    with pytest.raises(ImageError) as error:
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
        shown = read_image(encoded(rgba, kind, **LOSSLESS[kind], **({"exact": True} if kind == "WEBP" else {})))
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


def test_bands_of_a_large_image_give_the_same_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    y, x = np.mgrid[:37, :53]
    alpha = Image.fromarray(np.stack([4 * x, 6 * y, x + y, 3 * (x + 2 * y) % 256], 2).astype(np.uint8))
    deep, scaled = Image.fromarray((700 * x + y).astype(np.uint16)), Image.fromarray((x * y / 1872).astype(np.float32))
    contents = [
        *(encoded(image, kind) for image in (alpha, deep) for kind in ("PNG", "TIFF")),
        encoded(deep, "PNG", transparency=701),
        encoded(alpha.convert("LA"), "PNG"),
        encoded(alpha.convert("RGB").quantize(9), "PNG", transparency=bytes([0, 9, 99])),
        encoded(scaled, "TIFF"),
        encoded(
            alpha.convert("RGB"),
            "JPEG",
            exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0" + bytes(4),
        ),
    ]
    whole = [np.asarray(read_image(content)) for content in contents]
    monkeypatch.setattr("swin_core.images.rgb._BAND_PIXELS", 200)
    for content, expected in zip(contents, whole, strict=True):
        np.testing.assert_array_equal(np.asarray(read_image(content)), expected)
    spoiled = np.asarray(scaled).copy()
    spoiled[20, 3] = np.nan
    with pytest.raises(ImageError, match="nothing says which is white"):
        read_image(encoded(Image.fromarray(spoiled), "TIFF"))
