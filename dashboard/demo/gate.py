"""What is let through to Gradio: no large bodies, no addresses to fetch, no program to start.

Gradio's server offers more than this demo uses. It fetches images from addresses that a visitor names, runs ffmpeg on
what he sends, and bounds the size of each uploaded file but not their number.
"""

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from swin_core.errors import ImageError

__all__ = ["NOT_UNDERSTOOD", "Gate", "refuse_addresses"]

log = logging.getLogger(__name__)

NOT_UNDERSTOOD = "The request is not understood: send what the API's page describes, and files as uploads."

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

_CLOSED = ("/process_recording", "/proxy=", "/file=http:", "/file=https:", "/component_server", "/monitoring")


class Gate:
    """ASGI middleware that answers by one line what the demo does not offer, before Gradio sees it, or after it failed.

    Gradio looks up what a client names, an address or a number of an event, without asking whether it is there.

    Args:
        app: what comes behind it.
        most_bytes: largest body of a request.
    """

    def __init__(self, app: App, most_bytes: int):
        self.app = app
        self.most_bytes = most_bytes

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = False

        async def noting(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        refused = self._refused(scope)
        if refused is None:
            try:
                await self.app(scope, receive, noting)
                return
            except Exception as error:
                if begun:
                    raise
                log.warning("Gradio failed at %r: %r", scope["path"][:200], error)
                refused = 400, NOT_UNDERSTOOD
        status, line = refused
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": line.encode()})

    def _refused(self, scope: Message) -> tuple[int, str] | None:
        if any(closed in scope["path"] for closed in _CLOSED):
            return 404, "The demo does not offer this."
        if scope["method"] not in ("POST", "PUT", "PATCH"):
            return None
        # The server reads no further than this header says, so it is enough to look at it.
        length = dict(scope["headers"]).get(b"content-length", b"")
        if not length.isdigit():
            return 411, "Say how long the request is: send Content-Length."
        if int(length) > self.most_bytes:
            return 413, f"The request is larger than {self.most_bytes / 2**20:.0f} MiB: send a smaller image."
        return None


def refuse_addresses(sent: object) -> None:
    """Look through what a client sent for a file that Gradio would fetch from elsewhere.

    Raises:
        ImageError: there is one.
    """
    if isinstance(sent, dict):
        path = sent.get("path")
        if isinstance(path, str) and "://" in path:
            raise ImageError("The image must be an upload: send the file itself, not a path or an address.")
        sent = list(sent.values())
    if isinstance(sent, list | tuple):
        for value in sent:
            refuse_addresses(value)
