"""What reaches Gradio: the routes that the page and the API need, from the page itself, within limits.

Gradio's server offers more than this demo uses: it fetches URLs that a visitor names, runs ffmpeg on uploads, answers
requests beside its queue, and limits the size of each uploaded file but not of a request.
"""

import asyncio
import json
import logging
import re
import time
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboard.demo.turns import Turns
from dashboard.demo.visitor_files import VisitorFiles
from swin_core.errors import ImageError

log = logging.getLogger(__name__)

INVALID_REQUEST = "Invalid request; see the API page."
NOT_OFFERED = "The demo does not offer this."
FOREIGN = "Another web page sent this request; open the demo itself."
NO_LOGIN = "Log in first."
TOO_MANY_LOGINS = "Too many failed logins from your address: wait a quarter of an hour."
NOT_AN_UPLOAD = "the image must be an upload: send the file itself, not a path or a URL."
UNKNOWN_EVENT = "There is no such request: send it again, and ask for its answer by the event_id that you get."

LOGIN_DELAY_SECONDS, LOGINS_AT_MOST, LOGIN_PERIOD_SECONDS = 1.0, 10, 900
"""A failed login is answered after the delay; so many in the period close the login for their address."""
FORM_BYTES, JSON_BYTES = 2**14, 2**18
"""Largest login form and largest call of an event; images are uploaded before."""


@dataclass(frozen=True)
class _Route:
    """A route that is open."""

    methods: str
    path: re.Pattern[str]
    max_bytes: int = 0
    """Largest body."""
    before_login: bool = False


def _route(methods: str, path: str, max_bytes: int = 0, before_login: bool = False) -> _Route:
    return _Route(methods, re.compile(path.replace("~", "/gradio_api")), max_bytes, before_login)


def open_routes(upload_bytes: int) -> list[_Route]:
    """Return the routes that the page, its login and the API need; `~` stands for Gradio's prefix."""
    return [
        _route("GET HEAD", r"/", before_login=True),
        _route("GET HEAD", r"/(assets|static|svelte)/.+", before_login=True),
        _route("GET HEAD", r"(~)?/theme\.css|/favicon\.ico|/manifest\.json|/robots\.txt", before_login=True),
        _route("POST", r"/login/?", FORM_BYTES, before_login=True),
        _route("GET", r"/logout"),
        _route("GET", r"~/startup-events", before_login=True),  # asked by Gradio itself; starts the queue
        # Descriptions of the page and of the API.
        _route("GET", r"/config/?|~/(info|openapi\.json|app_id)/?"),
        # An event: its image, its call, its result.
        _route("POST", r"~/upload", upload_bytes),
        _route("GET", r"~/upload_progress"),
        _route("POST", r"~/queue/join|~/call/(v2/)?\w+/?|~/(cancel|reset)/?", JSON_BYTES),
        _route("GET", r"~/queue/data|~/call/(v2/)?\w+/\w+|~/heartbeat/\w+"),
        _route("GET HEAD", r"~/file=(?!\w+:).+"),
    ]


class LoginAttempts:
    """Failed logins by network address."""

    def __init__(self, at_most: int = LOGINS_AT_MOST, period: float = LOGIN_PERIOD_SECONDS):
        self._at_most = at_most
        self._period = period
        self._times: dict[str, list[float]] = {}

    def begin(self, address: str) -> bool:
        """Return whether an address may try to log in, and count the attempt as failed until `succeed`.

        Attempts that run at the same time are counted before any of them is answered.
        """
        oldest = time.monotonic() - self._period
        self._times = {
            key: kept for key, times in self._times.items() if (kept := [when for when in times if when > oldest])
        }
        times = self._times.setdefault(_network(address), [])
        if len(times) >= self._at_most:
            return False
        times.append(time.monotonic())
        return True

    def succeed(self, address: str) -> None:
        """Take back one attempt of an address."""
        if times := self._times.get(_network(address)):
            times.pop()


def _network(address: str) -> str:
    """Return the part of an address that one subscriber has: a whole IPv4 address, the first 64 bits of an IPv6."""
    try:
        return str(ip_network((address, 64 if ip_address(address).version == 6 else 32), strict=False))
    except ValueError:
        return address


