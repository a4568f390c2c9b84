"""Thread-safe LRU caches that share one limit of bytes; concurrent callers of one key wait for one computation."""

import itertools
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, wait
from types import FunctionType, MethodType, ModuleType
from typing import Any, Generic, TypeVar
from weakref import WeakSet

Value = TypeVar("Value")

MOST_BYTES = 2_000_000_000
"""Bytes that the values of all caches may take together."""

_caches: "WeakSet[LRUCache[Any]]" = WeakSet()
_uses = itertools.count()
_trimming = threading.Lock()


def cached_bytes() -> int:
    """Return the bytes that the values of all caches take."""
    return sum(cache.bytes for cache in list(_caches))


def _trim() -> None:
    """Evict the values that were not used for longest, of whichever cache, until all together keep `MOST_BYTES`."""
    with _trimming:
        while cached_bytes() > MOST_BYTES:
            caches = [cache for cache in list(_caches) if len(cache)]
            if sum(map(len, caches)) < 2:  # the newest value stays even if it alone is too large
                return
            min(caches, key=lambda cache: cache.oldest_use()).evict()


class LRUCache(Generic[Value]):
    """Values by key; the least recently used are evicted. The newest stays even if it alone exceeds `most_bytes`.

    Args:
        entries: largest number of values.
        most_bytes: bytes that the values may take, beside the limit of all caches together; None for that one alone.
    """

    def __init__(self, entries: int, most_bytes: int | None = None):
        self.entries, self.most_bytes = entries, most_bytes
        self.bytes = 0
        self._values: OrderedDict[Hashable, tuple[Value, int, int]] = OrderedDict()  # value, size, last use
        self._running: dict[Hashable, Future[Value]] = {}
        self._lock = threading.Lock()
        _caches.add(self)

    def __len__(self) -> int:
        return len(self._values)

    def oldest_use(self) -> float:
        """Return when the least recently used value was used, as a number that grows; infinite without values."""
        with self._lock:
            return next(iter(self._values.values()))[2] if self._values else float("inf")

    def evict(self) -> None:
        """Remove the least recently used value."""
        with self._lock:
            if self._values:
                self._remove(next(iter(self._values)))

    def _use(self, key: Hashable) -> Value:
        value, size, _ = self._values[key]
        self._values[key] = value, size, next(_uses)
        self._values.move_to_end(key)
        return value

    def peek(self, key: Hashable) -> Value | None:
        """Return the cached value, or None; never compute and never wait for a computation."""
        with self._lock:
            return self._use(key) if key in self._values else None

    def put(self, key: Hashable, value: Value) -> None:
        """Store a value, replacing an older one of the same key."""
        size = held_bytes(value)
        with self._lock:
            self._remove(key)
            self._values[key] = value, size, next(_uses)
            self.bytes += size
            while len(self._values) > 1 and (
                len(self._values) > self.entries or (self.most_bytes is not None and self.bytes > self.most_bytes)
            ):
                self._remove(next(iter(self._values)))
        _trim()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Return the cached value, or call `make` and cache its result.

        Concurrent callers wait for the one that computes. If it fails, its exception is raised to its own caller and
        the next one computes. `make` must not ask for the same key.
        """
        while True:
            with self._lock:
                if key in self._values:
                    return self._use(key)
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
        self.bytes -= self._values.pop(key, (None, 0, 0))[1]


def held_bytes(value: Any) -> int:
    """Return the bytes of a value with all that it holds: arrays, tensors, images, texts, containers, objects."""
    total, seen, left = 0, set(), [value]
    while left:
        held = left.pop()
        if id(held) in seen or isinstance(held, type | FunctionType | MethodType | ModuleType):
            continue
        seen.add(id(held))
        if hasattr(held, "nbytes"):  # an array or a tensor
            total += int(held.nbytes)
        elif hasattr(held, "getbands") and hasattr(held, "size"):  # an image of Pillow
            total += held.width * held.height * (4 if len(held.getbands()) > 1 else 1)
        elif isinstance(held, dict):
            total += sys.getsizeof(held)
            left += [*held.keys(), *held.values()]
        elif isinstance(held, list | tuple | set | frozenset):
            total += sys.getsizeof(held)
            left += held
        else:
            total += sys.getsizeof(held, 0)
            left += getattr(held, "__dict__", {}).values()
    return total
