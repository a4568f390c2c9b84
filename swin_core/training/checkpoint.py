"""Checkpoints: the whole state of a run in one file, replaced atomically."""

import errno
from pathlib import Path
from typing import Any

import torch

from swin_core.errors import WeightsError
from swin_core.system.atomic import atomic_write
from swin_core.weights.files import read_state

__all__ = ["read_checkpoint", "write_checkpoint"]


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Save tensors, numbers and texts, atomically.

    Raises:
        WeightsError: the file cannot be written; an older one is intact.
    """
    try:
        with atomic_write(path) as file:
            torch.save(state, file)
    except OSError as error:
        raise WeightsError(f"{path.name!r} could not be saved: {error.strerror or error}.") from error
    except RuntimeError as error:  # PyTorch's own writer, where the file cannot grow
        cause = error.__context__ if isinstance(error.__context__, OSError) else OSError(errno.EIO, "it cannot grow")
        raise WeightsError(f"{path.name!r} could not be saved: {cause.strerror}.") from cause


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Load what `write_checkpoint` saved.

    Raises:
        WeightsError: there is no such file, it is damaged, or it holds more than tensors, numbers and texts.
    """
    state = read_state(path)
    if "model" not in state:
        raise WeightsError(f"{path.name!r} is no checkpoint of this project; start the run anew.")
    return state
