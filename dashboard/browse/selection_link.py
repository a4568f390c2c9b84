"""The selected images in the page's link: a bit for each image of the splits, compressed."""

import base64
import binascii
import zlib

import numpy as np

from dashboard.browse.filters import selected_rows
from dashboard.browse.tiles import BrowsedData
from dashboard.shared.image_selection import forget_selection, select_images
from dashboard.shared.url_state import set_url_list, url_list

KEY = "selected"
"""The query parameter."""
TITLE = "a selection"
"""What a selection is called whose origin the link does not tell."""


def keep_selection_in_link(data: BrowsedData, ignored: list[str]) -> None:
    """Take the selection of a link, or write that of the session into the link.

    Args:
        data: the data set whose images are selected.
        ignored: receives a warning about a selection of other images.
    """
    rows = selected_rows(data)
    own = [encoded_rows(data, rows)] if len(rows) else []
    set_url_list(KEY, own)
    in_link = url_list(KEY, [])
    if in_link == own:
        return
    try:
        found = decoded_rows(data, in_link[0]) if in_link else rows[:0]
    except ValueError as error:
        ignored.append(f"{KEY} ({error})")
        set_url_list(KEY, own)
        url_list(KEY, [])
        return
    if len(found):
        select_images(TITLE, [data.name(row) for row in found.tolist()])
    else:
        forget_selection()


def encoded_rows(data: BrowsedData, rows: np.ndarray) -> str:
    """Return some images of a data set, `(n,)`, as text for a link; it begins with a check of the files' names."""
    bits = np.zeros(len(data.catalog), bool)
    bits[rows] = True
    packed = _check(data) + zlib.compress(np.packbits(bits).tobytes(), 9)
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def decoded_rows(data: BrowsedData, text: str) -> np.ndarray:
    """Undo `encoded_rows`: `(n,)` int64, sorted.

    Raises:
        ValueError: the text is of other images, or damaged.
    """
    count = len(data.catalog)
    try:
        packed = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        if packed[:4] != _check(data):
            raise ValueError("it is of other images")
        stream = zlib.decompressobj()
        bits = np.unpackbits(np.frombuffer(stream.decompress(packed[4:], count // 8 + 2), np.uint8))
    except (UnicodeError, binascii.Error, zlib.error):
        raise ValueError("it is damaged") from None
    if not stream.eof or len(bits) != -(-count // 8) * 8 or bits[count:].any():
        raise ValueError("it is damaged")
    return np.flatnonzero(bits)


def _check(data: BrowsedData) -> bytes:
    """Return a check of the names of the images, so that a link is not taken for one of other images."""
    return zlib.crc32(data.catalog.files.tobytes()).to_bytes(4, "big")
