"""Limits on connections that uvicorn, the web server of dashboard and demo, does not have.

It keeps a connection that never sends a whole request for ever, be it the headers or the body, and accepts more of them
than the process may open files.
"""

import asyncio
import math
from contextlib import suppress
from typing import Any

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.auto import AutoHTTPProtocol

HEADER_SECONDS = 20.0
"""Longest time until the headers of a connection's first request, or of its next one, are complete."""
SILENT_SECONDS = 30.0
"""Longest pause between two parts of a request's body."""
BODY_SECONDS = 300.0
"""Longest time in which a whole body has to arrive: an image of 20 MiB needs 170 s at 1 Mbit/s."""
CONNECTIONS_AT_MOST = 512
_BUSY = object()
"""Stands for the request of a connection that was at work when it was looked at."""
TOO_SLOW = 408, "Request Timeout", "The request did not arrive: send it again."
TOO_MANY = 503, "Service Unavailable", "Too many connections are open: try again in a minute."


def open_many_files() -> float:
    """Let this process open as many files and connections as its hard limit allows; return how many it may open."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return math.inf
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # more than the system allows to any process
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return math.inf if allowed == resource.RLIM_INFINITY else allowed


def limit_connections(header_seconds: float = HEADER_SECONDS, at_most: int = CONNECTIONS_AT_MOST) -> None:
    """Limit the connections of all servers of uvicorn in this process, and the time in which requests have to arrive.

    Above `at_most`, or above half of the files that the process may open, the oldest connection that waits for a
    request is closed; the new one, if all are busy.

    Args:
        header_seconds: time until the headers of a request are complete; at most twice as long after another request.
        at_most: most connections.
    """
    most = min(at_most, open_many_files() // 2)
    # Neither Gradio nor Streamlit lets its server be configured, so the protocol's public method is wrapped.
    protocol_class: Any = AutoHTTPProtocol
    connection_made = protocol_class.connection_made

    def limited_connection_made(protocol: Any, transport: asyncio.Transport) -> None:
        connection_made(protocol, transport)
        protocol.opened = asyncio.get_running_loop().time()
        if len(protocol.connections) > most:
            waiting = [one for one in protocol.connections if isinstance(one, protocol_class) and _waits(one)]
            _refuse(min(waiting, key=lambda one: one.opened, default=protocol), TOO_MANY)
        _watch(protocol, None, header_seconds)

    protocol_class.connection_made = limited_connection_made


def _waits(protocol: Any) -> bool:
    """Return whether a connection waits for the headers of a request."""
    return protocol.cycle is None or protocol.cycle.response_complete


def _watch(protocol: Any, earlier: object, seconds: float) -> None:
    """Close a connection that still waits for the same request as the last time; look again after some seconds."""

    def look() -> None:
        transport = protocol.transport
        if transport.is_closing() or transport.get_protocol() is not protocol:  # closed, or a WebSocket now
            return
        if _waits(protocol) and protocol.cycle is earlier:
            _refuse(protocol, TOO_SLOW)
        else:
            _watch(protocol, protocol.cycle if _waits(protocol) else _BUSY, seconds)

    asyncio.get_running_loop().call_later(seconds, look)


def _refuse(protocol: Any, answer: tuple[int, str, str]) -> None:
    status, phrase, text = answer
    head = f"HTTP/1.1 {status} {phrase}\r\nContent-Type: text/plain\r\nContent-Length: {len(text)}\r\n"
    protocol.transport.write(f"{head}Connection: close\r\n\r\n{text}".encode())
    protocol.transport.close()
    protocol.connections.discard(protocol)


class BodyDeadline:
    """ASGI middleware that refuses a request whose body does not arrive in time, with 408 and one line.

    To the application, the client is then gone.

    Args:
        app: the application.
        silent_seconds: longest pause between two parts of a body.
        body_seconds: longest time in which a whole body has to arrive, from when the application first reads it.
    """

    def __init__(self, app: ASGIApp, silent_seconds: float = SILENT_SECONDS, body_seconds: float = BODY_SECONDS):
        self._app = app
        self._silent_seconds = silent_seconds
        self._body_seconds = body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        until: float | None = None
        complete = late = started = False

        async def timed_receive() -> Message:
            nonlocal until, complete, late
            if complete:
                return await receive()
            now = asyncio.get_running_loop().time()
            until = until or now + self._body_seconds
            late = late or now >= until
            with suppress(TimeoutError):
                if not late:
                    message = await asyncio.wait_for(receive(), min(self._silent_seconds, until - now))
                    complete = not message.get("more_body", False)
                    return message
            late = True
            return {"type": "http.disconnect"}

        async def send_in_time(message: Message) -> None:
            nonlocal started
            if started or not late:
                started = True
                await send(message)

        try:
            await self._app(scope, timed_receive, send_in_time)
        except Exception:
            if started or not late:
                raise
        if late and not started:
            status, _, text = TOO_SLOW
            await PlainTextResponse(text, status, {"Connection": "close"})(scope, receive, send)
