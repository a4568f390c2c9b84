"""Find the rank that keeps the others waiting: it was stopped, or it hangs."""

import threading
import time
from typing import NamedTuple, Protocol

INTERVAL = 1.0
"""Seconds between two signs of life of a rank."""
PATIENCE = 20.0
"""Seconds after which a rank that gives no sign, or that the others wait for, is reported."""
NO_SIGN = "has given no sign of life"
"""What is reported of a rank that gives no sign."""


class Store(Protocol):
    """What is needed of torch's store, which all ranks share."""

    def set(self, key: str, value: str, /) -> object:
        """Store a text."""

    def get(self, key: str, /) -> bytes:
        """Return a text, as bytes."""

    def check(self, keys: list[str], /) -> bool:
        """Return whether all keys are there."""


class _Seen(NamedTuple):
    """The last sign of a rank, and when this process saw it change."""

    sign: str
    since: float


class Heartbeats:
    """Signs of life of all ranks: a thread of each rank counts its beats and its exchanges with the others.

    All ranks take part in the same exchanges, so the rank whose count of exchanges is the smallest is the one that the
    others wait for. Clocks of different machines are not compared.

    Args:
        store: shared by all ranks.
        rank: number of this one.
        size: number of ranks.
    """

    def __init__(self, store: Store, rank: int, size: int):
        self._store, self._rank, self._size = store, rank, size
        self._exchanges, self._inside, self._entered = 0, False, time.monotonic()
        self._seen: dict[int, _Seen] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def enter(self) -> None:
        """Note that this rank takes part in an exchange from now on."""
        self._exchanges, self._entered, self._inside = self._exchanges + 1, time.monotonic(), True

    def leave(self) -> None:
        """Note that the exchange is over."""
        self._inside = False

    def stalled(self) -> str:
        """Return which rank keeps this one waiting, in one line; empty if all is well. Call it every few seconds."""
        now = time.monotonic()
        for rank in range(self._size):
            key = f"beat-{rank}"
            if rank == self._rank or not self._store.check([key]):
                continue
            sign = self._store.get(key).decode()
            if rank not in self._seen or self._seen[rank].sign != sign:
                self._seen[rank] = _Seen(sign, now)
            silent, waiting = now - self._seen[rank].since, now - self._entered
            name = f"process {rank} of {self._size}"
            if silent > PATIENCE:
                return f"{name} {NO_SIGN} for {silent:.0f} s"
            if self._inside and waiting > PATIENCE and int(sign.partition(" ")[2]) < self._exchanges:
                return f"the others have waited for {name} for {waiting:.0f} s"
        return ""

    def end(self) -> None:
        """End the thread."""
        self._ended.set()
        self._thread.join()

    def _beat(self) -> None:
        beats = 0
        while True:
            beats += 1
            try:
                self._store.set(f"beat-{self._rank}", f"{beats} {self._exchanges}")
            except RuntimeError:  # the store's process is gone, and this one ends soon
                return
            if self._ended.wait(INTERVAL):
                return
