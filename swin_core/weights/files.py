"""Save and load weights: safetensors and `.pth`, in our layout, the authors', timm's and torchvision's.

A file fits a model when it holds the same variant. What may differ is adapted: the window (bias tables),
channels and patch size (first layer), the image size (absolute embedding), and the classes (head, left at
random). Everything is checked before the first weight is copied, so that a refused file leaves the model as
it was.
"""

import hashlib
import json
import os
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from swin_core.errors import WeightsError
from swin_core.models.config import SwinConfig
from swin_core.models.swin import Swin
from swin_core.system.atomic import replacing
from swin_core.weights.adapt import Fit, check_variant
from swin_core.weights.key_layouts import config_of, convert, quoted

__all__ = [
    "WeightsReport",
    "config_of",
    "convert",
    "load_weights",
    "read_config",
    "read_metadata",
    "read_state",
    "save_weights",
]

_METADATA = "swinlens"


@dataclass(frozen=True)
class WeightsReport:
    """What `load_weights` did with a file."""

    path: Path
    """The file."""
    sha256: str
    """SHA-256 of the file, in hexadecimal."""
    layout: str
    """"own", "microsoft", "timm" or "torchvision"."""
    adapted: tuple[str, ...] = ()
    """What was resized or converted to fit, a line each."""
    skipped: tuple[str, ...] = ()
    """What the file holds and the model has no use for, a line each."""
    random: tuple[str, ...] = ()
    """What the file does not hold and the model keeps as it was initialised, a line each."""

    def summary(self) -> str:
        """All of it in one line."""
        parts = [f"{self.path.name} ({self.layout} layout, sha256 {self.sha256[:12]})"]
        for title, lines in (
            ("adapted", self.adapted),
            ("skipped", self.skipped),
            ("left at random", self.random),
        ):
            if lines:
                parts.append(f"{title}: {', '.join(lines)}")
        return "; ".join(parts)


def load_weights(model: Swin, path: str | os.PathLike[str]) -> WeightsReport:
    """Load a weights file of any of the four layouts into a model, adapting it where the two may differ.

    - Another window: each head's bias table is resized bicubically (paper, section 3.2). A table smaller than
      the file's largest was shrunk to a small map; it is first set unscaled into the centre of a table of the
      file's window, its border repeated, since an offset of one token means the same there.
    - Another number of channels: one takes the sum over the file's; N repeat them in turn, scaled to keep the
      sum.
    - Another patch size: the pseudo-inverse of the bicubic resize (FlexiViT, Beyer et al. 2023, section 3.4),
      so that an enlarged image gives the same tokens.
    - Another image size: the absolute embedding is resized bicubically.
    - Other classes: the head stays at random. So do the mixing matrices of Swin-MLP for another window.

    Args:
        model: changed in place, only if everything fits.
        path: safetensors or `.pth`.

    Returns:
        What was adapted, skipped and left at random.

    Raises:
        WeightsError: the file is no weights file, runs code, is damaged, or belongs to another variant.
    """
    path = Path(path)
    state, metadata = read_state(path), read_metadata(path)
    parameters = model.state_dict()
    try:
        own, layout = convert(state)
        check_variant(model.config, own)
        _check_heads(model.config, metadata)
        fit = Fit(model.config, own)
        fitted = fit.all(parameters)
    except WeightsError as error:
        raise WeightsError(f"{path.name!r} does not fit: {error}") from error
    with torch.no_grad():
        for key, value in fitted.items():
            parameters[key].copy_(value)  # in place: kept attention terms see the new version
    return WeightsReport(
        path=path,
        sha256=_sha256(path),
        layout=layout,
        adapted=tuple(fit.adapted),
        skipped=tuple(fit.skipped),
        random=tuple(fit.random),
    )


