"""The files of a run's folder: settings, launch, status, notes, log, and the request to stop.

A file that is missing, half-written, damaged, a link or a pipe reads as empty. Files are replaced whole, so that a
reader never sees a part of one.
"""

import json
import math
import os
import re
import shutil
import stat
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from swin_core.errors import RunError
from swin_core.runs.liveness import IDENTITY, identity, living
from swin_core.system.atomic import atomic_write

StrPath = str | os.PathLike[str]

FINDINGS = "findings.json"
"""A run's copy of the findings of an audit that it trains without."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_SMALL_FILE = 1 << 20
"""Most bytes that are read of a settings, status or notes file."""
_LARGE_FILE = 1 << 26
"""Most bytes that are read of the list of files that a run does not use."""
_LINE_BYTES = 1000
"""Bytes read for each line of the log."""
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

# Do not follow a link that replaced the file, nor wait for the other end of a pipe.
_PLAIN = os.O_NOFOLLOW | os.O_NONBLOCK


def runs_root(path: StrPath | None = None) -> Path:
    """Return the folder of the runs: `path`, else the environment variable `SWIN_RUNS_ROOT`, else `runs`."""
    return Path(path or os.environ.get("SWIN_RUNS_ROOT") or "runs")


def is_run_name(name: object) -> bool:
    """Return whether a run may have this name: 1 to 64 letters, digits, '_', '-' or '.', not '-' or '.' at first."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def name_error(name: object) -> RunError:
    """Return the error for a name that `is_run_name` refuses."""
    return RunError(
        f"name {str(name)[:80]!r} must be 1 to 64 letters, digits, '_', '-' or '.', not '-' or '.' at first."
    )


def create(config: Mapping[str, Any], root: StrPath | None = None) -> Path:
    """Make the folder of a new run, `<time>-<name>`, with its settings.

    Args:
        config: the settings, as `TrainConfig.to_dict` gives them; `name` names the run.
        root: as for `runs_root`.

    Returns:
        The folder, an absolute path.

    Raises:
        RunError: the name is not allowed, or the folder cannot be made.
    """
    name = config.get("name")
    if not is_run_name(name):
        raise name_error(name)
    parent = runs_root(root).absolute()
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{name}"
    number = 1
    try:
        parent.mkdir(parents=True, exist_ok=True)
        while True:
            folder = parent / (stem if number == 1 else f"{stem}-{number}")
            try:
                folder.mkdir()
                break
            except FileExistsError:  # a run of that name was made within the same second
                number += 1
        try:
            (folder / "checkpoints").mkdir()
            write_object(folder / "config.json", config)
        except OSError:  # the disk is full
            shutil.rmtree(folder, ignore_errors=True)
            raise
    except OSError as error:
        raise RunError(f"no run can be made in {str(parent)!r}: {error.strerror}; choose another folder.") from error
    return folder


def read_config(folder: Path) -> dict[str, Any]:
    """Return the run's settings; empty if they cannot be read."""
    return read_object(folder / "config.json")


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Replace the run's settings.

    Raises:
        RunError: the file cannot be written.
    """
    try:
        write_object(folder / "config.json", config)
    except OSError as error:
        raise RunError(f"the settings of {folder.name} cannot be written: {error.strerror}.") from error


def add_change(folder: Path, epoch: int, settings: Mapping[str, tuple[Any, Any]]) -> None:
    """Record that settings of a run were changed after an epoch, each from one value to another.

    A change that is the last one recorded already is not recorded twice.

    Raises:
        RunError: the file cannot be written.
    """
    change = {"epoch": epoch, "settings": {name: list(values) for name, values in settings.items()}}
    changes = read_changes(folder)
    if changes and changes[-1] == change:  # the run is restarted before it saved a checkpoint with the change
        return
    try:
        write_object(folder / "changes.json", {"changes": [*changes, change]})
    except OSError as error:
        raise RunError(f"the change of {folder.name} cannot be recorded: {error.strerror}.") from error


def read_changes(folder: Path) -> list[dict[str, Any]]:
    """Return the changes of a run's settings that `add_change` recorded, in order: "epoch" and "settings"."""
    changes = read_object(folder / "changes.json").get("changes")
    found = [change for change in changes if isinstance(change, dict)] if isinstance(changes, list) else []
    return [change for change in found if "epoch" in change and isinstance(change.get("settings"), dict)]


def write_launch(folder: Path, **fields: Any) -> None:
    """Write how the run is started and by which process.

    A request to stop that is older than the launcher was meant for the previous one, and is withdrawn.

    Args:
        folder: the run's folder.
        fields: devices, processes, max_restarts, data_root. The keys `IDENTITY` identify the launcher; if they are
            missing or that process has ended, the caller is the launcher.

    Raises:
        RunError: the file cannot be written.
    """
    launcher = {key: fields.pop(key) for key in IDENTITY if key in fields}
    program = living(launcher)
    if program is None:
        launcher, program = identity(), psutil.Process()
    try:
        write_object(folder / "launch.json", {**fields, **launcher, "started": time.time()})
        requested = (folder / "stop").lstat().st_mtime if stop_requested(folder) else math.inf
        if requested < program.create_time():
            withdraw_stop(folder)
    except OSError as error:
        raise RunError(f"run {folder.name} cannot be started: {error.strerror}.") from error


