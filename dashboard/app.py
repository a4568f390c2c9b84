"""The dashboard's entry point: `streamlit run dashboard/app.py`. The pages are in main.py."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil
import streamlit as st
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboard.shared.connections import BodyDeadline, limit_connections
from dashboard.shared.upload_limits import UploadLimits
from swin_core.system.memory import exempt_live_objects, limit_kept_kernels, return_freed_memory, share_one_heap

HEADERS = {"Content-Security-Policy": "frame-ancestors 'self'", "X-Content-Type-Options": "nosniff"}
"""No page of another site may show the dashboard in a frame, where a visitor would click on it unawares."""
STROKE_BYTES = 2**16
"""Largest request about a stroke."""
LOOK_SECONDS = 1
"""Interval at which the server looks at its own size."""
TRIM_SECONDS, TRIM_BYTES = 10, 32 * 2**20
"""Freed memory is returned to the system after this time, or once the server has grown by so much."""
EXEMPT_SECONDS = 600
"""Longest time between two calls of `exempt_live_objects`; a newly loaded module also leads to one."""


class SecurityHeaders:
    """ASGI middleware that adds `HEADERS` to each answer; Streamlit has no setting for them."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)


@asynccontextmanager
async def trimming(app: st.App) -> AsyncIterator[None]:
    """Return freed memory to the system while the server runs, and keep garbage collection short.

    Each session and each explanation frees much. Streamlit collects all garbage after each run of a page, which would
    go through some 600,000 objects of libraries each time: a third of a second in which no request is answered.
    """

    async def trim() -> None:
        process, resident = psutil.Process(), 0
        loaded, exempted, last = 0, 0.0, 0.0
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            due = time.monotonic() - last > TRIM_SECONDS
            if due:
                last = time.monotonic()
                if len(sys.modules) != loaded or last - exempted > EXEMPT_SECONDS:
                    await asyncio.to_thread(exempt_live_objects)
                    loaded, exempted = len(sys.modules), last
            if due or process.memory_info().rss > resident + TRIM_BYTES:
                await asyncio.to_thread(return_freed_memory)
                resident = process.memory_info().rss

    task = asyncio.create_task(trim())
    yield
    task.cancel()


async def stroke(request: Request) -> Response:
    """Answer a stroke of the brush on Compare with the new probabilities."""
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > STROKE_BYTES:
            return Response(status_code=413)
    # Here, since it loads torch: the page is served before. Whoever knows a token has seen it already.
    from dashboard.compare.brush import answer_stroke

    rows = await asyncio.to_thread(answer_stroke, bytes(content))
    return Response(status_code=404) if rows is None else JSONResponse(rows)


share_one_heap()  # each run of a page has a thread of its own
limit_kept_kernels()
limit_connections()
app = st.App(
    "main.py",
    routes=[Route("/{base:path}stroke", stroke, methods=["POST"])],
    middleware=[Middleware(SecurityHeaders), Middleware(BodyDeadline), Middleware(UploadLimits)],
    lifespan=trimming,
)
