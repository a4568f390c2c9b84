"""Limits on connections, with a server of uvicorn and raw sockets; and on the time of a request's body."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from dashboard.demo.answers import Demo
from dashboard.demo.page import launch
from dashboard.shared.connections import TOO_MANY, TOO_SLOW, BodyDeadline, limit_connections
from tests.conftest import free_port
from tests.fixtures.started import eventually

ROOT = Path(__file__).resolve().parents[3]
WHOLE, HALF = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n", b"GET / HTTP/1.1\r\nHos"

Connect = Callable[[], socket.socket]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Connect]]:
    """Starts a server with limits; returns a function that opens a connection."""
    protocol: Any = AutoHTTPProtocol
    monkeypatch.setattr(protocol, "connection_made", protocol.connection_made)  # restored after the test

    async def answer(request: Request) -> PlainTextResponse:
        if request.url.path == "/slow":
            await asyncio.sleep(1)
        return PlainTextResponse("hello")

    with ExitStack() as stack:

        def start(**limits: Any) -> Connect:
            limit_connections(**limits)
            port = free_port()
            app = Starlette(routes=[Route("/{path:path}", answer)])
            server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
            thread = threading.Thread(target=server.run)
            thread.start()
            stack.callback(thread.join)
            stack.callback(setattr, server, "should_exit", True)
            eventually(lambda: server.started)
            return lambda: stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))

        yield start


def everything(connection: socket.socket) -> str:
    """What the server sends until it closes the connection."""
    content = b""
    while part := connection.recv(4096):
        content += part
    return content.decode()


def test_a_request_whose_headers_do_not_arrive_is_refused(serve: Callable[..., Connect]) -> None:
    connect = serve(header_seconds=0.2)
    first, second, slow = connect(), connect(), connect()
    first.sendall(HALF)
    second.sendall(WHOLE + HALF)  # also after a whole one
    slow.sendall(b"GET /slow HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
    assert everything(first).endswith(TOO_SLOW[2])
    assert "hello" in (answers := everything(second))
    assert answers.endswith(TOO_SLOW[2])
    assert everything(slow).endswith("hello")  # an answer may take longer


def test_above_the_limit_the_oldest_connection_without_a_request_is_closed(serve: Callable[..., Connect]) -> None:
    connect = serve(at_most=4)
    busy = [connect() for _ in range(2)]
    for connection in busy:
        connection.sendall(b"GET /slow HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
    idle = []
    for _ in range(4):
        idle.append(connect())
        idle[-1].sendall(HALF)
        time.sleep(0.05)
    assert [everything(connection).endswith(TOO_MANY[2]) for connection in idle[:2]] == [True, True]
    visitor = connect()
    visitor.sendall(WHOLE)
    assert visitor.recv(4096).startswith(b"HTTP/1.1 200")
    assert all(everything(connection).endswith("hello") for connection in busy)


async def read_all(scope: Any, receive: Any, send: Any) -> None:
    """An application that answers with the size of the body, and notes what it was told of the client."""
    request = Request(scope, receive)
    try:
        answer = PlainTextResponse(str(len(await request.body())))
    except ClientDisconnect:
        scope["told"].append("gone")
        answer = PlainTextResponse("gone", 400)
    await answer(scope, receive, send)


def answer_to(parts: Callable[[], Any], **limits: float) -> tuple[int, str, list[str]]:
    """Status and text of the answer to a body whose parts come from `parts`, and what the application was told."""
    sent: list[Any] = []
    told: list[str] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "PUT", "path": "/", "headers": [], "query_string": b"", "told": told}
    asyncio.run(BodyDeadline(read_all, **limits)(scope, parts, send))
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    return sent[0]["status"], sent[1]["body"].decode(), told


@pytest.mark.parametrize(("pause", "limits"), [(60, {"silent_seconds": 0.05}), (0.02, {"body_seconds": 0.2})])
def test_a_body_that_stops_or_drips_is_refused(pause: float, limits: dict[str, float]) -> None:
    """No pause between the parts of a dripping body is too long, but it never ends."""
    pauses = iter([0.0])

    async def drip() -> Any:
        await asyncio.sleep(next(pauses, pause))
        return {"type": "http.request", "body": b"x", "more_body": True}

    assert answer_to(drip, **limits) == (408, TOO_SLOW[2], ["gone"])


def test_a_body_that_arrives_in_time_passes_and_the_answer_may_take_longer() -> None:
    parts = [{"type": "http.request", "body": b"xy", "more_body": more} for more in (True, True, False)]

    async def receive() -> Any:
        return parts.pop(0)

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        assert await Request(scope, receive).body() == b"xy" * 3
        await asyncio.sleep(0.1)
        parts.append({"type": "http.disconnect"})
        assert (await receive())["type"] == "http.disconnect"  # of the client itself
        await PlainTextResponse("done")(scope, receive, send)

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "PUT", "path": "/", "headers": [], "query_string": b""}
    asyncio.run(BodyDeadline(slow, silent_seconds=0.05, body_seconds=0.05)(scope, receive, send))
    assert (sent[0]["status"], sent[1]["body"]) == (200, b"done")


def test_the_dashboard_and_the_demo_limit_the_time_of_a_body(tmp_path: Path) -> None:
    """Before anything that reads a body."""
    program = "from dashboard.app import app; print(*(each.cls.__name__ for each in app._user_middleware))"
    shown = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    names = shown.stdout.split()
    assert names.index("BodyDeadline") < names.index("UploadLimits")

    def started(app_kwargs: dict[str, Any], **_named: Any) -> tuple[None, str, None]:
        names[:] = [each.cls.__name__ for each in app_kwargs["middleware"]]
        return None, "", None

    blocks: Any = SimpleNamespace(launch=started)
    launch(blocks, Demo(("swin_micro_flowers",), tmp_path))
    assert names.index("BodyDeadline") < names.index("Gate")
