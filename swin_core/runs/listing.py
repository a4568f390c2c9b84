"""Runs as their folders say that they are."""

import json
import math
import os
import re
import time
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from swin_core.errors import RunError
from swin_core.runs.files import (
    StrPath,
    last_lines,
    open_plain,
    read_config,
    read_launch,
    read_notes,
    read_status,
    runs_root,
    stop_requested,
)
from swin_core.runs.liveness import is_here, living
from swin_core.runs.metrics import EpochMetrics, StepMetrics, read_rows

__all__ = ["STATES", "Checkpoint", "Run", "find", "list_runs"]

STATES = ("starting", "running", "stopping", "stopped", "finished", "failed", "died")
"""What a run can be. One that died says that it runs, but none of its programs lives."""

_UNDER_WAY, _OVER = ("starting", "running"), ("stopped", "finished", "failed")
_ELSEWHERE = 30.0
"""Seconds after its last sign of life for which a run on another machine counts as alive."""
_SILENT = 60.0
"""Seconds without a sign of life that are worth a word about a run whose programs live."""
_SPAWNING = 60.0
"""Seconds that a launcher has from its start to its first word."""
_TIME = re.compile(r"(\d{8}-\d{6})-(.+)")


@dataclass(frozen=True)
class Checkpoint:
    """Weights that a run saved."""

    file: Path
    model: str
    """What `swin_core.load` calls them: the run's name, or `<run>/checkpoints/<file>`."""
    epoch: int | None
    """Epochs of training behind them, if that can be told."""
    size: int
    """Bytes."""
    saved: float
    """Unix time in seconds."""

    @property
    def age(self) -> float:
        """Seconds since they were saved."""
        return max(0.0, time.time() - self.saved)


@dataclass(frozen=True)
class Run:
    """A run as its folder said when it was read; figures, log, notes and checkpoints are read when asked for."""

    folder: Path
    config: dict[str, Any] = field(repr=False)
    launch: dict[str, Any] = field(repr=False)
    status: dict[str, Any] = field(repr=False)
    state: str
    """One of `STATES`."""
    reason: str
    """Why it is in that state, if there is more to say; one line."""
    alive: bool
    """Whether a program of it lives, as far as that can be told from this machine."""

    @property
    def name(self) -> str:
        """The folder's name, by which `find` knows the run."""
        return self.folder.name

    @property
    def title(self) -> str:
        """The name without the time in front."""
        found = _TIME.fullmatch(self.name)
        return found.group(2) if found else self.name

    def metrics(self) -> list[EpochMetrics]:
        """Metrics of each epoch; the rows are shared and must not be changed."""
        return read_rows(self.folder / "metrics.jsonl", "epoch")

    def steps(self) -> list[StepMetrics]:
        """Metrics within the epochs; the rows are shared and must not be changed."""
        return read_rows(self.folder / "steps.jsonl", "step")

    def log_tail(self, lines: int = 60) -> list[str]:
        """The last lines of the log."""
        return last_lines(self.folder / "log.txt", lines)

    @property
    def notes(self) -> str:
        """What was noted about it."""
        return read_notes(self.folder)

    def checkpoints(self) -> list[Checkpoint]:
        """The weights that can be loaded, newest first."""
        kept = self.folder / "checkpoints"
        files = {self.folder / "model.safetensors": self.name}
        if kept.is_dir() and not kept.is_symlink():
            found = sorted(kept.glob("[!.]*.safetensors"), reverse=True)
            files |= {file: f"{self.name}/checkpoints/{file.name}" for file in found}
        entries = (_checkpoint(file, model) for file, model in files.items())
        return sorted((entry for entry in entries if entry), key=lambda entry: entry.saved, reverse=True)


def list_runs(root: StrPath | None = None) -> list[Run]:
    """All runs, newest first; a folder without settings is none.

    Args:
        root: as for `runs_root`; one that does not exist holds no runs.

    Raises:
        RunError: `root` cannot be read.
    """
    place = runs_root(root).absolute()
    try:
        names = os.listdir(place)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunError(f"the runs in {str(place)!r} cannot be read: {error.strerror}; choose another.") from error
    folders = [place / name for name in names if _is_run(place, name)]
    return [_read(folder) for folder in sorted(folders, key=_age, reverse=True)]


