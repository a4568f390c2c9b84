"""The dashboard against other web pages: who may open its connection, from which a page is driven."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest

from tests.fixtures.browser import Server


def handshake(address: str, host: str, origin: str | None) -> int:
    """Ask for the WebSocket of a page; return the status, 101 if it was opened."""
    port = urlsplit(address).port
    assert port is not None
    lines = [
        "GET /_stcore/stream HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        *([] if origin is None else [f"Origin: {origin}"]),
    ]
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        return int(connection.recv(64).split()[1])


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_the_page_itself_is_served(dashboard: Server, name: str) -> None:
    host = f"{name}:{urlsplit(dashboard.address).port}"
    assert handshake(dashboard.address, host, f"http://{host}") == 101


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("rebound.example", "http://rebound.example"),  # DNS rebinding: both are the other page's
        ("rebound.example", None),
        ("127.0.0.1.example", "http://127.0.0.1.example"),
        ("127.0.0.1", "http://other.example"),  # a page elsewhere that connects to this machine
        ("127.0.0.1", "null"),  # a page in a sandboxed frame or a file
    ],
)
def test_other_pages_are_refused(dashboard: Server, host: str, origin: str | None) -> None:
    assert handshake(dashboard.address, host, origin) == 403


def test_other_pages_cannot_show_it_in_a_frame(dashboard: Server) -> None:
    for path in ("/", "/train", "/_stcore/health"):
        with urlopen(dashboard.address + path, timeout=20) as answer:
            assert answer.headers["Content-Security-Policy"] == "frame-ancestors 'self'"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
