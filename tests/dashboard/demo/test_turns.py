"""Tests of the demo's fair queue."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from dashboard.demo.turns import BUSY, LEFT, Turns
from swin_core.errors import SwinError


class Work:
    """Requests whose work is to note their name, behind one that holds the only thread until `open` is set."""

    def __init__(self, turns: Turns):
        self.turns = turns
        self.done: list[str] = []
        self.open = threading.Event()

    def ask(self, address: str, session: str, name: str) -> asyncio.Task[None]:
        return asyncio.create_task(self.turns.run(address, session, lambda: self.done.append(name)))

    async def hold(self, address: str = "first") -> asyncio.Task[bool]:
        task = asyncio.create_task(self.turns.run(address, "holds", lambda: self.open.wait(20)))
        await asyncio.sleep(0)
        return task


def play(scene: Callable[[Work], Awaitable[None]], waiting: int = 64, at_once: int = 1) -> list[str]:
    """Play a scene; return the names in the order of their turns."""

    async def run() -> list[str]:
        work = Work(Turns(at_once, waiting))
        await scene(work)
        work.open.set()
        await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}), return_exceptions=True)
        return work.done

    return asyncio.run(run())


def test_visitors_take_turns() -> None:
    """Whoever asks for less is not behind all requests of another, and each one's own stay in order."""

    async def scene(work: Work) -> None:
        await work.hold("heavy")
        for number in range(5):
            work.ask("heavy", "a", f"heavy{number}")
        for number in range(2):
            work.ask("light", "b", f"light{number}")
        await asyncio.sleep(0)

    assert play(scene) == ["light0", "heavy0", "light1", "heavy1", "heavy2", "heavy3", "heavy4"]


def test_a_visitor_leaves_a_thread_free_for_the_next_one() -> None:
    """A light request waited until one of two heavy ones of another visitor ended."""

    async def scene(work: Work) -> None:
        await work.hold("heavy")
        work.ask("heavy", "a", "heavy")
        await work.ask("light", "b", "light")
        assert work.done == ["light"]

    assert play(scene, at_once=2) == ["light", "heavy"]


def test_sessions_of_an_address_take_turns_among_themselves() -> None:
    """Many sessions of one address do not get more turns than another address."""

    async def scene(work: Work) -> None:
        await work.hold("one")
        for session in ("x", "x", "y"):
            work.ask("one", session, f"one {session}")
        for _ in range(2):
            work.ask("two", "z", "two")
        await asyncio.sleep(0)

    assert play(scene) == ["two", "one x", "two", "one y", "one x"]


def test_a_full_queue_displaces_the_newest_of_the_largest_visitor() -> None:
    refused = []

    async def scene(work: Work) -> None:
        await work.hold()
        tasks = {name: work.ask(name[:-1], name[:-1], name) for name in ("heavy0", "heavy1", "heavy2", "light0")}
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for name, task in tasks.items():
            if task.done():
                with pytest.raises(SwinError, match=BUSY):
                    task.result()
                refused.append(name)

    assert play(scene, waiting=3) == ["heavy0", "light0", "heavy1"]
    assert refused == ["heavy2"]


def test_requests_of_a_session_that_left_are_dropped() -> None:
    async def scene(work: Work) -> None:
        await work.hold()
        gone = [work.ask("a", "gone", "gone") for _ in range(3)]
        work.ask("a", "stays", "stays")
        await asyncio.sleep(0)
        work.turns.leave("gone")
        for result in await asyncio.gather(*gone, return_exceptions=True):
            assert str(result) == LEFT

    assert play(scene) == ["stays"]


def test_a_cancelled_request_keeps_its_thread_until_it_ends() -> None:
    """Cancelling neither runs two at once nor loses the turn of the next one."""

    async def scene(work: Work) -> None:
        holding = await work.hold()
        waits = work.ask("a", "a", "cancelled")
        work.ask("b", "b", "next")
        await asyncio.sleep(0)
        waits.cancel()
        holding.cancel()
        await asyncio.gather(waits, holding, return_exceptions=True)
        assert work.done == []

    assert play(scene) == ["next"]


def test_an_error_of_the_work_is_raised_and_ends_the_turn() -> None:
    async def scene(work: Work) -> None:
        work.open.set()
        with pytest.raises(ZeroDivisionError):
            await work.turns.run("a", "a", lambda: 1 // 0)
        await work.ask("a", "a", "next")

    assert play(scene) == ["next"]
