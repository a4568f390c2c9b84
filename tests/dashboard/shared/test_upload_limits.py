"""The limits on uploads, before Streamlit's own routes and store of uploads."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.testclient import TestClient
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.web.server.starlette import starlette_routes

from dashboard.shared import upload_limits
from dashboard.shared.upload_limits import SESSION_FULL, TOTAL_FULL, UploadLimits

HEAD = b'--cut\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
KIND = {"Content-Type": "multipart/form-data; boundary=cut"}


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> MemoryUploadedFileManager:
    store = MemoryUploadedFileManager("/_stcore/upload_file")
    runtime = SimpleNamespace(uploaded_file_mgr=store)
    monkeypatch.setattr(upload_limits, "Runtime", SimpleNamespace(exists=lambda: True, instance=lambda: runtime))
    monkeypatch.setattr(starlette_routes, "is_xsrf_enabled", lambda: False)
    return store


@pytest.fixture
def client(store: MemoryUploadedFileManager) -> TestClient:
    """Streamlit's routes with room for two files of 4,000 bytes in a session, and for five in total."""
    runtime: Any = SimpleNamespace(is_active_session=lambda session: True)
    limits = Middleware(UploadLimits, per_session=10_000, total=22_000)
    routes = starlette_routes.create_upload_routes(runtime, store, "")
    return TestClient(Starlette(routes=routes, middleware=[limits]))


def put(client: TestClient, session: str, file: str, chunked: bool = False, size: int = 4000) -> tuple[int, str]:
    body = HEAD + bytes(size) + b"\r\n--cut--\r\n"

    def parts() -> Iterator[bytes]:
        yield body[:2000]
        yield body[2000:]

    content: Any = parts() if chunked else body
    answer = client.put(f"/_stcore/upload_file/{session}/{file}", content=content, headers=KIND)
    return answer.status_code, answer.text


@pytest.mark.parametrize("chunked", [False, True])
def test_a_session_has_a_limit_until_it_removes_a_file_or_ends(
    client: TestClient, store: MemoryUploadedFileManager, chunked: bool
) -> None:
    assert [put(client, "a", name, chunked)[0] for name in "12"] == [204, 204]
    assert put(client, "a", "3", chunked) == (413, SESSION_FULL)
    assert put(client, "b", "1", chunked)[0] == 204
    assert client.delete("/_stcore/upload_file/a/1").status_code == 204
    assert put(client, "a", "3", chunked)[0] == 204
    assert put(client, "a", "4", chunked) == (413, SESSION_FULL)
    store.remove_session_files("a")
    assert put(client, "a", "4", chunked)[0] == 204
    assert {name: set(files) for name, files in store.file_storage.items()} == {"a": {"4"}, "b": {"1"}}


def test_all_uploads_together_have_a_limit(client: TestClient, store: MemoryUploadedFileManager) -> None:
    assert [put(client, session, name)[0] for session in "ab" for name in "12"] == [204] * 4
    assert put(client, "c", "1")[0] == 204
    assert put(client, "c", "2") == (413, TOTAL_FULL)
    store.remove_session_files("a")
    assert put(client, "c", "2")[0] == 204


def test_uploads_that_were_cut_off_or_refused_are_not_counted(client: TestClient) -> None:
    for name in "123456":
        assert client.put(f"/_stcore/upload_file/a/{name}", content=b"x" * 4000, headers=KIND).status_code == 400
    assert put(client, "a", "1")[0] == 204


@pytest.mark.parametrize("headers", [[(b"content-length", b"16000")], []])
def test_a_refused_upload_is_read_before_the_answer(client: TestClient, headers: list[tuple[bytes, bytes]]) -> None:
    """Else a browser, which is still sending, reports a broken connection."""
    bodies = [HEAD + bytes(4000), bytes(4000), bytes(4000), bytes(4000)]
    parts = [{"type": "http.request", "body": body, "more_body": body is not bodies[-1]} for body in bodies]
    sent = []

    async def receive() -> Any:
        return parts.pop(0)

    async def send(message: Any) -> None:
        sent.append((message.get("status"), len(parts)))

    scope = {"type": "http", "method": "PUT", "path": "/_stcore/upload_file/a/1", "query_string": b""}
    headers = [*headers, (b"content-type", KIND["Content-Type"].encode())]
    asyncio.run(client.app({**scope, "headers": headers}, receive, send))
    assert sent == [(413, 0), (None, 0)]


def test_other_requests_pass(client: TestClient) -> None:
    assert client.options("/_stcore/upload_file/a/1").status_code == 204
