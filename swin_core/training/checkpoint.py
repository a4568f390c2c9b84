"""Checkpoints: the whole state of a run in one file, replaced atomically."""

import os
import pickle
from pathlib import Path
from typing import Any

import torch

from swin_core.errors import WeightsError

__all__ = ["read_checkpoint", "replace_file", "write_checkpoint"]


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that a crash at any moment leaves the old one or the new one, never a part."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Save tensors, numbers and texts, atomically."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("wb") as stream:
            torch.save(state, stream)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Load what `write_checkpoint` saved.

    Raises:
        WeightsError: there is no such file, it is damaged, or it holds more than tensors, numbers and texts.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise WeightsError(f"{path.name}: there is no such checkpoint; start the run anew.") from error
    except (RuntimeError, EOFError, pickle.UnpicklingError, ValueError) as error:
        raise WeightsError(f"{path.name} is damaged or no checkpoint of this project; start anew.") from error
    if not isinstance(state, dict) or "model" not in state:
        raise WeightsError(f"{path.name} is no checkpoint of this project; start the run anew.")
    return state
