"""Thumbnails for a sheet of images: centre crops, encoded so that a page of a hundred stays small."""

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from PIL import Image

from swin_core.data.dataset import DECODING_THREADS, DataSet
from swin_core.errors import DataError
from swin_core.images.preprocessing import crop_square

SIDE = 160
"""Side of a thumbnail in pixels, unless the image is smaller."""

_EXACT = 64
"""Images up to this side are encoded without loss, in about 2 KB."""


def thumbnails(dataset: DataSet, indices: Sequence[int], side: int = SIDE) -> list[tuple[str, bytes] | str]:
    """Encode the centre squares of the images at `indices`, at most `side` pixels wide; smaller ones keep their size.

    Returns:
        Media type and bytes of each, or one line that says why the image cannot be read.
    """

    def thumbnail(index: int) -> tuple[str, bytes] | str:
        try:
            image = dataset.image(index, side)
        except DataError as error:
            return str(error)
        return encode(crop_square(image, min(side, *image.size)))

    with ThreadPoolExecutor(DECODING_THREADS) as pool:
        return list(pool.map(thumbnail, indices))


def encode(square: Image.Image) -> tuple[str, bytes]:
    """Return media type and bytes of an RGB image: lossless WebP if it is tiny, else JPEG."""
    stream = io.BytesIO()
    if max(square.size) <= _EXACT:
        square.save(stream, "WEBP", lossless=True, method=0)
        return "image/webp", stream.getvalue()
    square.save(stream, "JPEG", quality=80)
    return "image/jpeg", stream.getvalue()
