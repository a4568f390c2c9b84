"""Whose request runs next: visitors take turns, so that many requests of one do not hold up the others.

Gradio's queue is first come, first served. It hands every request on at once, and they wait here.
"""

import asyncio
import contextvars
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeVar

from swin_core.errors import SwinError

BUSY = "the demo is busy: try again in a minute."
LEFT = "the visitor left before the request's turn."

T = TypeVar("T")


@dataclass(eq=False)
class _Turn:
    """A request that waits."""

    address: str
    session: str
    number: int
    ready: "asyncio.Future[None]"

    @property
    def visitors(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The address, and the session of that address."""
        return (self.address,), (self.address, self.session)


class Turns:
    """Run functions in a few threads, the visitor served least recently first; one thread is free for a second visitor.

    A visitor is a network address; the sessions of one address (tabs, programs) take turns among themselves. All
    methods are called from one event loop.

    Args:
        at_once: how many functions run at the same time.
        waiting: how many requests may wait. One more displaces the newest request of the address with the most.
    """

    def __init__(self, at_once: int = 2, waiting: int = 64):
        self._at_once = at_once
        self._waiting_at_most = waiting
        self._waiting: list[_Turn] = []
        self._running: list[_Turn] = []
        self._count = count()
        self._served: dict[tuple[str, ...], int] = {}
        """By address and by session, the number of its latest turn; forgotten when it has no request."""
        self._threads = ThreadPoolExecutor(at_once, "turn")

    async def run(self, address: str, session: str, work: Callable[[], T]) -> T:
        """Wait for the visitor's turn, run `work` in a thread and return its result.

        Raises:
            SwinError: too many requests wait, or the session ended before its turn.
        """
        turn = _Turn(address, session, next(self._count), asyncio.get_running_loop().create_future())
        self._waiting.append(turn)
        self._make_room()
        self._start_next()
        try:
            await turn.ready
        except asyncio.CancelledError:
            if turn in self._waiting:
                self._waiting.remove(turn)
            elif not turn.ready.cancelled() and turn.ready.exception() is None:
                self._end_turn(turn)  # it was given its turn at the same moment
            raise
        loop, context = asyncio.get_running_loop(), contextvars.copy_context()
        running = loop.run_in_executor(self._threads, context.run, work)
        running.add_done_callback(lambda ended: self._end_turn(turn, ended))
        # A visitor may cancel the request; the thread cannot be stopped, and keeps its turn until it ends.
        return await asyncio.shield(running)

    def leave(self, session: str) -> None:
        """Drop the waiting requests of a session whose visitor is gone."""
        for turn in [turn for turn in self._waiting if turn.session == session]:
            self._refuse(turn, LEFT)

    def _make_room(self) -> None:
        if len(self._waiting) > self._waiting_at_most:
            most = Counter(turn.address for turn in self._waiting).most_common(1)[0][0]
            self._refuse(max((turn for turn in self._waiting if turn.address == most), key=lambda t: t.number), BUSY)

    def _refuse(self, turn: _Turn, why: str) -> None:
        self._waiting.remove(turn)
        if not turn.ready.cancelled():
            turn.ready.set_exception(SwinError(why))

    def _start_next(self) -> None:
        while len(self._running) < self._at_once:
            busy = Counter(turn.address for turn in self._running)
            free = [turn for turn in self._waiting if busy[turn.address] < max(self._at_once - 1, 1)]
            if not free:
                break
            turn = min(
                free,
                key=lambda turn: ([self._served.get(visitor, -1) for visitor in turn.visitors], turn.number),
            )
            self._waiting.remove(turn)
            if turn.ready.cancelled():
                continue
            self._running.append(turn)
            self._served |= dict.fromkeys(turn.visitors, next(self._count))
            turn.ready.set_result(None)
        present = {visitor for turn in self._waiting + self._running for visitor in turn.visitors}
        self._served = {visitor: number for visitor, number in self._served.items() if visitor in present}

    def _end_turn(self, turn: _Turn, ended: "asyncio.Future[Any] | None" = None) -> None:
        if ended is not None and not ended.cancelled():
            ended.exception()  # asyncio reports exceptions that nobody has read
        self._running.remove(turn)
        self._start_next()
