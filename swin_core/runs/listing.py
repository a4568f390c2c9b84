"""The list of runs, and the state of each as its folder tells."""

import json
import math
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from swin_core.errors import RunError
from swin_core.runs.files import (
    StrPath,
    last_lines,
    open_plain,
    read_changes,
    read_config,
    read_launch,
    read_notes,
    read_object,
    read_status,
    resume_advice,
    runs_root,
    stop_requested,
)
from swin_core.runs.liveness import is_here, living
from swin_core.runs.metrics import EpochMetrics, StepMetrics, read_rows
from swin_core.system.numbers import duration, is_number

RUN_STATES = ("starting", "running", "stopping", "stopped", "finished", "failed", "died")
"""States of a run. "died": the status is "running", but no process is alive."""

_REMOTE_TIMEOUT = 30.0
"""Seconds after its last status for which a run on another machine counts as alive."""
_SILENCE = {"running": 30.0, "starting": 50.0}
"""Seconds without a new status that are reported for a run whose processes are alive, by its state. Loading PyTorch may
take long."""
_START_TIMEOUT = 60.0
"""Seconds that a launcher has until its first status."""
_VALIDATION_BYTES = 1 << 26
"""Most bytes that are read of the last validation, whose confusion matrix has a number for each pair of classes."""
_KEPT = re.compile(r"epoch-(\d+)\.safetensors")
_TIME = re.compile(r"(\d{8}-\d{6})-(.+)")


@dataclass(frozen=True)
class SavedWeights:
    """A weights file that a run saved."""

    file: Path
    model: str
    """Name for `swin_core.load`: the run's name, or `<run>/checkpoints/<file>`."""
    epoch: int | None
    """Epochs of training; None if unknown."""
    size: int
    """Bytes."""
    saved: float
    """Unix time in seconds."""

    @property
    def age(self) -> float:
        """Seconds since the file was saved."""
        return max(0.0, time.time() - self.saved)


@dataclass(frozen=True)
class Run:
    """A run as it was when its folder was read. Metrics, log, notes and weights are read on demand."""

    folder: Path
    config: dict[str, Any] = field(repr=False)
    launch: dict[str, Any] = field(repr=False)
    status: dict[str, Any] = field(repr=False)
    state: str
    """One of `RUN_STATES`."""
    reason: str
    """Why it is in that state, in one line; may be empty."""
    alive: bool
    """Whether one of its processes lives, as far as this machine can tell."""

    @property
    def name(self) -> str:
        """The folder's name, which `find` takes."""
        return self.folder.name

    @property
    def title(self) -> str:
        """The name without the time in front."""
        match = _TIME.fullmatch(self.name)
        return match.group(2) if match else self.name

    def metrics(self) -> list[EpochMetrics]:
        """Return the metrics of each epoch; the rows are shared and must not be changed."""
        return read_rows(self.folder / "metrics.jsonl", "epoch")

    def steps(self) -> list[StepMetrics]:
        """Return the metrics within epochs; the rows are shared and must not be changed."""
        return read_rows(self.folder / "steps.jsonl", "epoch")

    def validation(self) -> dict[str, Any]:
        """Return the metrics of the last epoch with recall and confusion of the classes; empty before the first."""
        return read_object(self.folder / "validation.json", _VALIDATION_BYTES)

    def log_tail(self, lines: int = 60) -> list[str]:
        """Return the last lines of the log."""
        return last_lines(self.folder / "log.txt", lines)

    @property
    def notes(self) -> str:
        """The user's notes on the run."""
        return read_notes(self.folder)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What has to be said beside the run's metrics: see `remarks_on`."""
        return remarks_on(self.config, read_changes(self.folder))

    def checkpoints(self) -> list[SavedWeights]:
        """Return the weights that can be loaded, newest first."""
        kept = self.folder / "checkpoints"
        models = {self.folder / "model.safetensors": self.name}
        if kept.is_dir() and not kept.is_symlink():
            files = sorted(kept.glob("[!.]*.safetensors"), reverse=True)
            models |= {file: f"{self.name}/checkpoints/{file.name}" for file in files}
        entries = (_saved_weights(file, model) for file, model in models.items())
        return sorted((entry for entry in entries if entry), key=lambda entry: entry.saved, reverse=True)


def remarks_on(settings: Mapping[str, Any], changes: Sequence[Mapping[str, Any]] = ()) -> tuple[str, ...]:
    """Return why a run's metrics are not those of its settings: a limit of images, and each change on the way.

    Args:
        settings: the run's settings.
        changes: as `read_changes` returns them.
    """
    found = []
    if limit := settings.get("limit"):
        found.append(f"limited to {limit:,} images")
    for change in changes:
        steps = ", ".join(f"{key} {old} to {new}" for key, (old, new) in change["settings"].items())
        found.append(f"changed after epoch {change['epoch']}: {steps}")
    return tuple(found)


