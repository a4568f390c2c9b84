"""The dashboard as a server with folders of its own, and the peak of a server's memory."""

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch
from benchmarks.browser import dashboard


@contextmanager
def page_served(**environment: str) -> Iterator[tuple[str, psutil.Process, Path]]:
    """Start the dashboard with runs and a cache of its own; yield its address, its process and the cache's folder."""
    with tempfile.TemporaryDirectory() as folder:
        own = {"SWIN_RUNS_ROOT": f"{folder}/runs", "XDG_CACHE_HOME": f"{folder}/cache"}
        with dashboard(**own | environment, OMP_NUM_THREADS=str(torch.get_num_threads())) as (address, process):
            yield address, psutil.Process(process), Path(folder) / "cache"


def resident_mib(server: psutil.Process) -> float:
    """Return the resident memory of a server, without the trainings that it has started."""
    return float(server.memory_info().rss) / 2**20


@contextmanager
def peak_of(server: psutil.Process, result: Any, where: str = "the server") -> Iterator[None]:
    """Record the peak of a server's memory during a block in a `Survival`; print the memory before and after."""
    ended = threading.Event()
    before = resident_mib(server)

    def watch() -> None:
        while not ended.wait(0.1):
            result.peak_mib = max(result.peak_mib, resident_mib(server))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        print(f"    {where}: {before:.0f} MiB before, {resident_mib(server):.0f} MiB after", flush=True)
