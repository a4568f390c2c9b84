"""Small images for a sheet: the square in the middle, encoded so that a page of a hundred stays light."""

import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from PIL import Image

from swin_core.data.dataset import DataSet
from swin_core.errors import DataError
from swin_core.images.preprocessing import crop_square

__all__ = ["SIDE", "encode", "thumbnails"]

SIDE = 160
"""Side of a thumbnail in pixels, unless the image is smaller."""

_EXACT = 64
"""Up to this side every pixel counts: such an image is encoded without a loss, in some 2 KB."""
_THREADS = min(4, os.cpu_count() or 1)


def thumbnails(dataset: DataSet, indices: Sequence[int], side: int = SIDE) -> list[tuple[str, bytes] | str]:
    """The squares in the middle of some images, at most `side` pixels wide.

    Args:
        dataset: the images.
        indices: which of them.
        side: in pixels; a smaller image keeps its own size.

    Returns:
        Media type and bytes of each, or a line that says why an image cannot be read.
    """

    def one(index: int) -> tuple[str, bytes] | str:
        try:
            picture = dataset.image(index, side)
        except DataError as error:
            return str(error)
        return encode(crop_square(picture, min(side, *picture.size)))

    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(one, indices))


def encode(square: Image.Image) -> tuple[str, bytes]:
    """Media type and bytes of a small RGB image: WebP without a loss for a tiny one, else JPEG."""
    stream = io.BytesIO()
    if max(square.size) <= _EXACT:
        square.save(stream, "WEBP", lossless=True, method=0)
        return "image/webp", stream.getvalue()
    square.save(stream, "JPEG", quality=80)
    return "image/jpeg", stream.getvalue()
