"""Settings of glibc's allocator."""

from __future__ import annotations

import ctypes
import sys
from types import SimpleNamespace

import pytest

from swin_core.system.memory import keep_freed_memory


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is on Linux")
@pytest.mark.parametrize("refused", [None, -1, -3])
def test_a_refusal_of_the_allocator_is_returned(refused: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    library = SimpleNamespace(mallopt=lambda option, value: int(option != refused))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    assert keep_freed_memory() is (refused is None)


def test_systems_without_mallopt_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace())
    assert keep_freed_memory() is False
