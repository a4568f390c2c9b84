"""The rank that keeps the others waiting is named."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from swin_core.system import heartbeats
from swin_core.system.heartbeats import Heartbeats
from tests.fixtures.started import eventually


class Store:
    """Torch's store within one process."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def set(self, key: str, value: str) -> None:
        self.values[key] = value

    def get(self, key: str) -> bytes:
        return self.values[key].encode()

    def check(self, keys: list[str]) -> bool:
        return all(key in self.values for key in keys)


@pytest.fixture
def ranks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Heartbeats]]:
    monkeypatch.setattr(heartbeats, "INTERVAL", 0.01)
    monkeypatch.setattr(heartbeats, "PATIENCE", 0.3)
    store = Store()
    ranks = [Heartbeats(store, rank, 3) for rank in range(3)]
    yield ranks
    for rank in ranks:
        rank.end()
    assert threading.active_count() < 20


def stays(condition: Any, value: object) -> None:
    for _ in range(20):
        assert condition() == value
        threading.Event().wait(0.02)


def test_ranks_that_exchange_are_well(ranks: list[Heartbeats]) -> None:
    assert ranks[0].stalled() == ""
    for rank in ranks:
        rank.enter()  # all are inside one long exchange
    stays(ranks[0].stalled, "")
    for rank in ranks:
        rank.leave()
    stays(ranks[0].stalled, "")  # and all compute for long


def test_a_rank_without_a_sign_is_named(ranks: list[Heartbeats]) -> None:
    assert ranks[0].stalled() == ""
    ranks[2].end()  # as after SIGSTOP
    assert eventually(ranks[0].stalled, 5).startswith("process 2 of 3 has given no sign of life for ")


def test_a_rank_that_does_not_come_to_an_exchange_is_named(ranks: list[Heartbeats]) -> None:
    for rank in (ranks[0], ranks[2]):
        rank.enter()
    assert eventually(ranks[0].stalled, 5).startswith("the others have waited for process 1 of 3 for ")
    ranks[1].enter()
    eventually(lambda: ranks[0].stalled() == "", 5)
