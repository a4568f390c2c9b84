"""The LRU cache: its bounds, one computation for concurrent callers, and failures."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from swin_core.system.cache import LRUCache, array_bytes


def test_the_least_recently_used_is_evicted() -> None:
    cache: LRUCache[int] = LRUCache(2)
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.peek("a") == 1
    cache.put("c", 3)
    assert (cache.peek("a"), cache.peek("b"), cache.peek("c")) == (1, None, 3)
    assert cache.get("a", lambda: 4) == 1
    assert len(cache) == 2


def test_the_total_size_is_bounded() -> None:
    cache: LRUCache[bytes] = LRUCache(100, size=len, most_bytes=10)
    for key in "abc":
        cache.put(key, bytes(4))
    assert [cache.peek(key) is None for key in "abc"] == [True, False, False]
    cache.put("c", bytes(6))  # the older size of a key no longer counts
    assert cache.peek("b") is not None
    cache.drop(lambda key: key == "b")
    cache.put("d", bytes(4))
    assert cache.peek("c") is not None
    cache.put("large", bytes(50))
    assert len(cache) == 1
    assert cache.peek("large") == bytes(50)


def test_none_is_a_value() -> None:
    cache: LRUCache[int | None] = LRUCache(2)
    assert cache.get("a", lambda: None) is None
    assert cache.get("a", lambda: 1) is None


def test_concurrent_callers_wait_for_one_computation() -> None:
    cache: LRUCache[object] = LRUCache(2)
    begun, released, made = threading.Event(), threading.Event(), []

    def make() -> object:
        begun.set()
        assert released.wait(10)
        made.append(object())
        return made[-1]

    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(cache.get, "key", make) for _ in range(8)]
        assert begun.wait(10)
        # Another key and a look at this one do not wait.
        assert cache.peek("key") is None
        assert cache.get("other", lambda: 1) == 1
        released.set()
        assert {id(future.result(10)) for future in waiting} == {id(made[0])}
    assert len(made) == 1


def test_a_failure_is_raised_to_its_own_caller_and_not_cached() -> None:
    cache: LRUCache[int] = LRUCache(2)
    begun, released = threading.Event(), threading.Event()

    def fail() -> int:
        begun.set()
        assert released.wait(10)
        raise KeyError("no")

    with ThreadPoolExecutor(8) as pool:
        failing = pool.submit(cache.get, "key", fail)
        assert begun.wait(10)
        calls: list[int] = []
        waiting = [pool.submit(cache.get, "key", lambda: calls.append(1) or 7) for _ in range(7)]
        released.set()
        with pytest.raises(KeyError):
            failing.result(10)
        assert [future.result(10) for future in waiting] == [7] * 7
    assert len(calls) == 1


def test_size_and_bound_go_together() -> None:
    with pytest.raises(ValueError, match="together"):
        LRUCache(2, size=len)


@dataclass
class _Maps:
    maps: np.ndarray
    parts: tuple[torch.Tensor, ...] = ()
    name: str = "maps"


def test_array_bytes_counts_arrays_wherever_they_are() -> None:
    maps, part = np.zeros((3, 4), np.float32), torch.zeros(5, dtype=torch.int64)
    assert array_bytes(maps) == 48
    assert array_bytes([maps, {"a": part, "b": "text"}, None]) == 48 + 40
    assert array_bytes(_Maps(maps, (part, part))) == 48 + 80
    assert array_bytes(_Maps) == 0
