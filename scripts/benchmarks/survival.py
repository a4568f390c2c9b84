"""What hostile files, sudden ends and long use do to the project: tried, survived, peak memory, lost.

Every file is read in a child process with a limit of memory and time, so that a fault costs one file.
"""

import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks import kills
from benchmarks.fuzz import AT_ONCE, LARGE_IMAGES

SCRIPTS = Path(__file__).resolve().parents[1]
SECONDS = 5.0
"""Longest time for one file."""
MEMORY_MIB = 600
"""Most memory for one image above that of the idle process."""
_RESULT_MIB = 200
"""An image of 49 million pixels in memory; three may be waiting to be dropped while a fourth is decoded."""
_PATIENCE = 300.0
"""Seconds without a line after which a child is killed; starting one takes long on a busy machine."""


@dataclass
class Survival:
    """The result of one part."""

    title: str
    tried: int = 0
    survived: int = 0
    peak_mib: float = 0.0
    slowest_s: float = 0.0
    faults: list[str] = field(default_factory=list)
    """What was lost, too slow or too large, one line each."""

    @property
    def lost(self) -> int:
        """Tries that did not survive."""
        return self.tried - self.survived

    def add(self, survived: bool, seconds: float = 0.0, peak_mib: float = 0.0, fault: str = "") -> None:
        """Count one try."""
        self.tried += 1
        self.survived += survived
        self.slowest_s, self.peak_mib = max(self.slowest_s, seconds), max(self.peak_mib, peak_mib)
        if fault:
            self.faults.append(fault)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**asdict(self), "lost": self.lost}

    def __str__(self) -> str:
        line = f"{self.title}: {self.tried:,} tried, {self.survived:,} survived, {self.lost:,} lost"
        line += f", peak {self.peak_mib:,.0f} MiB" if self.peak_mib else ""
        line += f", slowest {self.slowest_s:.2f} s" if self.slowest_s else ""
        return "\n".join([line, *(f"    {fault}" for fault in self.faults[:20])])


COUNTS = {
    "images": 10_000,
    "weights": 1_000,
    "kills": 200,
    "checkpoints": 100,
    "api": 500,
    "sessions": 50,
    "soak": 5_000,
    "memory": 500,
    "crowd": 60,
}
SHORT = {
    "images": 50,
    "weights": 45,
    "kills": 2,
    "checkpoints": 10,
    "api": 10,
    "sessions": 2,
    "soak": 6,
    "memory": 6,
    "crowd": 4,
}


PARTS = tuple(COUNTS)


def survival(parts: tuple[str, ...] = PARTS, short: bool = False) -> list[dict[str, Any]]:
    """Hostile images, weights and calls, SIGKILLs, long use, crowds; survival:images and so on run one part."""
    counts = SHORT if short else COUNTS
    works: dict[str, Callable[[int], Survival]] = {
        "images": lambda count: _files("images", LARGE_IMAGES if short else 0, count),
        "weights": lambda count: _files("weights", 0, count),
        "kills": lambda count: kills.kills(Survival(f"{count} SIGKILLs while saving"), count),
        "checkpoints": lambda count: _served("checkpoints.checkpoints", f"{count} torn or flipped checkpoints", count),
        "api": lambda count: _served("api.api_calls", f"{count} hostile calls of the demo", count),
        "sessions": lambda count: _served("visits.sessions", f"{count} sessions on the page", count),
        "soak": lambda count: _served("visits.soak", f"{count} explanations through demo and page", count),
        "memory": lambda count: _served("visits.memory", f"{count} interactions on the page", count),
        "crowd": lambda count: _served("crowd.crowd", f"{count} heavy requests at once", count),
    }
    results = []
    for part in parts:
        start = time.perf_counter()
        result = works[part](counts[part])
        print(f"{result}\n    took {time.perf_counter() - start:.0f} s", flush=True)
        results.append({"part": part, **result.to_dict()})
    return results


def _served(function: str, title: str, count: int) -> Survival:
    """Call a function of a module of the benchmarks; they load the interfaces, which takes seconds."""
    module, _, name = function.partition(".")
    result: Survival = getattr(import_module(f"benchmarks.{module}"), name)(Survival(title), count)
    return result


def _files(kind: str, first: int, count: int) -> Survival:
    """Read hostile files from a number on in child processes, one on each core."""
    result, lock = Survival(f"{count:,} hostile {kind}"), threading.Lock()
    parts = min(os.cpu_count() or 1, 4, max(1, count // 100))
    bounds = [first + part * count // parts for part in range(parts + 1)]

    def read(first: int, stop: int) -> None:
        for line in _trials(kind, first, stop):
            outcome, seconds, peak = line["outcome"], line["seconds"], line["peak_mib"]
            limit = MEMORY_MIB + (3 * _RESULT_MIB if line["kind"].endswith(AT_ONCE) else 0)
            large = kind == "images" and peak > limit
            good = outcome in ("read", "refused") and seconds <= SECONDS and not large
            with lock:
                fault = f"{line['number']}, {line['kind']}: {outcome}, {seconds:.1f} s, {peak:.0f} MiB"
                result.add(good, seconds, peak, "" if good else fault)

    threads = [threading.Thread(target=read, args=part) for part in itertools.pairwise(bounds)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return result


def _trials(kind: str, first: int, stop: int) -> Iterator[dict[str, Any]]:
    """Yield what came of each file; a child that dies or hangs costs its file, and another one goes on."""
    while first < stop:
        command = [sys.executable, "-c", "from benchmarks.trial import main; main()", kind, str(first), str(stop)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        child = subprocess.Popen(
            command, cwd=SCRIPTS, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert child.stdout is not None
        while True:
            watch = threading.Timer(_PATIENCE, child.kill)
            watch.start()
            line = child.stdout.readline()
            watch.cancel()
            if not line.startswith("{"):
                break
            first += 1
            yield json.loads(line)
        code = child.wait()
        if first < stop:
            outcome = f"the reader died with status {code}: {line.strip()[:100]}"
            yield {"number": first, "kind": kind, "outcome": outcome, "seconds": 0.0, "peak_mib": 0.0}
            first += 1