def read_data(folder: Path) -> dict[str, Any]:
    """Return the images of each class and the files that are not used; empty if they cannot be read.

    Returns:
        "classes": for each class the numbers of images for "train" and "validation"; "skipped": objects with "name",
        "class" and "reason".
    """
    return read_object(folder / "data.json", _LARGE_FILE)


def data_lines(data: Mapping[str, Any]) -> list[str]:
    """Return what a user has to know about a run's images as lines of text; none if all is well.

    Args:
        data: as `read_data` returns it.
    """
    skipped, lines = data.get("skipped") or [], []
    if skipped:
        by_class = Counter(str(file["class"]) for file in skipped)
        counts = ", ".join(f"{count} of {name}" if name else str(count) for name, count in by_class.items())
        lines.append(f"skipped {len(skipped)} {'file' if len(skipped) == 1 else 'files'}: {counts}")
        lines += [f"  {file['name']} {file['reason']}" for file in skipped]
    columns = {"train": "training", "validation": "validation"}
    for key, word in columns.items():
        if without := [name for name, count in (data.get("classes") or {}).items() if not count.get(key)]:
            lines.append(f"no {word} image of {', '.join(without)}: metrics do not include these classes")
    return lines


def read_launch(folder: Path) -> dict[str, Any]:
    """Return how the run was started; empty if that cannot be read."""
    return read_object(folder / "launch.json")


def write_status(folder: Path, **fields: Any) -> None:
    """Replace the run's status by these fields, the time and the caller's identity.

    Raises:
        OSError: the file cannot be written; the old one stays.
    """
    write_object(folder / "status.json", {**fields, "updated": time.time(), **identity()})


def read_status(folder: Path) -> dict[str, Any]:
    """Return the run's status; empty if it cannot be read."""
    return read_object(folder / "status.json")


def stop_requested(folder: Path) -> bool:
    """Return whether the run is asked to finish its step, save and end."""
    return (folder / "stop").exists()


def withdraw_stop(folder: Path) -> None:
    """Withdraw a request to stop."""
    (folder / "stop").unlink(missing_ok=True)


def resume_advice(folder: Path) -> str:
    """Return how a run that ended can go on: from its last checkpoint, or anew if it has none."""
    saved = any((folder / "checkpoints" / name).is_file() for name in ("last.pt", "previous.pt"))
    return "resume it from its last checkpoint" if saved else "it has no checkpoint yet, so resume starts it anew"


def read_notes(folder: Path) -> str:
    """Return the run's notes."""
    return _content(folder / "notes.txt").decode(errors="replace")


def open_log(folder: Path) -> int:
    """Open the run's log for appending; return the file descriptor."""
    return os.open(folder / "log.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT | _PLAIN, 0o666)


def open_plain(path: Path) -> int:
    """Open a regular file for reading; return the file descriptor.

    Raises:
        OSError: the file cannot be opened, or is a link, a pipe or a folder.
    """
    descriptor = os.open(path, os.O_RDONLY | _PLAIN)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path.name} is not a regular file")
    return descriptor


def read_object(path: Path, limit: int = _SMALL_FILE) -> dict[str, Any]:
    """Return the JSON object in a file; empty if there is none."""
    try:
        value = json.loads(_content(path, limit))
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def write_object(path: Path, value: Mapping[str, Any]) -> None:
    """Replace a file by a JSON object.

    Raises:
        OSError: the file cannot be written; the old one stays.
    """
    with atomic_write(path) as file:
        file.write(json.dumps(dict(value), indent=2).encode())


def last_lines(path: Path, count: int) -> list[str]:
    """Return the last lines of a log as a terminal shows them, without colours.

    A progress bar returns to the start of its line; its last state is kept.
    """
    if count <= 0:
        return []
    try:
        with os.fdopen(open_plain(path), "rb") as file:
            start = max(0, os.fstat(file.fileno()).st_size - (count + 1) * _LINE_BYTES)
            file.seek(start)
            text = file.read((count + 1) * _LINE_BYTES).decode(errors="replace")
    except OSError:
        return []
    lines = text.replace("\r\n", "\n").split("\n")
    if start and len(lines) > 1:
        lines = lines[1:]  # the first one is incomplete
    shown = [_COLOURS.sub("", line).rstrip("\r").rpartition("\r")[2].rstrip() for line in lines]
    while shown and not shown[-1]:
        shown.pop()
    return shown[-count:]


def _content(path: Path, limit: int = _SMALL_FILE) -> bytes:
    try:
        with os.fdopen(open_plain(path), "rb") as file:
            return file.read(limit)
    except OSError:
        return b""
