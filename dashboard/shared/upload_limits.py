"""Limit what visitors of the dashboard upload; Streamlit limits the size of each file only and keeps it in memory."""

import asyncio
import re
from collections import Counter
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit.runtime import Runtime

SESSION_BYTES = 100 * 2**20
"""Most bytes of the uploads of one session."""
TOTAL_BYTES = 2**30
"""Most bytes of all uploads together."""
DISCARD_BYTES, DISCARD_SECONDS = 64 * 2**20, 60
"""So much of a refused upload is read, and for so long, before the answer."""
SESSION_FULL = f"All uploads of one tab may have {SESSION_BYTES // 2**20} MiB together: remove one first."
TOTAL_FULL = "The dashboard holds too many uploads: try again later."

_UPLOAD = re.compile(r".*/_stcore/upload_file/([^/]+)/[^/]+")


def held_bytes() -> Counter[str]:
    """Return the bytes of the uploads that Streamlit holds, by session: until a file is removed or its tab closed."""
    storage = getattr(Runtime.instance().uploaded_file_mgr, "file_storage", {}) if Runtime.exists() else {}
    return Counter(
        {name: sum(len(file.data) for file in list(files.values())) for name, files in list(storage.items())}
    )


async def _discard_body(receive: Receive) -> None:
    """Read the rest of a body: a browser that still sends does not read the answer, and reports a broken connection."""
    left = DISCARD_BYTES
    while left > 0:
        message = await receive()
        if not message.get("more_body", False):
            return
        left -= len(message["body"])


class UploadLimits:
    """ASGI middleware that refuses uploads above a limit with 413 and one line, counted as they arrive.

    Args:
        app: Streamlit's application.
        per_session: bytes that the uploads of one session may have.
        total: bytes that all uploads may have.
    """

    def __init__(self, app: ASGIApp, per_session: int = SESSION_BYTES, total: int = TOTAL_BYTES):
        self._app = app
        self._per_session = per_session
        self._total = total
        self._arriving: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        upload = _UPLOAD.fullmatch(scope["path"]) if scope["type"] == "http" and scope["method"] == "PUT" else None
        if upload is None:
            await self._app(scope, receive, send)
            return
        session = upload[1]
        length = Headers(scope=scope).get("content-length", "")
        refusal = self._excess(session, int(length) if length.isdigit() else 0)
        counted, started, complete = 0, False, False

        async def counting_receive() -> Message:
            nonlocal counted, refusal, complete
            message = await receive()
            complete = not message.get("more_body", False)
            size = len(message.get("body", b""))
            counted += size
            self._arriving[session] += size
            refusal = refusal or self._excess(session)
            return {"type": "http.disconnect"} if refusal else message

        def give_back() -> None:
            nonlocal counted
            self._arriving[session] -= counted
            counted = 0
            if not self._arriving[session]:
                del self._arriving[session]

        async def send_unless_refused(message: Message) -> None:
            nonlocal started
            if refusal and not started:
                return
            started = True
            give_back()  # Streamlit holds the file now, or has refused it
            await send(message)

        if not refusal:
            try:
                await self._app(scope, counting_receive, send_unless_refused)
            except Exception:
                if not refusal or started:
                    raise
            finally:
                give_back()
        if refusal and not started:
            if not complete:
                with suppress(TimeoutError):
                    await asyncio.wait_for(_discard_body(receive), DISCARD_SECONDS)
            await PlainTextResponse(refusal, 413, {"Connection": "close"})(scope, receive, send)

    def _excess(self, session: str, more: int = 0) -> str:
        """Return why a session may not upload so many bytes more; empty if it may."""
        held = held_bytes()
        if held[session] + self._arriving[session] + more > self._per_session:
            return SESSION_FULL
        return TOTAL_FULL if held.total() + self._arriving.total() + more > self._total else ""
