"""Checkpoints: the whole state of a run in one file."""

import errno
from pathlib import Path
from typing import Any

import torch

from swin_core.errors import WeightsError
from swin_core.system.atomic import atomic_write
from swin_core.weights.files import read_state


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Save tensors, numbers and strings, replacing the file atomically.

    Raises:
        WeightsError: the file cannot be written; the old one is intact.
    """
    try:
        with atomic_write(path) as file:
            torch.save(state, file)
    except OSError as error:
        raise WeightsError(f"{path.name!r} could not be saved: {error.strerror or error}.") from error
    except RuntimeError as error:  # from PyTorch's own writer, if the file cannot grow
        cause = error.__context__ if isinstance(error.__context__, OSError) else OSError(errno.EIO, "it cannot grow")
        raise WeightsError(f"{path.name!r} could not be saved: {cause.strerror}.") from cause


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return what `write_checkpoint` saved.

    Raises:
        WeightsError: the file is missing, damaged, or holds more than tensors, numbers and strings.
    """
    state = read_state(path)
    if "model" not in state:
        raise WeightsError(f"{path.name!r} is not a checkpoint of this project; start the run anew.")
    return state
