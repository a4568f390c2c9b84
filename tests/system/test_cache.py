"""The LRU cache: its bounds, one computation for concurrent callers, and failures."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from PIL import Image

from swin_core.system import cache as caches
from swin_core.system.cache import LRUCache, cached_bytes, held_bytes


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
    cache: LRUCache[np.ndarray] = LRUCache(100, 10_000)
    for key in "abc":
        cache.put(key, np.zeros(4000, np.uint8))
    assert [cache.peek(key) is None for key in "abc"] == [True, False, False]
    cache.put("c", np.zeros(6000, np.uint8))  # the older size of a key no longer counts
    assert cache.peek("b") is not None
    cache.drop(lambda key: key == "b")
    cache.put("d", np.zeros(4000, np.uint8))
    assert cache.peek("c") is not None
    cache.put("large", np.zeros(50_000, np.uint8))
    assert len(cache) == 1
    assert cache.peek("large") is not None


def test_all_caches_share_one_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The value that was not used for longest goes first, of whichever cache."""
    first: LRUCache[np.ndarray] = LRUCache(100)
    second: LRUCache[np.ndarray] = LRUCache(100)
    monkeypatch.setattr(caches, "_caches", {first, second})
    monkeypatch.setattr(caches, "MOST_BYTES", 10_000)
    first.put("a", np.zeros(4000, np.uint8))
    second.put("b", np.zeros(4000, np.uint8))
    assert cached_bytes() == 8000
    assert first.peek("a") is not None
    first.put("c", np.zeros(4000, np.uint8))
    assert (second.peek("b"), first.peek("a") is None, first.peek("c") is None) == (None, False, False)
    second.put("large", np.zeros(50_000, np.uint8))
    assert (len(first), len(second), cached_bytes()) == (0, 1, 50_000)
    second.drop(lambda key: True)
    assert cached_bytes() == 0


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


@dataclass
class _Maps:
    maps: np.ndarray
    parts: tuple[torch.Tensor, ...] = ()
    facts: dict[str, object] = field(default_factory=dict)


def test_bytes_are_counted_wherever_they_are() -> None:
    maps, part = np.zeros((300, 400), np.float32), torch.zeros(5000, dtype=torch.int64)
    arrays = 480_000 + 40_000
    assert held_bytes(maps) == 480_000
    small = 2000  # of objects and containers
    for value in ([maps, {"a": part}], _Maps(maps, (part, part)), _Maps(maps, facts={"a": [_Maps(part)]})):
        assert arrays <= held_bytes(value) <= arrays + small
    assert held_bytes("a" * 10_000) >= 10_000
    assert held_bytes(Image.new("RGB", (100, 50))) == 20_000  # Pillow keeps four bytes for a pixel
    model = torch.nn.Sequential(torch.nn.Linear(100, 100), torch.nn.BatchNorm1d(100))
    numbers = sum(value.nbytes for value in model.state_dict().values())
    assert numbers <= held_bytes(model) <= numbers + 40_000
    endless: list[object] = []
    endless.append(endless)
    assert held_bytes(endless) < 1000