class Gate:
    """ASGI middleware that lets only what the demo offers through to Gradio, and refuses all else in one line.

    It also answers requests at which Gradio fails, such as an event that does not exist.

    Args:
        app: Gradio's application.
        upload_bytes: largest request with an image.
        files: counts and registers uploads.
        turns: forgets requests of visitors who left.
        frames: other sites whose pages may show the demo in a frame, as the `frame-ancestors` of a policy.
        login_delay: seconds after which a failed login is answered.
    """

    def __init__(
        self,
        app: ASGIApp,
        upload_bytes: int,
        files: VisitorFiles,
        turns: Turns,
        frames: str = "",
        login_delay: float = LOGIN_DELAY_SECONDS,
    ):
        self.app = app
        self.files = files
        self.turns = turns
        self.login_delay = login_delay
        self.logins = LoginAttempts()
        self.headers = {
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "same-origin",
            # Gradio's page holds scripts and styles of its own, and makes functions from text.
            "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
            "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
            "connect-src 'self' data: blob:; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; "
            f"form-action 'self'; frame-ancestors 'self' {frames}".rstrip(),
        }
        self._routes = open_routes(upload_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] == "websocket":  # Gradio has none
            await send({"type": "websocket.close", "code": 1008, "reason": NOT_OFFERED})
            return
        route = next((route for route in self._routes if route.path.fullmatch(scope["path"])), None)
        exchange = _Exchange(self, scope, receive, send, route.max_bytes if route else 0)
        exchange.refusal = self._refusal(scope, route, exchange.address)
        if exchange.refusal is None:
            try:
                await self.app(one_session_logout(scope), exchange.receive, exchange.send)
            except Exception as error:
                if exchange.started:
                    raise
                if exchange.refusal is None:
                    log.warning("Gradio failed at %r: %r", scope["path"][:200], error)
                    exchange.refusal = 400, INVALID_REQUEST
            finally:
                exchange.end()
        if exchange.refusal is not None and not exchange.started:
            status, text = exchange.refusal
            headers = {**self.headers, "Connection": "close"}
            await PlainTextResponse(text, status, headers)(scope, receive, send)

    def _refusal(self, scope: Scope, route: _Route | None, address: str) -> tuple[int, str] | None:
        """Return the HTTP status and text with which a request is refused before its body is read, or None."""
        if route is None:
            return 404, NOT_OFFERED
        if scope["method"] not in route.methods:
            return 405, NOT_OFFERED
        if _is_foreign(scope):
            return 403, FOREIGN
        if not route.before_login and not _is_logged_in(scope):
            return 401, NO_LOGIN
        length = Headers(scope=scope).get("content-length", "0")
        if not length.isdigit() or int(length) > route.max_bytes:
            return 413, _too_large(route.max_bytes)
        if _is_login(scope) and not self.logins.begin(address):
            return 429, TOO_MANY_LOGINS
        if _is_unknown(scope):
            return 404, UNKNOWN_EVENT
        return None


