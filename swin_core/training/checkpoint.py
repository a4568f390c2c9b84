"""Checkpoints: the whole state of a run in one file, with a checksum; the one before it is kept."""

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch

from swin_core.errors import WeightsError
from swin_core.system.atomic import atomic_write
from swin_core.system.seal import ends_as_archive, is_intact, sealed
from swin_core.weights.files import read_state

LAST, PREVIOUS = "last.pt", "previous.pt"


class Checkpoint(NamedTuple):
    """The newest checkpoint of a run that is intact."""

    state: dict[str, Any]
    remark: str
    """Says that a newer one is damaged or missing; empty if it is the last one."""


def write_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Save tensors, numbers and strings as the last checkpoint in a folder; the last one becomes its predecessor.

    A crash at any moment leaves at least one that is complete.

    Raises:
        WeightsError: the file cannot be written; the old one is intact.
    """
    last = folder / LAST
    try:
        with atomic_write(last) as file:
            with sealed(file) as hashed:
                torch.save(state, hashed)
            if is_complete(last):  # a damaged one must not replace its predecessor
                _link(last, folder / PREVIOUS)
    except OSError as error:
        raise WeightsError(f"{LAST!r} could not be saved: {error.strerror or error}.") from error
    except RuntimeError as error:  # from PyTorch's own writer, if the file cannot grow
        cause = error.__context__ if isinstance(error.__context__, OSError) else OSError(errno.EIO, "it cannot grow")
        raise WeightsError(f"{LAST!r} could not be saved: {cause.strerror}.") from cause


def _link(last: Path, previous: Path) -> None:
    """Give a file a second name, which it keeps when it is replaced under the first one."""
    draft = previous.with_name(f".{previous.name}.{os.getpid()}.tmp")
    with suppress(OSError):
        draft.unlink()
    try:
        os.link(last, draft)
        os.replace(draft, previous)
    except OSError:  # a file system without hard links: for a moment there is the predecessor only
        os.replace(last, previous)


def is_complete(path: Path) -> bool:
    """Return whether a checkpoint is there and undamaged.

    One of an older version has no checksum; it counts as undamaged if it ends as an archive does.
    """
    try:
        intact = is_intact(path)
        return ends_as_archive(path) if intact is None else intact
    except OSError:
        return False


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return what `write_checkpoint` saved.

    Raises:
        WeightsError: the file is missing, damaged, or holds more than tensors, numbers and strings.
    """
    state = read_state(path)
    if "model" not in state:
        raise WeightsError(f"{path.name!r} is not a checkpoint of this project.")
    if not is_complete(path):
        raise WeightsError(f"{path.name!r} is cut short or damaged.")
    return state


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    """Return the newest intact checkpoint in a folder, or None if there is none at all.

    Raises:
        WeightsError: all are damaged.
    """
    faults = []
    for path in (folder / LAST, folder / PREVIOUS):
        if not path.exists():
            continue
        try:
            state = read_checkpoint(path)
        except WeightsError as error:
            faults.append(str(error).rstrip("."))
            continue
        if path.name != LAST and not faults:
            faults = [f"{LAST!r} is missing"]
        return Checkpoint(state, f"{'; '.join(faults)}; {path.name!r} is used instead" if faults else "")
    if faults:
        raise WeightsError(
            f"no checkpoint of the run can be read: {'; '.join(faults)}; start a new run, with --init "
            f"{folder.parent.name} to go on from its weights."
        )
    return None
