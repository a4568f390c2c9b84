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
        self._here = _Thread()

    @contextmanager
    def reserve(self, size: int) -> Iterator[None]:
        """Wait until `size` bytes are free, and hold them inside the block; a thread has one reservation at a time."""
        self._give_back_kept()
        size = min(size, self.most)
        with self._changed:
            self._changed.wait_for(lambda: size <= self._free)
            self._free -= size
        self._here.kept = size
        try:
            yield
        except BaseException:
            self._give_back_kept()
            raise
        if not self._here.blocks:
            self._give_back_kept()

    @contextmanager
    def keep(self) -> Iterator[None]:
        """Hold what this thread reserves inside the block until the block ends: what was decoded is still there.

        Of several reservations in turn, only the last is held.
        """
        self._here.blocks += 1
        try:
            yield
        finally:
            self._here.blocks -= 1
            if not self._here.blocks:
                self._give_back_kept()

    def _give_back_kept(self) -> None:
        with self._changed:
            self._free += self._here.kept
            self._here.kept = 0
            self._changed.notify_all()


class _Thread(threading.local):
    """What one thread holds of a budget."""

    blocks = 0
    """Blocks of `keep` that it is in."""
    kept = 0
    """Bytes that it has reserved."""


decoding = ByteBudget(512 * 2**20)
"""Shared by all readers of images and arrays."""
