"""The files of a run's folder: settings, launch, status, notes and the request to stop.

Readers take whatever is there: a file that is missing, half-written, damaged, a link or a pipe reads as empty.
Writers replace whole files, so that nobody ever sees a part of one.
"""

import json
import math
import os
import re
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swin_core.errors import RunError
from swin_core.runs.liveness import identity, living
from swin_core.system.atomic import atomic_write

__all__ = [
    "create",
    "is_run_name",
    "last_lines",
    "log_file",
    "name_error",
    "open_plain",
    "read_config",
    "read_launch",
    "read_notes",
    "read_object",
    "read_status",
    "runs_root",
    "stop_requested",
    "withdraw_stop",
    "write_launch",
    "write_object",
    "write_status",
]

StrPath = str | os.PathLike[str]

_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")
_SMALL_FILE = 1 << 20
"""Bytes that are read of a file that should hold a few lines; what is longer is none of ours."""

_LINE = 1000
"""Bytes of a line of the log that are read, on average."""
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

# Never through a link that was put in place of the file, and never waiting for the other end of a pipe.
_PLAIN = os.O_NOFOLLOW | os.O_NONBLOCK


def runs_root(path: StrPath | None = None) -> Path:
    """The folder of the runs: `path`, else the environment variable `SWIN_RUNS_ROOT`, else `runs`."""
    return Path(path or os.environ.get("SWIN_RUNS_ROOT") or "runs")


def is_run_name(name: object) -> bool:
    """Whether a run may bear this name: 1 to 64 letters, digits, '_', '-' or '.', not '-' or '.' at first."""
    return isinstance(name, str) and 0 < len(name) <= 64 and name[0] not in "-." and not set(name) - _LETTERS


def name_error(name: object) -> RunError:
    """What to say of a name that `is_run_name` refuses."""
    return RunError(
        f"name {str(name)[:80]!r} must be 1 to 64 letters, digits, '_', '-' or '.', not '-' or '.' at first."
    )


def create(config: Mapping[str, Any], root: StrPath | None = None) -> Path:
    """Make the folder of a new run, `<time>-<name>`, with its settings in it.

    Args:
        config: the settings, as `TrainConfig.to_dict` gives them; `name` names the run.
        root: as for `runs_root`.

    Returns:
        The folder, an absolute path.

    Raises:
        RunError: a name that a run may not bear, or the folder cannot be made.
    """
    name = config.get("name")
    if not is_run_name(name):
        raise name_error(name)
    place = runs_root(root).absolute()
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{name}"
    number = 1
    try:
        place.mkdir(parents=True, exist_ok=True)
        while True:
            folder = place / (stem if number == 1 else f"{stem}-{number}")
            try:
                folder.mkdir()
                break
            except FileExistsError:  # a run of that name was made within the same second
                number += 1
        (folder / "checkpoints").mkdir()
        write_object(folder / "config.json", config)
    except OSError as error:
        raise RunError(f"no run can be made in {str(place)!r}: {error.strerror}; choose another folder.") from error
    return folder


def read_config(folder: Path) -> dict[str, Any]:
    """The run's settings; empty if they cannot be read."""
    return read_object(folder / "config.json")


def write_launch(folder: Path, **fields: Any) -> None:
    """Say how the run is started, and by whom.

    Args:
        folder: the run's folder.
        fields: devices, processes, max_restarts, data_root. `pid`, `created` and `host` name the launcher; where they
            are missing, or name a program that has ended, it is the caller.

    A request to stop that is older than the launcher was meant for the one before, and is withdrawn.

    Raises:
        RunError: the file cannot be written.
    """
    launcher = {key: fields.get(key) for key in ("pid", "created", "host")}
    if not living(launcher):
        launcher = identity()
    try:
        write_object(folder / "launch.json", {**fields, **launcher, "started": time.time()})
        asked = (folder / "stop").lstat().st_mtime if stop_requested(folder) else math.inf
        if asked < float(launcher["created"] or 0):
            withdraw_stop(folder)
    except OSError as error:
        raise RunError(f"run {folder.name} cannot be started: {error.strerror}.") from error


def read_launch(folder: Path) -> dict[str, Any]:
    """How the run was started; empty if that cannot be read."""
    return read_object(folder / "launch.json")


def write_status(folder: Path, **fields: Any) -> None:
    """Say how the run is: exactly these fields, with the time and the caller's identity.

    Raises:
        OSError: the file cannot be written; the older one stands.
    """
    write_object(folder / "status.json", {**fields, "updated": time.time(), **identity()})


def read_status(folder: Path) -> dict[str, Any]:
    """How the run said that it is; empty if that cannot be read."""
    return read_object(folder / "status.json")


def stop_requested(folder: Path) -> bool:
    """Whether the run is asked to finish its step, save and end."""
    return (folder / "stop").exists()


def withdraw_stop(folder: Path) -> None:
    """Take back a request to stop."""
    (folder / "stop").unlink(missing_ok=True)


def read_notes(folder: Path) -> str:
    """The notes on the run."""
    return _content(folder / "notes.txt").decode(errors="replace")


def log_file(folder: Path) -> int:
    """A descriptor that appends to the run's log."""
    return os.open(folder / "log.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT | _PLAIN, 0o666)


def open_plain(path: Path) -> int:
    """A descriptor that reads a file.

    Raises:
        OSError: it cannot be opened, or is a link, a pipe or a folder.
    """
    descriptor = os.open(path, os.O_RDONLY | _PLAIN)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path.name} is no plain file")
    return descriptor


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty if there is none."""
    try:
        value = json.loads(_content(path))
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def write_object(path: Path, value: Mapping[str, Any]) -> None:
    """Replace a file by a JSON object.

    Raises:
        OSError: it cannot be written; the older one stands.
    """
    with atomic_write(path) as file:
        file.write(json.dumps(dict(value), indent=2).encode())


def _content(path: Path) -> bytes:
    try:
        with os.fdopen(open_plain(path), "rb") as file:
            return file.read(_SMALL_FILE)
    except OSError:
        return b""


def last_lines(path: Path, count: int) -> list[str]:
    """The last lines of a log as one would see them in a terminal, without colours.

    Of a progress bar, which returns to the start of its line again and again, the last state is shown.
    """
    if count <= 0:
        return []
    try:
        with os.fdopen(open_plain(path), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            begin = max(0, size - (count + 1) * _LINE)
            file.seek(begin)
            text = file.read(size - begin).decode(errors="replace")
    except OSError:
        return []
    lines = text.replace("\r\n", "\n").split("\n")
    if begin and len(lines) > 1:
        lines = lines[1:]  # it began in the middle of that one
    shown = [_COLOURS.sub("", line).rstrip("\r").rpartition("\r")[2].rstrip() for line in lines]
    while shown and not shown[-1]:
        shown.pop()
    return shown[-count:]