def list_runs(root: StrPath | None = None) -> list[Run]:
    """Return all runs, newest first. A folder without settings is not a run.

    Args:
        root: as for `runs_root`; a missing folder has no runs.

    Raises:
        RunError: `root` cannot be read.
    """
    parent = runs_root(root).absolute()
    try:
        names = os.listdir(parent)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunError(f"the runs in {str(parent)!r} cannot be read: {error.strerror}; choose another.") from error
    folders = [parent / name for name in names if _is_run(parent, name)]
    return [_read(folder) for folder in sorted(folders, key=_start_time, reverse=True)]


def find(name: str, root: StrPath | None = None) -> Run:
    """Return a run by the name of its folder.

    Raises:
        RunError: there is no such run, or the name leads out of `root`.
    """
    parent = runs_root(root).absolute()
    if not _is_run(parent, name):
        raise RunError(f"there is no run {str(name)[:80]!r} in {str(parent)!r}; swinlens runs lists them.")
    return _read(parent / name)


def _is_run(parent: Path, name: str) -> bool:
    """Return whether `name` is the folder of a run in `parent`: a plain name, and not a link."""
    if not isinstance(name, str) or not name or name[0] == "." or {"/", "\\", "\0", ":"} & set(name):
        return False
    folder = parent / name
    try:
        return not folder.is_symlink() and (folder / "config.json").is_file()
    except OSError:  # a name that is too long, or no permission
        return False


def _read(folder: Path) -> Run:
    config, launch, status = read_config(folder), read_launch(folder), read_status(folder)
    state, reason, alive = _state(folder, launch, status)
    if alive and stop_requested(folder):
        state = "stopping"
    return Run(folder, config, launch, status, state, reason, alive)


def _state(folder: Path, launch: dict[str, Any], status: dict[str, Any]) -> tuple[str, str, bool]:
    """Return a run's state, the reason, and whether it is alive."""
    written = status.get("state")
    reason = " ".join(str(status.get("reason") or "").split())
    if written in ("stopped", "finished", "failed"):
        return written, reason, False
    if not launch and not status:
        return "stopped", "", False
    silence = _seconds_since(status.get("updated"))
    state = "running" if written == "running" else "starting"
    if living(status) or living(launch):
        if status.get("stalled"):
            reason = " ".join(str(status["stalled"]).split())
        if status and silence > _SILENCE[state]:
            reason = f"{_still_since(silence)}; its processes are alive: stop it at once, or continue a halted process"
        return state, reason, True
    if status and not is_here(status):
        host = str(status.get("host") or "another machine")[:80]
        if silence < _REMOTE_TIMEOUT:
            return state, reason or f"on {host}", True
        return "died", f"no status from {host} for {_span(silence)}", False
    if not status and "pid" not in launch and _seconds_since(launch.get("started")) < _START_TIMEOUT:
        return "starting", "", True
    return "died", f"it ended without a message; {resume_advice(folder)}", False


def _seconds_since(moment: object) -> float:
    """Return the seconds since a Unix time, infinite if there is none. Another machine's clock may be ahead."""
    return abs(time.time() - moment) if is_number(moment) else math.inf


def _still_since(silence: float) -> str:
    if not math.isfinite(silence):
        return "stands still, without a status"
    return f"stands still since {time.strftime('%H:%M:%S', time.localtime(time.time() - silence))}, without a status"


def _span(seconds: float) -> str:
    return duration(seconds) if math.isfinite(seconds) else "an unknown time"


def _start_time(folder: Path) -> tuple[float, str]:
    """Return the sort key of a run: the time in its name, else of its settings; then the name."""
    match = _TIME.fullmatch(folder.name)
    try:
        if match:
            return time.mktime(time.strptime(match.group(1), "%Y%m%d-%H%M%S")), folder.name
    except (ValueError, OverflowError):  # such as 99 hours
        pass
    try:
        return (folder / "config.json").stat().st_mtime, folder.name
    except OSError:
        return 0.0, folder.name


def _saved_weights(file: Path, model: str) -> SavedWeights | None:
    try:
        with os.fdopen(open_plain(file), "rb") as opened:
            facts = os.fstat(opened.fileno())
    except OSError:
        return None
    kept = _KEPT.fullmatch(file.name)
    epoch = int(kept[1]) if kept else _epoch(file, facts.st_ino, facts.st_mtime_ns, facts.st_size)
    return SavedWeights(file, model, epoch, facts.st_size, facts.st_mtime)


@lru_cache(maxsize=4096)
def _epoch(file: Path, *_version: int) -> int | None:
    """Return the epochs of a weights file from its safetensors header: 8 bytes with the length, then JSON."""
    try:
        with os.fdopen(open_plain(file), "rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(length)) if length < 1 << 24 else {}
        epoch = json.loads(header["__metadata__"]["swinlens"])["training"]["epochs_done"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    return epoch if type(epoch) is int else None
