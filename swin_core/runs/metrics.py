"""The metrics of a run: `metrics.jsonl` has a line for each epoch, `steps.jsonl` one for every few steps."""

import json
import os
from pathlib import Path
from typing import Any, TypedDict

from swin_core.runs.files import open_plain
from swin_core.system.cache import LRUCache
from swin_core.system.numbers import is_number

_FILES_KEPT = 100
"""Most files whose rows are cached."""


class EpochMetrics(TypedDict):
    """A line of `metrics.jsonl`. Values that were not finite are None; lines of other programs may lack keys."""

    epoch: int
    """From 1."""
    train_loss: float
    loss: float
    """Validation loss; so are the next two."""
    top1: float
    top5: float | None
    """None for at most five classes."""
    balanced: float | None
    """Balanced accuracy, the mean recall of the classes that have validation images; None where these are even."""
    lr: float
    seconds: float
    """Training time of this epoch."""
    images_per_second: float
    elapsed: float
    """Training time of the run, in seconds."""
    saved: str
    """File of the epoch's weights in `checkpoints/`; empty if they were not kept."""


class StepMetrics(TypedDict):
    """A line of `steps.jsonl`."""

    step: int
    """Finished steps, if each epoch had as many as this one; fewer than in the line before if images were removed."""
    epoch: float
    """Finished epochs, with the finished part of the current one."""
    loss: float
    lr: float
    images_per_second: float
    elapsed: float


_cache: LRUCache[tuple[tuple[int, ...], list[Any]]] = LRUCache(_FILES_KEPT)  # (path, key) -> file version, rows


def read_rows(path: Path, key: str) -> list[Any]:
    """Return the JSON objects of a file with one on each line, from a cache unless the file changed.

    An unfinished last line and lines that are damaged or lack the key are left out. Numbers may be NaN or infinite.

    Args:
        path: the file; a missing one has no rows.
        key: the key by which rows ascend, such as "epoch". Where they do not, the run was resumed from an older
            checkpoint and repeated some epochs; the later rows replace the earlier ones.

    Returns:
        The rows in a new list; the rows themselves are shared and must not be changed.
    """
    try:
        with os.fdopen(open_plain(path), "rb") as file:
            facts = os.fstat(file.fileno())
            version = facts.st_mtime_ns, facts.st_size, facts.st_ino
            known, rows = _cache.peek((str(path), key)) or ((), [])
            if known != version:
                rows = _parse(file.read(facts.st_size), key)
                _cache.put((str(path), key), (version, rows))
    except OSError:
        return []
    return list(rows)


def _parse(text: bytes, key: str) -> list[Any]:
    rows: list[Any] = []
    for line in text.rpartition(b"\n")[0].splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        position = row.get(key) if isinstance(row, dict) else None
        if not is_number(position):
            continue
        while rows and rows[-1][key] >= position:
            rows.pop()
        rows.append(row)
    return rows
