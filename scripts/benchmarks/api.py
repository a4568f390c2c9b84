"""Hostile calls of the demo's server."""

import random
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
from benchmarks.demo import BUNDLED, ask, images, served
from benchmarks.fuzz import image_case
from benchmarks.servers import peak_of

ANSWER_SECONDS = 20.0
"""Longest time for the answer to a hostile call."""


def api_calls(result: Any, count: int) -> Any:
    """Send hostile calls to the demo; after each ten a true request must be answered."""
    with tempfile.TemporaryDirectory() as folder, served(Path(folder), list(BUNDLED)) as (address, server):
        photos = images()
        with peak_of(server, result), httpx.Client(base_url=address, timeout=600) as visitor:
            ask(visitor, BUNDLED[:1], next(photos))  # the model is loaded
            for number in range(count):
                start = time.perf_counter()
                fault = _hostile_call(address, number)
                if not fault and number % 10 == 9:
                    ask(visitor, BUNDLED[:1], next(photos))
                result.add(not fault, time.perf_counter() - start, fault=fault)
    return result


def _hostile_call(address: str, number: int) -> str:
    """Send one call; return what is wrong with the answer, or an empty text."""
    draw = random.Random(number)
    api = "/gradio_api"
    routes = [
        "/",
        "/config",
        "/login",
        f"{api}/upload",
        f"{api}/call/explain",
        f"{api}/queue/join",
        f"{api}/run/explain",
    ]
    routes += [
        f"{api}/file=/etc/passwd",
        f"{api}/file=../../etc/passwd",
        f"{api}/file=http://127.0.0.1:1/",
        "/%2e%2e/x",
    ]
    routes += [f"{api}/call/{'x' * 5000}", f"{api}/info", f"{api}/cancel", f"{api}/reset", "/\0", f"{api}/heartbeat/x"]
    texts = [
        "",
        "{",
        "[" * 50_000,
        '{"data": null}',
        '{"data": [' + "1," * 50_000 + "1]}",
        '{"data": ["a", [], "", ""]}',
    ]
    texts += ['{"data": [{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}, ["x"], "", ""]}', "\0" * 1000]
    method, route = (
        draw.choice(("GET", "POST", "POST", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")),
        draw.choice(routes),
    )
    headers = {
        "Content-Type": draw.choice(("application/json", "text/plain", "multipart/form-data", "x" * 100)),
        "Origin": draw.choice((address, "http://elsewhere.example")),
    }
    try:
        with httpx.Client(base_url=address, timeout=ANSWER_SECONDS) as caller:
            if draw.random() < 0.4:
                kind, content = image_case(100 + number)
                name = draw.choice(("a.png", "../../a.png", "a" * 300, kind))
                answer = caller.post(f"{api}/upload", files={"files": (name, content)})
            else:
                with caller.stream(
                    method, route.replace("\0", "%00"), content=draw.choice(texts), headers=headers
                ) as answer:
                    next(answer.iter_bytes(), b"")  # an endless stream of events is left
    except httpx.TimeoutException:
        return f"call {number}, {method} {route[:60]}: no answer for {ANSWER_SECONDS:.0f} s"
    except (httpx.HTTPError, httpx.InvalidURL):  # the connection was closed
        return ""
    if answer.status_code >= 500:
        return f"call {number}, {method} {route[:60]}: status {answer.status_code}"
    return ""
