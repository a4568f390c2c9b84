"""Limits on what reaches Gradio: no large requests, no URLs to fetch, no programs to start.

Gradio's server offers more than this demo uses: it fetches images from URLs that a visitor names, runs ffmpeg on
uploads, and limits the size of each uploaded file but not their number.
"""

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from swin_core.errors import ImageError

log = logging.getLogger(__name__)

INVALID_REQUEST = "Invalid request; see the API page."
NOT_AN_UPLOAD = "the image must be an upload: send the file itself, not a path or a URL."

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

_CLOSED = ("/process_recording", "/proxy=", "/file=http:", "/file=https:", "/component_server", "/monitoring")


class RequestLimits:
    """ASGI middleware that refuses what the demo does not offer, in one line of text.

    It also answers requests at which Gradio fails, such as an event that does not exist.

    Args:
        app: the application behind it.
        max_bytes: largest body of a request.
    """

    def __init__(self, app: App, max_bytes: int):
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def tracked_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        refusal = self._refusal(scope)
        if refusal is None:
            try:
                await self.app(scope, receive, tracked_send)
                return
            except Exception as error:
                if started:
                    raise
                log.warning("Gradio failed at %r: %r", scope["path"][:200], error)
                refusal = 400, INVALID_REQUEST
        status, text = refusal
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": text.encode()})

    def _refusal(self, scope: Message) -> tuple[int, str] | None:
        """Return the HTTP status and text with which a request is refused, or None."""
        if any(path in scope["path"] for path in _CLOSED):
            return 404, "The demo does not offer this."
        if scope["method"] not in ("POST", "PUT", "PATCH"):
            return None
        # The server reads no more than this header says, so the header alone can be trusted.
        length = dict(scope["headers"]).get(b"content-length", b"")
        if not length.isdigit():
            return 411, "Send the length of the request as Content-Length."
        if int(length) > self.max_bytes:
            return 413, f"The request is larger than {self.max_bytes / 2**20:.0f} MiB: send a smaller image."
        return None


def refuse_urls(data: object) -> None:
    """Search what a client sent for files that Gradio would fetch from a URL.

    Raises:
        ImageError: there is one.
    """
    if isinstance(data, dict):
        path = data.get("path")
        if isinstance(path, str) and "://" in path:
            raise ImageError(NOT_AN_UPLOAD)
        data = list(data.values())
    if isinstance(data, list | tuple):
        for value in data:
            refuse_urls(value)
