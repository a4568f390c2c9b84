"""The servers under attack and long use: hostile calls of the demo, sessions on the page, a soak through both."""

import random
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode

import httpx
import psutil
import torch
from benchmarks.browser import dashboard
from benchmarks.demo import BUNDLED, ROOT, ask, images, served
from benchmarks.fuzz import image_case
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import connect
from websockets.typing import Origin

ANSWER_SECONDS = 20.0
"""Longest time for the answer to a hostile call."""
SCRIPT_SECONDS = 300.0
"""Longest time for one run of the page."""


class Counts(Protocol):
    """What counts the tries: a `Survival`."""

    peak_mib: float

    def add(self, survived: bool, seconds: float = 0.0, peak_mib: float = 0.0, fault: str = "") -> None:
        """Count one try."""


def api_calls(result: Any, count: int) -> Any:
    """Send hostile calls to the demo; after each ten a true request must be answered."""
    with tempfile.TemporaryDirectory() as folder, served(Path(folder), list(BUNDLED)) as (address, server):
        photos = images()
        with _peak_of(server, result), httpx.Client(base_url=address, timeout=600) as visitor:
            ask(visitor, BUNDLED[0], next(photos))  # the model is loaded
            for number in range(count):
                start = time.perf_counter()
                fault = _hostile_call(address, number)
                if not fault and number % 10 == 9:
                    ask(visitor, BUNDLED[0], next(photos))
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


def sessions(result: Any, count: int) -> Any:
    """Open sessions on the Compare page, eight at a time, and wait until each has drawn it."""
    with _page() as (address, server), _peak_of(server, result), ThreadPoolExecutor(8) as pool:
        for fault, seconds in pool.map(lambda _: _session(address, [{}]), range(count)):
            result.add(not fault, seconds, fault=fault)
    return result


def soak(result: Any, count: int) -> Any:
    """Explain different images through the demo, and samples by different methods through the page, half of each."""
    names = list(BUNDLED)
    photos = images()
    with (
        tempfile.TemporaryDirectory() as folder,
        served(Path(folder), names) as (address, server),
        _peak_of(server, result),
        httpx.Client(base_url=address, timeout=600) as visitor,
    ):
        for number in range(count // 2):
            start = time.perf_counter()
            ask(visitor, names[number % len(names)], next(photos))
            result.add(True, time.perf_counter() - start)
    methods = ("gradcam", "gradcampp", "xgradcam", "layercam", "hirescam", "eigencam", "rollout", "saliency")
    samples = sorted(file.stem for file in (ROOT / "assets" / "samples").glob("*.jpg"))
    with _page() as (address, server), _peak_of(server, result):
        left, number = count - count // 2, 0
        while left > 0:
            part = min(left, 25)
            queries = [
                {"method": methods[(number + k) % len(methods)], "samples": samples[(number + k) % len(samples)]}
                for k in range(part)
            ]
            fault, seconds = _session(address, queries)
            for _ in range(part):
                result.add(not fault, seconds / part, fault=fault)
            left, number = left - part, number + part
    return result


def _session(address: str, queries: list[dict[str, str]]) -> tuple[str, float]:
    """Run the page once for each query of one session; return what went wrong, or an empty text, and the seconds."""
    start = time.perf_counter()
    try:
        with connect(
            address.replace("http", "ws") + "/_stcore/stream", max_size=None, origin=Origin(address)
        ) as socket_:
            for query in queries:
                request = BackMsg()
                request.rerun_script.query_string = urlencode(query)
                socket_.send(request.SerializeToString())
                until = time.monotonic() + SCRIPT_SECONDS
                while True:
                    message = ForwardMsg()
                    content = socket_.recv(timeout=until - time.monotonic())
                    message.ParseFromString(content if isinstance(content, bytes) else content.encode())
                    if message.delta.new_element.HasField("exception"):
                        return f"the page shows {message.delta.new_element.exception.message[:100]}", 0.0
                    if message.WhichOneof("type") == "script_finished":
                        break
    except (OSError, TimeoutError) as error:
        return f"{type(error).__name__}: {error}", 0.0
    return "", time.perf_counter() - start


@contextmanager
def _page() -> Iterator[tuple[str, psutil.Process]]:
    """Start the dashboard with runs of its own; yield its address and process."""
    with tempfile.TemporaryDirectory() as runs:
        environment = {"SWIN_RUNS_ROOT": runs, "OMP_NUM_THREADS": str(torch.get_num_threads())}
        with dashboard(**environment) as (address, process):
            yield address, psutil.Process(process)


@contextmanager
def _peak_of(server: psutil.Process, result: Counts) -> Iterator[None]:
    """Record the peak of a server's resident memory in a block, in a result; print the memory before and after."""
    ended = threading.Event()
    before = server.memory_info().rss / 2**20

    def watch() -> None:
        while not ended.wait(0.2):
            result.peak_mib = max(result.peak_mib, server.memory_info().rss / 2**20)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        print(f"    memory {before:.0f} MiB before, {server.memory_info().rss / 2**20:.0f} MiB after", flush=True)
