"""A budget of memory for decoding, which all threads share."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

PIXEL_BYTES = 12
"""Bytes for each pixel while an image is decoded: its pixels, the rotated copy, and copies that lay both over white."""


class ByteBudget:
    """Memory that threads share for short tasks: a task waits until its part is free.

    Args:
        most: bytes of all tasks that run at the same time. A task that needs more runs alone.
    """

    def __init__(self, most: int):
        self.most = self._free = most
        self._changed = threading.Condition()

    @contextmanager
    def reserve(self, size: int) -> Iterator[None]:
        """Wait until `size` bytes are free, and hold them inside the block; nested blocks could wait forever."""
        size = min(size, self.most)
        with self._changed:
            self._changed.wait_for(lambda: size <= self._free)
            self._free -= size
        try:
            yield
        finally:
            with self._changed:
                self._free += size
                self._changed.notify_all()


decoding = ByteBudget(512 * 2**20)
"""Shared by all readers of images and arrays."""
