"""Files that grow by lines while a run goes on: its figures, and its log.

A file of figures is read from where the last reading ended, so that a page of many long runs is drawn anew in a few
milliseconds.
"""

import json
import math
import os
import re
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from swin_core.runs.files import open_plain

__all__ = ["last_lines", "read_rows"]

Row = dict[str, Any]

_ROWS_KEPT = 500_000
"""Rows in memory; some 200 MB of them."""
_MARK = 64
"""Bytes before the end of a reading that must be there again at the next."""
_LINE = 1000
"""Bytes of a line of the log that are read, on average."""
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass
class _Reading:
    """What was read of a file: its inode, how far, the last bytes before that place, and the rows."""

    inode: tuple[int, int]
    end: int = 0
    mark: bytes = b""
    rows: list[Row] = field(default_factory=list)


_readings: OrderedDict[tuple[str, str], _Reading] = OrderedDict()  # the least recently used first
_lock = threading.Lock()


def read_rows(path: Path, key: str) -> list[Row]:
    """The rows of a file with a JSON object on each line.

    Left out are a last line without an end, which is still being written, and lines that are damaged or lack the key.
    Numbers may be NaN or infinite.

    Args:
        path: the file; a missing one has no rows.
        key: what the rows ascend by, such as "epoch". Where they do not, a run took up an older checkpoint and did
            again what it had done: the later rows count.

    Returns:
        The rows in a list of its own; the rows themselves are shared and not to be changed.
    """
    name = str(path), key
    with _lock:
        before = _readings.pop(name, None)
        try:
            with os.fdopen(open_plain(path), "rb") as file:
                reading = _go_on(file, before, key)
        except OSError:
            return []
        _readings[name] = reading
        while len(_readings) > 1 and sum(len(kept.rows) for kept in _readings.values()) > _ROWS_KEPT:
            _readings.popitem(last=False)
        return list(reading.rows)


def _go_on(file: BinaryIO, before: _Reading | None, key: str) -> _Reading:
    """Read what came since `before`, or all if the file is not the one that it was."""
    facts = os.fstat(file.fileno())
    inode = facts.st_dev, facts.st_ino
    if before is not None and before.inode == inode and before.end <= facts.st_size:
        file.seek(before.end - len(before.mark))
        reading = before if file.read(len(before.mark)) == before.mark else _Reading(inode)
    else:
        reading = _Reading(inode)
    file.seek(reading.end)
    whole, end, _ = file.read().rpartition(b"\n")
    for row in _parse(whole):
        position = row.get(key)
        if isinstance(position, bool) or not isinstance(position, int | float) or not math.isfinite(position):
            continue
        while reading.rows and reading.rows[-1][key] >= position:
            reading.rows.pop()
        reading.rows.append(row)
    reading.end += len(whole) + len(end)
    reading.mark = (reading.mark + whole + end)[-_MARK:]
    return reading


def _parse(text: bytes) -> list[Row]:
    lines = text.splitlines()
    try:  # as one list: several times as fast as line by line, and the rows share the names of their figures
        values = json.loads(b"[" + b",".join(line for line in lines if line.strip()) + b"]")
    except (ValueError, RecursionError):
        values = [_value(line) for line in lines]
    return [value for value in values if isinstance(value, dict)]


def _value(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


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