class _Exchange:
    """One request and its response: counts the body as it arrives, and sees what Gradio answers."""

    def __init__(self, gate: Gate, scope: Scope, receive: Receive, send: Send, max_bytes: int):
        self.address: str = scope["client"][0] if scope["client"] else ""
        self.refusal: tuple[int, str] | None = None
        """HTTP status and text to answer in Gradio's place."""
        self.started = False
        self._gate = gate
        self._scope = scope
        self._receive = receive
        self._send = send
        self._max_bytes = max_bytes
        self._is_upload = scope["path"].endswith("/upload")
        self._arrived = self._counted = 0
        self._complete = False
        self._is_registered = False
        """Whether the files of an upload are among the visitor's files."""
        self._uploaded = bytearray()
        """Gradio's answer to an upload: the paths of the files."""

    async def receive(self) -> Message:
        """Return the next part of the body, or a disconnection once the body is refused."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            if not self._complete and (session := _listening_session(self._scope)):
                self._gate.turns.leave(session)
            return message
        size = len(message.get("body", b""))
        self._arrived += size
        if self._arrived > self._max_bytes:
            return self._refuse_body(413, _too_large(self._max_bytes))
        if self._is_upload:
            self._counted += size
            try:
                self._gate.files.arrive(self.address, size)
            except ImageError as error:
                return self._refuse_body(429, str(error))
        return message

    def _refuse_body(self, status: int, text: str) -> Message:
        self.refusal = status, text
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Pass on a part of Gradio's response, unless the request was refused meanwhile."""
        if self.refusal is not None and not self.started:
            return
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in self._gate.headers.items():
                headers.setdefault(name, value)
            if _is_login(self._scope):
                if message["status"] < 400:
                    self._gate.logins.succeed(self.address)
                else:
                    await asyncio.sleep(self._gate.login_delay)
            self._is_upload = self._is_upload and message["status"] == 200
            self.started = True
        else:
            self._complete = not message.get("more_body", False)
            if self._is_upload:
                self._uploaded += message.get("body", b"")
                if self._complete:
                    for path in json.loads(self._uploaded):
                        self._gate.files.add(Path(path), self.address)
                    self._is_registered = True
        await self._send(message)

    def end(self) -> None:
        """Take back what was counted: an oversized login, and an upload that is registered now.

        Of an upload that was cut off or refused, Gradio's file is still there.
        """
        if self.refusal is not None and _is_login(self._scope):
            self._gate.logins.succeed(self.address)
        if self._is_registered:
            self._gate.files.arrive(self.address, -self._counted)
        elif self._counted:
            self._gate.files.cut_off(self.address, self._counted)


def _is_login(scope: Scope) -> bool:
    return bool(scope["path"].rstrip("/") == "/login")


def _is_logged_in(scope: Scope) -> bool:
    """Return whether a request has the cookie of a login, or none is needed."""
    gradio = scope["app"]
    cookies = cookie_parser(Headers(scope=scope).get("cookie", ""))
    return gradio.auth is None or any(gradio.tokens.get(value) for value in cookies.values())


def _is_foreign(scope: Scope) -> bool:
    """Return whether another web page sent a request. Links to the demo's page are allowed."""
    if scope["path"] == "/":
        return False
    headers = Headers(scope=scope)
    if headers.get("sec-fetch-site") in ("cross-site", "same-site"):
        return True
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower()


def one_session_logout(scope: Scope) -> Scope:
    """Return a request to log out that ends its own session only: Gradio ends all sessions of the user unless told.

    Gradio looks for the session in the cookie for https; without https a browser has the other one only.
    """
    if scope["path"] != "/logout":
        return scope
    headers = MutableHeaders(raw=list(scope["headers"]))
    cookies = cookie_parser(headers.get("cookie", ""))
    secure = {name.replace("-unsecure", "", 1): value for name, value in cookies.items()}
    headers["cookie"] = "; ".join(f"{name}={value}" for name, value in {**secure, **cookies}.items())
    return {**scope, "query_string": b"all_session=false", "headers": headers.raw}


def _listening_session(scope: Scope) -> str | None:
    """Return the session whose results a request waits for, or None."""
    if scope["path"].endswith("/queue/data"):
        return parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [None])[0]
    if scope["method"] == "GET" and "/call/" in scope["path"]:
        return str(scope["path"].rsplit("/", 1)[1])  # of a call without a session, the session is named after the call
    return None


def _is_unknown(scope: Scope) -> bool:
    """Return whether a request waits for results that Gradio does not know; Gradio would break the connection."""
    waited_for = _listening_session(scope)
    if waited_for is None:
        return False
    queue = scope["app"].get_blocks()._queue  # no route tells
    return not (
        waited_for in queue.pending_messages_per_session
        or waited_for in queue.event_ids_to_events
        or any(waited_for in events for events in queue.pending_event_ids_session.values())
    )


def _too_large(max_bytes: int) -> str:
    return f"The request is larger than {max_bytes / 2**20:.2g} MiB: send a smaller image."


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
