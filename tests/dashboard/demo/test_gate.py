"""Tests of the demo's gate: routes, origins, logins and bodies, over raw sockets where a library would interfere."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio.routes import App
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from dashboard.demo.answers import UPLOAD_BYTES, Demo
from dashboard.demo.gate import (
    FOREIGN,
    NO_LOGIN,
    TOO_MANY_LOGINS,
    UNKNOWN_EVENT,
    Gate,
    LoginAttempts,
    open_routes,
)
from dashboard.demo.page import REQUEST_OVERHEAD, page
from dashboard.demo.turns import Turns
from dashboard.demo.visitor_files import VisitorFiles
from tests.fixtures.demo import OURS, ROOT, Started, started
from tests.fixtures.started import eventually

ROSE = (ROOT / "assets" / "samples" / "rose.jpg").read_bytes()
LIMIT = UPLOAD_BYTES + REQUEST_OVERHEAD
HASTY = """
import sys
sys.path.insert(0, ".")
from dashboard import gradio_demo
gradio_demo.TRIM_SECONDS, gradio_demo.GRACE_SECONDS = 0.2, 0.5
sys.exit(gradio_demo.main())
"""
"""The demo with a short time after which the files of a closed page are deleted."""
LOGIN = {"username": "guest", "password": "se:cret"}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """A demo with a login."""
    home = tmp_path_factory.mktemp("gate")
    arguments = ("--auth", "guest:se:cret", "--models", OURS[0], "--hosts", "demo.example")
    with started(home, *arguments, program=("-c", HASTY)) as running:
        yield running


@pytest.fixture(scope="module")
def inside(demo: Started) -> Iterator[httpx.Client]:
    """A browser that is logged in."""
    with httpx.Client(base_url=demo.address, timeout=60) as browser:
        assert browser.post("/login", data=LOGIN).status_code == 200
        yield browser


def test_of_all_routes_of_gradio_these_are_open(tmp_path: Path) -> None:
    """A route that a new release of Gradio adds is closed, and one that it renames fails here."""
    app = App.create_app(page(Demo(OURS, tmp_path)))
    paths = [
        (method, re.sub(r"\{[^}]*\}", "x", route.path))
        for router in [app, *(getattr(route, "original_router", None) for route in app.routes)]
        for route in getattr(router, "routes", ())
        if isinstance(route, Route)
        for method in route.methods or ()
    ]
    reached = {
        (method, path.removesuffix("/") or "/")
        for method, path in paths
        for route in open_routes(LIMIT)
        if route.path.fullmatch(path) and method in route.methods.split()
    }
    api = "/gradio_api"
    assert reached == {
        *(
            (method, path)
            for path in ("/", "/assets/x", "/static/x", "/svelte/x", f"{api}/file=x")
            for method in ("GET",)
        ),
        ("HEAD", "/"),
        ("HEAD", f"{api}/file=x"),
        *(
            ("GET", path)
            for path in ("/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt", "/config", "/logout")
        ),
        *(("GET", f"{api}/{name}") for name in ("theme.css", "info", "openapi.json", "app_id", "startup-events")),
        *(("GET", f"{api}/{name}") for name in ("upload_progress", "queue/data", "heartbeat/x")),
        *(("GET", f"{api}/{name}/x") for name in ("call/x", "call/v2/x")),
        ("POST", "/login"),
        *(("POST", f"{api}/{name}") for name in ("upload", "queue/join", "call/x", "call/v2/x", "cancel", "reset")),
    }


def multipart(size: int) -> tuple[bytes, bytes]:
    """The header line and the body of an upload of one file."""
    body = (
        b'--cut\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        + bytes(size)
        + b"\r\n--cut--\r\n"
    )
    return b"Content-Type: multipart/form-data; boundary=cut\r\n", body


def chunks(body: bytes, size: int = 2**20) -> bytes:
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def framings(body: bytes) -> dict[str, tuple[bytes, bytes]]:
    """Ways to send a body: by name, the header lines that frame it and its bytes on the wire."""
    length = b"Content-Length: %d\r\n" % len(body)
    return {
        "length": (length, body),
        "chunked": (b"Transfer-Encoding: chunked\r\n", chunks(body)),
        "length and chunked": (length + b"Transfer-Encoding: chunked\r\n", chunks(body)),
        "short length and chunked": (b"Content-Length: 10\r\nTransfer-Encoding: chunked\r\n", chunks(body)),
        "small chunks": (b"Transfer-Encoding: chunked\r\n", chunks(body, 4096)),
        "one endless chunk": (b"Transfer-Encoding: chunked\r\n", b"fffffffff\r\n" + body),
        "no length": (b"Connection: close\r\n", body),
        "two lengths": (length + b"Content-Length: 10\r\n", body),
    }


def cookie_line(browser: httpx.Client) -> bytes:
    cookies = "; ".join(f"{key}={value}" for key, value in browser.cookies.items())
    return f"Cookie: {cookies}\r\n".encode()


def send(demo: Started, path: str, headers: bytes, body: bytes) -> int:
    """Send a request as it is; return the status of the answer, 0 if the server closed without one."""
    url = httpx.URL(demo.address)
    start = f"POST {path} HTTP/1.1\r\nHost: {url.netloc.decode()}\r\n".encode()
    with socket.create_connection((url.host, url.port), timeout=20) as connection:
        try:
            connection.sendall(start + headers + b"\r\n")
            for number in range(0, len(body), 2**20):
                connection.sendall(body[number : number + 2**20])
        except OSError:
            pass  # refused before all was sent; the answer may still be there
        try:
            answer = connection.recv(4096)
        except OSError:
            return 0
    return int(answer.split()[1]) if answer else 0


def held(folder: Path) -> int:
    """The bytes of all files in a folder, some of which may be deleted meanwhile."""
    size = 0
    for file in folder.rglob("*"):
        with suppress(OSError):
            size += file.stat().st_size if file.is_file() else 0
    return size


@pytest.mark.parametrize("path", ["/gradio_api/upload", "/gradio_api/queue/join", "/login"])
@pytest.mark.parametrize("logged_in", [True, False])
@pytest.mark.parametrize("name", framings(b""))
def test_bodies_above_the_limit_are_refused(
    demo: Started, inside: httpx.Client, name: str, logged_in: bool, path: str
) -> None:
    kind, body = multipart(LIMIT + 1 if "upload" in path else 2**19)
    framing, wire = framings(body)[name]
    cookie = cookie_line(inside) if logged_in else b""
    before = held(demo.folder)
    status = send(demo, path, kind + cookie + framing, wire)
    # Without a length the body is empty, and the server reads what follows as a request of its own.
    empty = (200,) if name == "no length" else ()
    assert status in (0, 400, 401, 413, 422, *empty), status
    if name == "chunked" and logged_in:
        assert status == 413
    assert held(demo.folder) - before < 2**20


@pytest.mark.parametrize("name", ["length", "chunked", "small chunks"])
def test_honest_uploads_arrive_in_any_framing(demo: Started, inside: httpx.Client, name: str) -> None:
    kind, body = multipart(1000)
    framing, wire = framings(body)[name]
    assert send(demo, "/gradio_api/upload", kind + cookie_line(inside) + framing, wire) == 200


def small(handler: Any, **options: Any) -> TestClient:
    """A gate before one handler, in place of Gradio."""
    gate = Middleware(Gate, upload_bytes=1000, files=VisitorFiles(per_visitor=500), turns=Turns(), **options)
    methods = ["GET", "POST"]
    app = Starlette(routes=[Route("/{rest:path}", handler, methods=methods)], middleware=[gate])
    app.auth = None  # type: ignore[attr-defined]  # as Gradio's
    return TestClient(app, raise_server_exceptions=False)


async def read_all(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())))


def test_bytes_are_counted_whatever_the_header_says() -> None:
    client = small(read_all)
    assert client.post("/gradio_api/queue/join", content=iter([b"x" * 1000] * 3)).text == "3000"
    refused = client.post("/gradio_api/upload", content=iter([b"x" * 300] * 3))
    assert refused.status_code == 429  # one visitor's uploads that arrive at once
    refused = small(read_all).post("/login", content=iter([b"x" * 2**13] * 3))
    assert (refused.status_code, refused.text[:30]) == (413, "The request is larger than 0.0")
    assert refused.headers["connection"] == "close"


async def answer_to(gate: Any, path: str, receive: Any) -> list[Any]:
    """What the gate sends in answer to a request with a long body, whose parts `receive` returns."""
    sent = []

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-length", b"400"), (b"host", b"testserver")]
    scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
    with suppress(ClientDisconnect):
        await gate({**scope, "query_string": b"", "client": ("testclient", 5), "root_path": ""}, receive, send)
    return sent


def test_an_upload_that_was_cut_off_counts_until_its_file_is_deleted(tmp_path: Path) -> None:
    """The rest of the body does not come, and Gradio leaves what it wrote."""
    client = small(read_all)
    parts = iter([{"type": "http.request", "body": bytes(300), "more_body": True}, {"type": "http.disconnect"}])

    async def receive() -> Any:
        return next(parts)

    asyncio.run(answer_to(client.app, "/gradio_api/upload", receive))
    refused = client.post("/gradio_api/upload", content=bytes(300))
    assert (refused.status_code, refused.text) == (429, "too many uploads arrive at once: try again in a minute.")


@pytest.mark.parametrize("path", ["call/explain/None", "call/v2/explain/None", "queue/data?session_hash=None"])
def test_results_of_an_unknown_request_are_refused_in_one_line(inside: httpx.Client, path: str) -> None:
    answer = inside.get(f"/gradio_api/{path}")
    assert (answer.status_code, answer.text) == (404, UNKNOWN_EVENT)


def test_other_web_pages_are_refused(demo: Started, inside: httpx.Client) -> None:
    """Whatever they ask for but the page itself, to which they may link."""
    foreign = [{"Origin": "http://other.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]
    call = {"json": {"data": []}}
    for headers in foreign:
        for method, path, options in (
            ("POST", "/gradio_api/call/models", call),
            ("POST", "/gradio_api/cancel", call),
            ("POST", "/login", {"data": LOGIN}),
            ("GET", "/logout", {}),
        ):
            answer = inside.request(method, path, headers=headers, **options)
            assert (answer.status_code, answer.text) == (403, FOREIGN), (headers, path)
        assert inside.get("/", headers=headers).status_code == 200
    own = {"Origin": demo.address.rstrip("/"), "Sec-Fetch-Site": "same-origin"}
    assert inside.post("/gradio_api/call/models", headers=own, **call).status_code == 200


def test_other_host_names_are_refused(inside: httpx.Client) -> None:
    """A page whose name leads to this machine (DNS rebinding); `--hosts` names those of a reverse proxy."""
    assert inside.get("/", headers={"Host": "rebound.example"}).status_code == 400
    assert inside.get("/", headers={"Host": "demo.example"}).status_code == 200


def test_answers_have_security_headers(demo: Started, inside: httpx.Client) -> None:
    for answer in (inside.get("/"), inside.get("/config"), httpx.get(f"{demo.address}monitoring")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'self'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/gradio_api/cancel"),
        ("POST", "/gradio_api/reset"),
        ("POST", "/gradio_api/upload"),
        ("POST", "/gradio_api/queue/join"),
        ("GET", "/gradio_api/heartbeat/abc"),
        ("GET", "/gradio_api/app_id"),
        ("GET", "/config"),
    ],
)
def test_before_the_login_only_its_page_is_open(demo: Started, method: str, path: str) -> None:
    with httpx.Client(base_url=demo.address, cookies={"access-token-x": "guess"}, timeout=60) as stranger:
        answer = stranger.request(method, path, **({"json": {}} if method == "POST" else {}))
        assert (answer.status_code, answer.text) == (401, NO_LOGIN)
        assert stranger.get("/").status_code == 200


def test_logging_out_ends_one_session(demo: Started) -> None:
    """Also over plain http, where a browser keeps only one of Gradio's two cookies."""
    sessions = [httpx.Client(base_url=demo.address, timeout=60) for _ in range(2)]
    for session in sessions:
        session.post("/login", data=LOGIN)
        for name in [name for name in session.cookies if "unsecure" not in name]:
            session.cookies.delete(name)
        assert session.get("/config").status_code == 200
    cookies = dict(sessions[0].cookies)
    sessions[0].get("/logout")
    assert httpx.get(f"{demo.address}config", cookies=cookies, timeout=60).status_code == 401
    assert sessions[1].get("/config").status_code == 200
    for session in sessions:
        session.close()


