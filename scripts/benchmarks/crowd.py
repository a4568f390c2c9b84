"""Sixty heavy requests at once to the demo, and the wait of a light visitor beside a heavy one, on demo and page."""

import io
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count, cycle
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from benchmarks.demo import BUNDLED, ask, built, images, served
from benchmarks.servers import page_served, peak_of
from benchmarks.visitor import Visitor
from benchmarks.visits import share
from PIL import Image

from swin_core.attribution.methods import METHODS

SIDE = 7000
"""Side in pixels of a heavy photo, just below the limit of the readers."""
MEMORY_MIB = 2048.0
"""Most memory of the demo's server."""
WAITS = {"demo": 3.0, "page": 2.0}
"""Longest wait of a light visitor in seconds, of which one in twenty may be longer."""
LIGHT = 40
"""Requests of the light visitor."""
AT_ONCE = 8
"""Requests that one heavy visitor of the demo keeps under way, and photos of one on the page."""
FAST = [method.title for method in METHODS.values() if method.cost == "one pass"]


def crowd(result: Any, number: int) -> Any:
    """Send heavy requests at once: photos of 49 million pixels for four models; then time a light visitor's requests.

    The light visitor explains photos of 480 pixels by one model. The heavy one beside it keeps eight heavy requests
    under way in the demo; on the page, it changes the method of eight heavy photos and four models without a pause.
    """
    requests = LIGHT if number >= AT_ONCE else number
    _demo(result, number, requests)
    _page(result, requests)
    return result


def _demo(result: Any, number: int, requests: int) -> None:
    heavy, light = _HeavyPhotos(), images()
    with tempfile.TemporaryDirectory() as folder:
        names = [*BUNDLED, *built(Path(folder) / "runs")]
        requests_sent = count()
        with served(Path(folder), names) as (address, server), peak_of(server, result, "the demo"):

            def visitor(number: int) -> httpx.Client:
                """Return a client whose requests come from an address of its own, as behind a proxy."""
                headers = {"X-Forwarded-For": f"10.0.0.{number}"}
                return httpx.Client(base_url=address, timeout=600, headers=headers)

            def ask_heavily(number: int) -> float:
                start = time.perf_counter()
                with visitor(number) as browser:
                    ask(browser, names, heavy(), session=f"heavy{next(requests_sent)}")
                return time.perf_counter() - start

            with visitor(1) as browser:
                for name in names:  # the models are loaded
                    ask(browser, [name], next(light))
            with ThreadPoolExecutor(number) as pool:
                for seconds in pool.map(ask_heavily, range(10, 10 + number)):
                    result.add(True, seconds)
            if result.peak_mib > MEMORY_MIB:
                result.faults.append(f"the demo's peak of {result.peak_mib:.0f} MiB is above {MEMORY_MIB:.0f}")
            with visitor(3) as browser, _meanwhile(lambda: ask_heavily(2), AT_ONCE):
                waits = [_seconds(lambda: ask(browser, BUNDLED[:1], next(light))) for _ in range(requests)]
    _report(result, "demo", waits)


def _page(result: Any, requests: int) -> None:
    heavy, light = _HeavyPhotos(), images()
    waits = []
    with tempfile.TemporaryDirectory() as folder:
        names = [*BUNDLED, *built(Path(folder) / "runs")]
        with (
            page_served(SWIN_RUNS_ROOT=f"{folder}/runs") as (address, server, cache),
            peak_of(server, result, "the page"),
            Visitor(address) as busy,
            Visitor(address) as tab,
        ):
            photos = [share(cache, heavy()) for _ in range(AT_ONCE)]
            busy.open("", {"shared": photos, "sample": [""], "model": names, "method": FAST[:1]})
            tab.open("", {"shared": [share(cache, next(light))], "sample": [""], "model": BUNDLED[:1]})
            faults = [busy.fault, tab.fault]
            methods, own_methods = cycle(FAST), cycle(FAST)

            def change() -> None:
                busy.choose("method", next(methods))
                faults.append(busy.fault)

            with _meanwhile(change, 1):
                for _ in range(requests):
                    tab.choose("method", next(own_methods))
                    waits.append(tab.seconds)
                    faults.append(tab.fault)
    for fault in filter(None, faults):
        result.add(False, fault=fault)
    _report(result, "page", waits)


class _HeavyPhotos:
    """Different JPEG photos of 49 million pixels; each call returns another one."""

    def __init__(self) -> None:
        stream = io.BytesIO()
        Image.open(io.BytesIO(next(images()))).resize((SIDE, SIDE)).save(stream, "JPEG", quality=80)
        self._content, self._numbers = stream.getvalue(), count()

    def __call__(self) -> bytes:
        return self._content + next(self._numbers).to_bytes(4)  # readers ignore what follows the image


@contextmanager
def _meanwhile(work: Callable[[], object], threads: int) -> Iterator[None]:
    """Repeat some work in threads during a block; raise its error after the block."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.is_set():
            work()

    with ThreadPoolExecutor(threads) as pool:
        running = [pool.submit(repeat) for _ in range(threads)]
        try:
            yield
        finally:
            ended.set()
        for each in running:
            each.result()


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _report(result: Any, where: str, waits: list[float]) -> None:
    """Count the requests of the light visitor, and print their times."""
    for seconds in waits:
        result.add(True, seconds)
    median, late = np.percentile(waits, (50, 95))
    print(f"    a light visitor of the {where} beside a heavy one: median {median:.2f} s, p95 {late:.2f} s", flush=True)
    if late > WAITS[where]:
        result.faults.append(f"the light visitor of the {where} waits for {late:.2f} s, not {WAITS[where]:.0f}")
