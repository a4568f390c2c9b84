"""The demo's server: the time of a request over the time of the computation, and the growth of memory."""

import io
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio_client
import httpx
import numpy as np
import psutil
import torch
from PIL import Image

import swin_core
from swin_core.comparisons.compare import compare
from swin_core.figures.files import encode

ROOT = Path(__file__).resolve().parents[2]
BUNDLED = ("swin_micro_flowers", "swin_micro_cifar100")
BUILT = ("swin_tiny", "swin_micro")
"""Variants with random weights, so that there are four models with the bundled ones."""

FEW, MANY = 200, 2000
FULL_ROUNDS = 15


def demo(rounds: int) -> list[dict[str, Any]]:
    """A request on a loaded model, over the engine's own time; memory after 2,000 requests over that after 200.

    Each request sends a new image. The engine's time is that of the same functions without a server: read the image,
    explain it, and draw the grid of the answer. A request is an upload, a call and the download of the grid over one
    connection, as in a browser; gradio_client, which opens a connection for each step and polls every 50 ms, is
    measured as well. With fewer rounds than 15, the memory test makes fewer requests in proportion.
    """
    with tempfile.TemporaryDirectory() as folder:
        names = [*BUNDLED, *built(Path(folder) / "runs")]
        with served(Path(folder), names) as (address, server), httpx.Client(base_url=address, timeout=600) as browser:
            results = [_request(browser, name, Path(folder), rounds) for name in names[:3]]
            results.append(_memory(browser, server, names, rounds))
    return results


def built(runs: Path) -> list[str]:
    """Write runs with models of random weights, and return their names."""
    for name in BUILT:
        folder = runs / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        torch.manual_seed(0)
        model = swin_core.build(name, num_classes=100, image_size=224 if name == "swin_tiny" else 64)
        described = {"labels": [f"class {k}" for k in range(100)], "mean": [0.5] * 3, "std": [0.5] * 3}
        swin_core.save_weights(model, folder / "model.safetensors", described)
    return list(BUILT)


@contextmanager
def served(folder: Path, names: list[str]) -> Iterator[tuple[str, psutil.Process]]:
    """Start the demo by the documented command, and yield its address and process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    threads = str(torch.get_num_threads())
    own = {"GRADIO_SERVER_PORT": str(port), "SWIN_RUNS_ROOT": str(folder / "runs"), "OMP_NUM_THREADS": threads}
    command = [sys.executable, "dashboard/gradio_demo.py", "--models", *names]
    started = subprocess.Popen(command, cwd=ROOT, env=os.environ | own, stdout=subprocess.PIPE, text=True)
    try:
        assert started.stdout is not None
        if not started.stdout.readline():
            raise SystemExit("benchmark.py: the demo did not start; run it by hand to see why.")
        yield f"http://127.0.0.1:{port}", psutil.Process(started.pid)
    finally:
        started.terminate()
        started.wait()


def images() -> Iterator[bytes]:
    """Yield different JPEG photos of 480 pixels, without end."""
    draw = np.random.default_rng(0)
    samples = [Image.open(file).convert("RGB") for file in sorted((ROOT / "assets" / "samples").glob("*.jpg"))]
    for number in range(10**9):
        turned = samples[number % len(samples)].resize((480, 480)).rotate(float(draw.uniform(-20, 20)))
        stream = io.BytesIO()
        turned.save(stream, "JPEG", quality=90)
        yield stream.getvalue()


def ask(browser: httpx.Client, names: Sequence[str], content: bytes, method: str = "", session: str = "one") -> bytes:
    """Return the grid of the demo's answer, as PNG; `method` is empty for the best one of each model.

    Requests at the same time need a `session` each, as the tabs of a browser have.
    """
    api = "/gradio_api"
    path = browser.post(f"{api}/upload", files={"files": ("photo.jpg", content)}).json()[0]
    picture = {"path": path, "orig_name": "photo.jpg", "meta": {"_type": "gradio.FileData"}}
    request = {"data": [picture, list(names), "", method], "session_hash": session}
    call = browser.post(f"{api}/call/explain", json=request)
    events = browser.get(f"{api}/call/explain/{call.json()['event_id']}").text
    # Heartbeat events precede a slow answer.
    event, _, data = events.rpartition("event: ")[2].partition("\ndata: ")
    if event != "complete":
        raise SystemExit(f"benchmark.py: the demo could not answer: {data}")
    return browser.get(f"{api}/file={json.loads(data)[1]['path']}").content


def _request(browser: httpx.Client, name: str, folder: Path, rounds: int) -> dict[str, Any]:
    """Time the server and the engine in turns, each time on a new image."""
    source = name if name in BUNDLED else folder / "runs" / name
    classifier = swin_core.load(source)

    def engine(content: bytes) -> object:
        return encode(compare([("photo.jpg", swin_core.read_image(content))], [classifier]), "png")

    def explained(content: bytes) -> object:
        return swin_core.explain(classifier, swin_core.read_image(content))

    client = gradio_client.Client(str(browser.base_url), verbose=False)

    def program(content: bytes) -> object:
        (folder / "photo.jpg").write_bytes(content)
        file = gradio_client.handle_file(str(folder / "photo.jpg"))
        return client.predict(file, models=[name], api_name="/explain")

    calls: dict[str, Callable[[bytes], object]] = {
        "demo": lambda content: ask(browser, [name], content),
        "engine": engine,
        "engine without drawing": explained,
        "demo through gradio_client": program,
    }
    photos = images()
    seconds: dict[str, list[float]] = {kind: [] for kind in calls}
    for number in range(rounds + 2):
        for kind, call in calls.items():
            content = next(photos)
            start = time.perf_counter()
            call(content)
            if number >= 2:
                seconds[kind].append(time.perf_counter() - start)
    medians = {kind: 1000 * statistics.median(values) for kind, values in seconds.items()}
    ratio = medians["demo"] / medians["engine"]
    print(f"a request on {name}: {ratio:.2f} times the engine's own time")
    for kind, median in medians.items():
        print(f"    {kind:32s} median {median:8.1f} ms")
    return {"title": f"demo, {name}", "median_ms": medians, "ratio": ratio, "rounds": rounds}


def _memory(browser: httpx.Client, server: psutil.Process, names: list[str], rounds: int) -> dict[str, Any]:
    """Measure the server's resident memory after requests on all models in turn, and after ten times as many."""
    many = MANY if rounds >= FULL_ROUNDS else max(len(names), MANY * rounds // FULL_ROUNDS)
    few = max(1, many * FEW // MANY)
    photos = images()
    resident = {}
    for number in range(1, many + 1):
        ask(browser, [names[number % len(names)]], next(photos))
        if number in (few, many):
            resident[number] = server.memory_info().rss / 2**20
    ratio = resident[many] / resident[few]
    print(f"memory after {many} requests on {len(names)} models: {ratio:.2f} times that after {few}")
    print(f"    after {few} {resident[few]:.0f} MiB, after {many} {resident[many]:.0f} MiB")
    return {"title": "demo, memory", "resident_mib": resident, "ratio": ratio, "requests": many}
