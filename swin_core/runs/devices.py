"""The devices of this machine and the resources a run uses; without torch, whose import takes seconds."""

import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from swin_core.runs import Run, gpus
from swin_core.runs.liveness import family

_INTERVAL = 0.5
"""Least seconds between two readings of CPU times, which advance in hundredths of a second."""


@dataclass(frozen=True)
class Device:
    """The CPU or a GPU, with its current load."""

    name: str
    """Torch's name: "cpu", "cuda:0"."""
    title: str
    """Name to show."""
    memory_free: int
    """Bytes."""
    memory_total: int
    """Bytes."""
    use: float | None
    """Utilisation, 0 to 1; None if it is unknown."""

    def __str__(self) -> str:
        return f"{self.title}, {self.memory_free / 1e9:.1f} of {self.memory_total / 1e9:.1f} GB free"


@dataclass(frozen=True)
class RunUsage:
    """CPU and memory that the processes of a run use together."""

    cores: float
    """CPU cores kept busy."""
    memory: int
    """Bytes of private memory (USS); memory shared with other processes is not counted."""


def list_devices() -> list[Device]:
    """Return the CPU, then each GPU or MIG instance that CUDA shows to this process; no GPU without a driver."""
    devices = [_cpu()]
    for index, card in enumerate(gpus.visible()):
        import pynvml

        with suppress(pynvml.NVMLError):  # a card that fell off the bus keeps its number
            devices.append(_gpu(pynvml, f"cuda:{index}", card))
    return devices


def usage_of(run: Run) -> RunUsage | None:
    """Return a run's CPU use since the last call (at first: since it started) and memory; None if it has ended."""
    programs = family(run.launch, run.status) if run.alive else []
    if not programs:
        _readings.pop(run.folder, None)
        return None
    memory, seconds = 0, {}
    for program in programs:
        with suppress(psutil.Error):  # it ended meanwhile
            times = program.cpu_times()
            seconds[program] = times.user + times.system
            try:
                memory += program.memory_full_info().uss
            except psutil.AccessDenied:
                memory += program.memory_info().rss
    return RunUsage(_cores(run.folder, seconds), memory)


# The last reading of each run: time, CPU seconds of each process, and cores used before that time.
_readings: dict[Path, tuple[float, dict[psutil.Process, float], float]] = {}


def _cores(folder: Path, seconds: dict[psutil.Process, float]) -> float:
    now = time.monotonic()
    if folder in _readings:
        since, before, cores = _readings[folder]
        if now - since < _INTERVAL:
            return cores
    else:
        created = min((program.create_time() for program in seconds), default=time.time())
        since, before = now - (time.time() - created), {}
    spent = sum(later - before.get(program, 0.0) for program, later in seconds.items())
    cores = spent / max(now - since, 0.01)
    _readings[folder] = now, seconds, cores
    return cores


_lock = threading.Lock()
# The last reading of the CPU: time, its times, and its use before that time.
_cpu_reading: tuple[float, Any, float | None] = time.monotonic(), psutil.cpu_times(), None


def _cpu() -> Device:
    memory = psutil.virtual_memory()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else psutil.cpu_count() or 1
    title = f"CPU, {cores} cores" if cores > 1 else "CPU, 1 core"
    return Device("cpu", title, int(memory.available), int(memory.total), _cpu_use())


def _cpu_use() -> float | None:
    """Return the share of all cores' time that was not idle since the last call.

    `psutil.cpu_percent` keeps its state per thread, and Streamlit draws a page in a new thread each time.
    """
    global _cpu_reading
    with _lock:
        now, times = time.monotonic(), psutil.cpu_times()
        since, before, use = _cpu_reading
        if now - since < _INTERVAL:
            return use
        idle = times.idle - before.idle + getattr(times, "iowait", 0.0) - getattr(before, "iowait", 0.0)
        idle /= (now - since) * (psutil.cpu_count() or 1)
        use = min(max(1 - idle, 0.0), 1.0)
        _cpu_reading = now, times, use
        return use


def _gpu(pynvml: Any, name: str, card: Any) -> Device:
    title = str(pynvml.nvmlDeviceGetName(card))
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(card)
        free, total = int(memory.free), int(memory.total)
    except pynvml.NVMLError_NotSupported:  # an integrated GPU shares the CPU's memory
        free, total = (int(value) for value in (psutil.virtual_memory().available, psutil.virtual_memory().total))
    try:
        use = pynvml.nvmlDeviceGetUtilizationRates(card).gpu / 100
    except pynvml.NVMLError:
        use = None
    return Device(name, title, free, total, use)