def save_weights(model: Swin, path: str | os.PathLike[str], metadata: Mapping[str, Any] | None = None) -> None:
    """Save a model as safetensors, its config in the metadata; the same model gives the same bytes.

    A crash at any moment leaves the old file or the new one, never a part.

    Args:
        model: its weights are copied to the CPU as they are.
        path: where to; the folder is made.
        metadata: further values for JSON, such as labels, mean and standard deviation.

    Raises:
        WeightsError: the file cannot be written.
    """
    path = Path(path)
    tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    described = {**(metadata or {}), "config": model.config.to_dict()}
    # One key: safetensors writes several in an order that changes from run to run.
    header = {_METADATA: json.dumps(described, sort_keys=True)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(safetensors.torch.save(tensors, header))
    except OSError as error:
        raise WeightsError(f"{path.name!r} could not be saved: {error.strerror or error}.") from error


def read_state(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a weights file holds, as it is: tensors by key, in a `.pth` perhaps under `model` or `state_dict`.

    The format is told by the content, not the name. A `.pth` is a pickle: only tensors and plain containers
    are read from it, and nothing in it can run.

    Raises:
        WeightsError: missing, empty, cut short, not a weights file, or one that holds more than tensors.
    """
    path = Path(path)
    if _is_safetensors(path):
        try:
            return safetensors.torch.load_file(path)
        except Exception as error:  # the parser's own kinds, for bytes that nobody vouches for
            raise _damaged(path, error) from error
    return _unpickle(path)


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What `save_weights` wrote beside the tensors, the config under `config`; empty for others' files.

    Raises:
        WeightsError: as `read_state`.
    """
    path = Path(path)
    if not _is_safetensors(path):
        return {}
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {}).get(_METADATA, "{}"))
    except Exception as error:  # as in `read_state`
        raise _damaged(path, error) from error
    if not isinstance(metadata, dict):
        raise WeightsError(f"{path.name!r} is damaged: its metadata is no JSON object.")
    return metadata


def read_config(path: str | os.PathLike[str]) -> SwinConfig:
    """The config of a weights file: from the metadata of ours, from the tensors' shapes for others.

    Raises:
        WeightsError: as `read_state`; or no Swin; or the metadata does not belong to the tensors.
    """
    path = Path(path)
    state, metadata = read_state(path), read_metadata(path)
    try:
        if "config" not in metadata:
            return config_of(state)
        config = SwinConfig.from_dict(metadata["config"])
        # Believed only as far as the tensors bear it out, or a small file could ask for a giant model.
        check_variant(config, convert(state)[0], exactly=True)
        return config
    except (WeightsError, ValueError, TypeError, ArithmeticError) as error:  # a config can hold any JSON
        raise WeightsError(f"{path.name!r} cannot be used: {error}") from error


def _is_safetensors(path: Path) -> bool:
    """Whether a file is safetensors, and not the container or pickle of a `.pth`.

    Raises:
        WeightsError: it cannot be read, or is neither.
    """
    name = repr(path.name)
    try:
        if not path.is_file():
            state = "a folder" if path.is_dir() else "missing"
            raise WeightsError(f"{name} is {state}; give a weights file.")
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise WeightsError(f"{name} cannot be read: {error.strerror}.") from error
    except ValueError as error:  # a NUL in the path
        raise WeightsError(f"{name} is not a valid path.") from error
    if size == 0:
        raise WeightsError(f"{name} is empty.")
    if head[8:] == b"{" and int.from_bytes(head[:8], "little") < 2**32:
        return True
    if head[:2] == b"PK" or head[:1] == b"\x80":
        return False
    raise WeightsError(f"{name} is neither safetensors nor a PyTorch file, but something else.")


def _unpickle(path: Path) -> dict[str, Any]:
    """The content of a `.pth`, read with an unpickler that knows tensors and plain containers only."""
    name = repr(path.name)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        blocked = re.search(r"GLOBAL ([\w.]+)", str(error))
        if blocked is None:
            raise WeightsError(f"{name} is cut short or damaged, or not a PyTorch file.") from error
        raise WeightsError(
            f"{name} holds Python objects or code ({blocked[1]}) and was refused, nothing in it ran; "
            "ask for a file of tensors only, best as safetensors."
        ) from error
    except Exception as error:  # a damaged file can fail in any way
        raise WeightsError(f"{name} is cut short or damaged, or not a PyTorch file.") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{name} is no state dict: it holds {type(content).__name__}.")
    return content


def _check_heads(config: SwinConfig, metadata: Mapping[str, Any]) -> None:
    """Without bias tables no shape tells the heads, so that only the metadata does."""
    stored = metadata.get("config")
    heads = stored.get("num_heads") if isinstance(stored, dict) else None
    if heads not in (None, list(config.num_heads)):
        raise WeightsError(f"it has {quoted(heads)} heads where the model has {list(config.num_heads)}.")


def _damaged(path: Path, error: Exception) -> WeightsError:
    reason = (str(error).splitlines() or [""])[0][:160].rstrip(". ")
    return WeightsError(f"{path.name!r} is cut short or damaged: {reason or type(error).__name__}.")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