def test_logins_are_delayed_and_limited() -> None:
    async def check(request: Request) -> PlainTextResponse:
        right = (await request.body()) == b"right"
        return PlainTextResponse("", 200 if right else 400)

    client = small(check, login_delay=0.05)
    for _ in range(3):
        assert client.post("/login", content=b"right").status_code == 200
    for _ in range(10):
        before = time.monotonic()
        assert client.post("/login", content=b"wrong").status_code == 400
        assert time.monotonic() - before >= 0.05
    refused = client.post("/login", content=b"right")
    assert (refused.status_code, refused.text) == (429, TOO_MANY_LOGINS)


def test_login_attempts_are_forgotten_after_the_period() -> None:
    attempts = LoginAttempts(at_most=2, period=0.05)
    assert [attempts.begin("1.2.3.4") for _ in range(3)] == [True, True, False]
    assert attempts.begin("1.2.3.5")
    assert [attempts.begin(f"2001:db8::{number}") for number in range(3)] == [True, True, False]
    time.sleep(0.06)
    assert attempts.begin("1.2.3.4")


def test_files_are_deleted_when_their_page_is_closed(demo: Started, inside: httpx.Client) -> None:
    """Of two visitors, one closes the page, whose open connection is Gradio's heartbeat."""

    def explain(content: bytes, session: str) -> set[Path]:
        before = {file for file in demo.folder.rglob("*") if file.is_file()}
        path = inside.post("/gradio_api/upload", files={"files": ("photo.png", content)}).json()[0]
        image = {"path": path, "meta": {"_type": "gradio.FileData"}}
        body = {"data": [image, [OURS[0]], "", "gradcam"], "session_hash": session}
        event = inside.post("/gradio_api/call/explain", json=body).json()["event_id"]
        assert "event: complete" in inside.get(f"/gradio_api/call/explain/{event}").text
        return {file for file in demo.folder.rglob("*") if file.is_file()} - before

    staying = explain(ROSE + b"stays", "stays")
    with inside.stream("GET", "/gradio_api/heartbeat/leaves") as heartbeat:
        lines = heartbeat.iter_lines()  # the connection is closed with it
        next(lines)
        leaving = explain(ROSE + b"leaves", "leaves")
        time.sleep(1)
        assert all(file.exists() for file in leaving)
    assert {file.name for file in leaving} == {"photo.png", "heat-maps.png"}
    for _ in range(300):
        if not any(file.exists() for file in leaving):
            break
        time.sleep(0.1)
    assert not [file for file in leaving if file.exists()]
    assert [file for file in staying if not file.exists()] == []


def test_uploads_that_were_cut_off_are_deleted(demo: Started, inside: httpx.Client) -> None:
    url = httpx.URL(demo.address)
    start = f"POST /gradio_api/upload HTTP/1.1\r\nHost: {url.netloc.decode()}\r\n".encode()
    kind, body = multipart(100_000)
    framing, wire = framings(body)["length"]

    def unfinished() -> list[Path]:
        return [path for path in demo.folder.iterdir() if path.is_file()]

    before = len(unfinished())
    with ExitStack() as connections:
        for _ in range(20):
            connection = connections.enter_context(socket.create_connection((url.host, url.port), timeout=20))
            connection.sendall(start + kind + cookie_line(inside) + framing + b"\r\n" + wire[:60_000])
        assert eventually(lambda: len(unfinished()) - before == 20)
        time.sleep(0.5)
        assert len(unfinished()) - before == 20  # others wait for the rest
    for path in unfinished():
        os.utime(path, (0, 0))
    eventually(lambda: not unfinished())
