"""A thread-safe LRU cache: concurrent callers of one key wait for one computation."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, wait
from dataclasses import is_dataclass
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")


class LRUCache(Generic[Value]):
    """Values by key; the least recently used are evicted. The newest stays even if it alone exceeds `most_bytes`.

    Args:
        entries: largest number of values.
        size: function that returns the bytes of a value.
        most_bytes: largest total of `size`; None for no limit.
    """

    def __init__(self, entries: int, size: Callable[[Value], int] | None = None, most_bytes: int | None = None):
        if (size is None) != (most_bytes is None):
            raise ValueError("size and most_bytes go together")
        self.entries, self.size, self.most_bytes = entries, size, most_bytes
        self._values: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()
        self._bytes = 0
        self._running: dict[Hashable, Future[Value]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._values)

    def peek(self, key: Hashable) -> Value | None:
        """Return the cached value, or None; never compute and never wait for a computation."""
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key][0]

    def put(self, key: Hashable, value: Value) -> None:
        """Store a value, replacing an older one of the same key."""
        size = self.size(value) if self.size else 0
        with self._lock:
            self._remove(key)
            self._values[key] = value, size
            self._bytes += size
            while len(self._values) > 1 and (
                len(self._values) > self.entries or (self.most_bytes is not None and self._bytes > self.most_bytes)
            ):
                self._remove(next(iter(self._values)))

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Return the cached value, or call `make` and cache its result.

        Concurrent callers wait for the one that computes. If it fails, its exception is raised to its own caller and
        the next one computes. `make` must not ask for the same key.
        """
        while True:
            with self._lock:
                if key in self._values:
                    self._values.move_to_end(key)
                    return self._values[key][0]
                running = self._running.get(key)
                if running is None:
                    running = self._running[key] = Future()
                    break
            wait([running])
            if running.exception() is None:
                return running.result()
        try:
            value = make()
            self.put(key, value)
        except BaseException as error:
            self._running.pop(key)
            running.set_exception(error)
            raise
        self._running.pop(key)
        running.set_result(value)
        return value

    def drop(self, outdated: Callable[[Hashable], bool]) -> None:
        """Remove the values whose key is outdated."""
        with self._lock:
            for key in [key for key in self._values if outdated(key)]:
                self._remove(key)

    def _remove(self, key: Hashable) -> None:
        self._bytes -= self._values.pop(key, (None, 0))[1]


def array_bytes(value: Any) -> int:
    """Return the bytes of the arrays and tensors in a value: itself, or in containers and dataclasses."""
    if hasattr(value, "nbytes"):
        return int(value.nbytes)
    if isinstance(value, dict):
        return sum(map(array_bytes, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(array_bytes, value))
    return array_bytes(vars(value)) if is_dataclass(value) and not isinstance(value, type) else 0
