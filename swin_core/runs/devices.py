"""What a run can train on, and what a run takes of it; without torch, which would need seconds to say so."""

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

__all__ = ["Device", "Use", "found", "use_of"]

_APART = 0.5
"""Seconds between two readings of a clock of the CPU, at least: it ticks in hundredths of a second."""


@dataclass(frozen=True)
class Device:
    """The CPU or a GPU, as it is now."""

    name: str
    """What torch calls it: "cpu", "cuda:0"."""
    title: str
    """What a person calls it."""
    memory_free: int
    """Bytes."""
    memory_total: int
    """Bytes."""
    use: float | None
    """Share of its time that it works, 0 to 1; None if it does not say."""

    def __str__(self) -> str:
        return f"{self.title}, {self.memory_free / 1e9:.1f} of {self.memory_total / 1e9:.1f} GB free"


@dataclass(frozen=True)
class Use:
    """What the programs of a run take together."""

    cores: float
    """Cores of the CPU that they keep busy; of two cores at most 2."""
    memory: int
    """Bytes that are theirs alone: what they share with others, such as libraries, is not counted."""


def found() -> list[Device]:
    """The devices of this machine: the CPU, then each GPU or MIG instance that CUDA shows to this program.

    Where there is no driver, or it does not answer, there is only the CPU.
    """
    return [_cpu(), *_gpus()]


def use_of(run: Run) -> Use | None:
    """What a run takes of the CPU and of memory, since the last call; at the first since its programs began.

    None if no program of it lives on this machine.
    """
    programs = family(run.launch, run.status) if run.alive else []
    if not programs:
        _spent.pop(run.folder, None)
        return None
    memory, seconds = 0, {}
    for program in programs:
        with suppress(psutil.Error):  # it ended meanwhile
            times = program.cpu_times()
            seconds[program] = times.user + times.system
            memory += _own_memory(program)
    return Use(_cores(run.folder, seconds), memory)


# What each run had spent when it was last looked at: when, the seconds of each program, and the cores of that time.
_spent: dict[Path, tuple[float, dict[psutil.Process, float], float]] = {}


def _cores(folder: Path, seconds: dict[psutil.Process, float]) -> float:
    now = time.monotonic()
    if folder in _spent:
        since, before, cores = _spent[folder]
        if now - since < _APART:
            return cores
    else:
        begun = min((program.create_time() for program in seconds), default=time.time())
        since, before = now - (time.time() - begun), {}
    spent = sum(later - before.get(program, 0.0) for program, later in seconds.items())
    cores = spent / max(now - since, 0.01)
    _spent[folder] = now, seconds, cores
    return cores


def _own_memory(program: psutil.Process) -> int:
    try:
        return int(program.memory_full_info().uss)
    except psutil.AccessDenied:
        return int(program.memory_info().rss)


_lock = threading.Lock()
# When the CPU was looked at, its clocks then, and its use in the time before.
_idle: tuple[float, Any, float | None] = time.monotonic(), psutil.cpu_times(), None


def _cpu() -> Device:
    memory = psutil.virtual_memory()
    count = _core_count()
    title = f"CPU, {count} cores" if count > 1 else "CPU, 1 core"
    return Device("cpu", title, int(memory.available), int(memory.total), _cpu_use())


def _core_count() -> int:
    """The cores that this program may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return psutil.cpu_count() or 1


def _cpu_use() -> float | None:
    """Share of all cores' time that was not idle since the last call.

    psutil's own reading starts anew in each thread, and a page is drawn in another thread each time.
    """
    global _idle
    with _lock:
        now, times = time.monotonic(), psutil.cpu_times()
        since, before, use = _idle
        if now - since < _APART:
            return use
        idle = times.idle - before.idle + getattr(times, "iowait", 0.0) - getattr(before, "iowait", 0.0)
        idle /= (now - since) * (psutil.cpu_count() or 1)
        _idle = now, times, min(max(1 - idle, 0.0), 1.0)
        return _idle[2]


def _gpus() -> list[Device]:
    devices = []
    for index, card in enumerate(gpus.visible()):
        import pynvml

        with suppress(pynvml.NVMLError):  # a card that fell off the bus keeps its number
            devices.append(_gpu(pynvml, f"cuda:{index}", card))
    return devices


def _gpu(pynvml: Any, name: str, card: Any) -> Device:
    title = str(pynvml.nvmlDeviceGetName(card))
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(card)
        free, total = int(memory.free), int(memory.total)
    except pynvml.NVMLError_NotSupported:  # it has none of its own and shares the CPU's
        free, total = (int(value) for value in (psutil.virtual_memory().available, psutil.virtual_memory().total))
    try:
        use = pynvml.nvmlDeviceGetUtilizationRates(card).gpu / 100
    except pynvml.NVMLError:
        use = None
    return Device(name, title, free, total, use)
