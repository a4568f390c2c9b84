"""Convert decoded images and arrays of any mode to RGB with 8 bits a channel."""

from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from swin_core.errors import ImageError

_BAND_PIXELS = 4_000_000
"""Pixels that are converted at a time."""


def to_rgb(image: Image.Image, depth: int = 16, white_is_zero: bool = False) -> Image.Image:
    """Convert any mode to RGB, transparency over white; `depth` and `white_is_zero` apply to 16-bit grey.

    Copies of a large image would take several times its memory, so they are made of one band of rows after another.

    Raises:
        ImageError: the white level of its values is unknown.
    """
    if image.mode.startswith("I;16"):

        def convert(band: Image.Image) -> Image.Image:
            values = np.asarray(band)
            levels = to_bytes(values, depth)
            if white_is_zero:  # Pillow inverts other depths itself
                levels = 255 - levels
            if isinstance(key := image.info.get("transparency"), int):
                levels = np.where(values == key, np.uint8(255), levels)
            return Image.fromarray(levels).convert("RGB")

        return _by_bands(image, convert)
    if image.mode in ("I", "F"):
        lows, highs = zip(*((values.min(), values.max()) for values in map(np.asarray, _bands(image))), strict=True)
        bounds = float(np.min(lows)), float(np.max(highs))  # unlike min and max, these keep NaN

        def scale(band: Image.Image) -> Image.Image:
            return Image.fromarray(to_bytes(np.asarray(band), bounds=bounds)).convert("RGB")

        return _by_bands(image, scale)
    if image.has_transparency_data or image.mode == "La":

        def lay_over_white(band: Image.Image) -> Image.Image:
            over = band.convert("LA" if band.mode == "La" else "RGBA").convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")

        return _by_bands(image, lay_over_white)
    return image.convert("RGB")


def _bands(image: Image.Image) -> Iterator[Image.Image]:
    """Yield the rows of an image, some at a time."""
    rows = max(1, _BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(image.height, top + rows)))


def _by_bands(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Convert an image to RGB in bands."""
    if image.width * image.height <= _BAND_PIXELS:
        return convert(image)
    result, top = Image.new("RGB", image.size), 0
    for band in _bands(image):
        result.paste(convert(band), (0, top))
        top += band.height
    return result


def to_bytes(values: np.ndarray, depth: int = 16, bounds: tuple[float, float] | None = None) -> np.ndarray:
    """Scale values to 0..255, as uint8.

    Args:
        values: of any shape and type.
        depth: bits of 16-bit values that are used.
        bounds: smallest and largest value of the whole image; None for those of `values`.

    Raises:
        ImageError: the white level is unknown: no 8 or 16 bits, nor floating-point values in 0 to 1.
    """
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:
        return (values >> (depth - 8)).astype(np.uint8)
    low, high = bounds or (float(values.min()), float(values.max()))
    if values.dtype.kind == "f" and low >= 0 and high <= 1:  # false for NaN
        return np.round(values * 255).astype(np.uint8)
    raise ImageError(
        f"holds values from {low:g} to {high:g}, and nothing says which is white; "
        "save it with 8 or 16 bits, or scale it to 0..1"
    )