def find(name: str, root: StrPath | None = None) -> Run:
    """The run of a name.

    Args:
        name: the name of its folder.
        root: as for `runs_root`.

    Raises:
        RunError: there is no such run, or the name leads to another place.
    """
    place = runs_root(root).absolute()
    if not _is_run(place, name):
        raise RunError(f"there is no run {str(name)[:80]!r} in {str(place)!r}; swinlens runs lists them.")
    return _read(place / name)


def _is_run(place: Path, name: str) -> bool:
    """Whether a name is that of a run's folder in `place`, itself and not by a link to somewhere else."""
    if not isinstance(name, str) or not name or name[0] == "." or {"/", "\\", "\0", ":"} & set(name):
        return False
    folder = place / name
    try:
        return not folder.is_symlink() and (folder / "config.json").is_file()
    except OSError:  # a name that is too long, or no permission
        return False


def _read(folder: Path) -> Run:
    config, launch, status = read_config(folder), read_launch(folder), read_status(folder)
    state, reason, alive = _state(launch, status)
    if alive and stop_requested(folder):
        state = "stopping"
    return Run(folder, config, launch, status, state, reason, alive)


def _state(launch: dict[str, Any], status: dict[str, Any]) -> tuple[str, str, bool]:
    """What a run is, why, and whether it lives."""
    said = status.get("state")
    reason = " ".join(str(status.get("reason") or "").split())
    if said in _OVER:
        return said, reason, False
    if not launch and not status:
        return "stopped", "", False
    silence = _seconds_since(status.get("updated"))
    now = said if said in _UNDER_WAY else "starting"
    if living(status) or living(launch):
        if said == "running" and silence > _SILENT:
            reason = f"no sign of life for {_span(silence)}, but its programs are there"
        return now, reason, True
    if status and not is_here(status):
        host = str(status.get("host") or "another machine")[:80]
        if silence < _ELSEWHERE:
            return now, reason or f"on {host}", True
        return "died", f"no sign of life from {host} for {_span(silence)}", False
    if not status and "pid" not in launch and _seconds_since(launch.get("started")) < _SPAWNING:
        return "starting", "", True
    return "died", "it ended without a word; resume it from its last checkpoint", False


def _seconds_since(moment: object) -> float:
    """Seconds since a unix time; infinite if there is none. Clocks of two machines differ, in either direction."""
    known = isinstance(moment, int | float) and not isinstance(moment, bool) and math.isfinite(moment)
    return abs(time.time() - moment) if known else math.inf  # type: ignore[operator]


def _span(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "an unknown time"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _age(folder: Path) -> tuple[float, str]:
    """What runs are ordered by: the time in the name, else when the settings were written; then the name."""
    found = _TIME.fullmatch(folder.name)
    try:
        if found:
            return time.mktime(time.strptime(found.group(1), "%Y%m%d-%H%M%S")), folder.name
    except (ValueError, OverflowError):  # 99 hours
        pass
    try:
        return (folder / "config.json").stat().st_mtime, folder.name
    except OSError:
        return 0.0, folder.name


def _checkpoint(file: Path, model: str) -> Checkpoint | None:
    try:
        with os.fdopen(open_plain(file), "rb") as opened:
            facts = os.fstat(opened.fileno())
    except OSError:
        return None
    epoch = _epoch(file, facts.st_ino, facts.st_mtime_ns, facts.st_size)
    return Checkpoint(file, model, epoch, facts.st_size, facts.st_mtime)


@lru_cache(maxsize=4096)
def _epoch(file: Path, *_version: int) -> int | None:
    """The epochs behind a weights file, from the header of safetensors: its length in 8 bytes, then JSON."""
    try:
        with os.fdopen(open_plain(file), "rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(length)) if length < 1 << 24 else {}
        epoch = json.loads(header["__metadata__"]["swinlens"])["training"]["epochs_done"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    return epoch if type(epoch) is int else None
