"""Settings of glibc's allocator and of garbage collection."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import weakref
from types import SimpleNamespace

import pytest

from swin_core.system.memory import exempt_live_objects, keep_freed_memory, limit_kept_kernels


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is on Linux")
@pytest.mark.parametrize("refused", [None, -1, -3])
def test_a_refusal_of_the_allocator_is_returned(refused: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    library = SimpleNamespace(mallopt=lambda option, value: int(option != refused))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    assert keep_freed_memory() is (refused is None)


def test_systems_without_mallopt_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace())
    assert keep_freed_memory() is False


class Ring:
    """An object that refers to itself, which only garbage collection frees."""

    def __init__(self) -> None:
        self.itself = self


def test_exempted_garbage_is_freed_at_the_next_call() -> None:
    try:
        ring = Ring()
        freed = weakref.ref(ring)
        exempt_live_objects()
        del ring
        gc.collect()
        assert freed() is not None  # the collection was short
        other = weakref.ref(Ring())
        gc.collect()
        assert other() is None  # newer garbage goes as ever
        exempt_live_objects()
        assert freed() is None
    finally:
        gc.unfreeze()


def test_the_limits_of_kernels_yield_to_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "7")
    monkeypatch.delenv("LRU_CACHE_CAPACITY", raising=False)
    limit_kept_kernels()
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "7"
    assert os.environ.pop("LRU_CACHE_CAPACITY") == "32"
