"""Limits on connections, with a server of uvicorn and raw sockets."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from dashboard.shared.connections import TOO_MANY, TOO_SLOW, limit_connections
from tests.conftest import free_port
from tests.fixtures.started import eventually

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
