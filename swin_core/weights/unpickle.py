"""Read the pickle of a `.pth` or `.ckpt` without running anything that it contains.

`torch.load(weights_only=True)` builds tensors and plain containers only. Training programs also save settings: an
`argparse.Namespace`, numpy numbers, paths, counters. Their names are allowed here, but most stand for classes of this
file, which keep the values and do nothing else: no code of numpy parses a data type or an array of the pickle, and no
path can reach the disk. Any other name is refused.
"""

import argparse
import io
import math
import pickle
import re
import threading
import zipfile
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import torch

from swin_core.errors import WeightsError
from swin_core.weights.pickle_growth import inflates

SAVE_INSTEAD = "in the program that made it, save the tensors only: torch.save(model.state_dict(), 'weights.pth')"

_PLAIN_DTYPE = re.compile(r"[biufcUS]\d{1,4}")

_PICKLES_OF_OLD_FILES = 4
"""A mark, the protocol, facts about the machine, and the content; the numbers follow."""

# `safe_globals` changes a global set of torch: one block must not end while another one reads.
_lock = threading.Lock()


class NumpyArray:
    """An array of a pickle: `array` has its values, read-only, or is None if they are no plain numbers or texts."""

    def __init__(self, *_: object):
        self.array: np.ndarray | None = None

    def __setstate__(self, state: object) -> None:
        match state:
            case (_, tuple(shape), _DType() as dtype, bool(by_column), bytes(data)):
                kind = dtype.plain()
                if kind is not None and len(data) == math.prod(shape) * kind.itemsize:
                    self.array = np.frombuffer(data, kind).reshape(shape, order="F" if by_column else "C")


class _DType:
    """A data type of a pickle: its code, such as "f8", and its byte order."""

    def __init__(self, code: object = "", *_: object):
        self.code, self.order = code, "="

    def __setstate__(self, state: object) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">"):
            self.order = state[1]

    def plain(self) -> np.dtype | None:
        """Return the type if its values are plain numbers or texts, which hold no pointers."""
        if not isinstance(self.code, str) or not _PLAIN_DTYPE.fullmatch(self.code):
            return None
        try:
            return np.dtype(self.order + self.code)
        except TypeError:
            return None


def _scalar(dtype: object = None, data: object = None) -> Any:
    kind = dtype.plain() if isinstance(dtype, _DType) else None
    if kind is None or not isinstance(data, bytes) or not 0 < len(data) == kind.itemsize:
        return None
    return np.frombuffer(data, kind)[0].item()


def _dict(*_: object) -> dict[Any, Any]:
    return {}


def _list(*_: object) -> list[Any]:
    return []


def _nothing(*_: object) -> None:
    return None


_INERT: dict[str, Any] = {
    "argparse.Namespace": argparse.Namespace,
    "types.SimpleNamespace": argparse.Namespace,
    "torch.torch_version.TorchVersion": str,
    "collections.defaultdict": _dict,
    "collections.deque": _list,
    "numpy.dtype": _DType,
    "numpy.ndarray": NumpyArray,
    **{
        f"numpy.{core}.multiarray.{name}": value
        for core in ("core", "_core")
        for name, value in (("scalar", _scalar), ("_reconstruct", NumpyArray))
    },
    **{
        f"{module}.{name}": pure
        for module in ("pathlib", "pathlib._local")
        for name, pure in (
            ("PosixPath", PurePosixPath),
            ("PurePosixPath", PurePosixPath),
            ("WindowsPath", PureWindowsPath),
            ("PureWindowsPath", PureWindowsPath),
        )
    },
    # What makes the missing values of a defaultdict, and the methods in OpenMMLab's logs; they are not called.
    **{f"builtins.{name}": _nothing for name in ("int", "float", "bool", "str", "list", "tuple", "dict", "getattr")},
    "mmengine.logging.history_buffer.HistoryBuffer": argparse.Namespace,
    # Dictionaries with attributes, in which Lightning keeps hyper-parameters.
    **{
        f"{module}.AttributeDict": dict
        for module in (
            "lightning.fabric.utilities.data",
            "lightning_fabric.utilities.data",
            "lightning.pytorch.utilities.parsing",
            "pytorch_lightning.utilities.parsing",
        )
    },
}


def unpickle(path: Path) -> Any:
    """Return the content of a file that `torch.save` wrote, on the CPU.

    Raises:
        WeightsError: damaged, a TorchScript archive, or with Python objects other than those above; nothing in it ran.
    """
    name = repr(path.name)
    entries = _archive_entries(path)
    if any(entry.filename.endswith("/constants.pkl") for entry in entries):
        raise WeightsError(f"{name} is a TorchScript archive, which contains code; {SAVE_INSTEAD}.")
    # torch.save does not compress; an archive that does may hold a thousand times its size.
    if sum(entry.file_size for entry in entries) > 2 * path.stat().st_size + 2**20:
        raise WeightsError(f"{name} is a compressed archive, which torch.save does not write; {SAVE_INSTEAD}.")
    if _inflates(path, entries):
        raise WeightsError(f"{name} would take far more memory than it has bytes and was refused; {SAVE_INSTEAD}.")
    allowed: list[Any] = [(value, dotted) for dotted, value in _INERT.items()]
    try:
        # With a path, torch.load would decide by the suffix.
        with path.open("rb") as file, _lock, torch.serialization.safe_globals(allowed):
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        blocked = re.search(r"GLOBAL ([\w.]+)", str(error))
        if blocked is None:
            raise WeightsError(f"{name} is cut short or damaged, or not a PyTorch file.") from error
        raise WeightsError(
            f"{name} holds Python objects or code ({blocked[1][:80]}) and was refused, nothing in it ran; "
            f"{SAVE_INSTEAD}."
        ) from error
    except Exception as error:  # a damaged file can raise any error
        raise WeightsError(f"{name} is cut short or damaged, or not a PyTorch file.") from error


def _inflates(path: Path, entries: list[zipfile.ZipInfo]) -> bool:
    """Return whether the pickle of a file inflates; what is damaged is left to `torch.load`."""
    try:
        if not entries:
            with path.open("rb") as file:
                return inflates(file, _PICKLES_OF_OLD_FILES)
        pickles = [entry for entry in entries if entry.filename.endswith("data.pkl")]
        with zipfile.ZipFile(path) as archive:
            return any(
                inflates(io.BytesIO(archive.read(entry))) for entry in pickles if entry.file_size < 2**26
            ) or any(entry.file_size >= 2**26 for entry in pickles)
    except Exception:  # damaged bytes raise errors of many classes
        return False


def _archive_entries(path: Path) -> list[zipfile.ZipInfo]:
    """Return the entries of a ZIP archive; none for other files, which `torch.load` judges."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.infolist()
    except (OSError, ValueError, zipfile.BadZipFile):
        return []
