"""The dashboard's entry point: `streamlit run dashboard/app.py`. The pages are in main.py."""

import streamlit as st
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {"Content-Security-Policy": "frame-ancestors 'self'", "X-Content-Type-Options": "nosniff"}
"""No page of another site may show the dashboard in a frame, where a visitor would click on it unawares."""


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


app = st.App("main.py", middleware=[Middleware(SecurityHeaders)])
