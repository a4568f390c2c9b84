"""Save and load weights as safetensors and `.pth`, in the key layouts of all libraries that are supported.

A file must hold the same variant as the model. What may differ is adapted: the window (bias tables), channels and patch
size (first layer), the image size (absolute embedding), and the classes (the head stays random). Everything is checked
before the first weight is copied, so a refused file leaves the model unchanged.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from swin_core.errors import WeightsError
from swin_core.models.config import SwinConfig
from swin_core.models.swin import Swin
from swin_core.system.atomic import atomic_write
from swin_core.system.seal import is_intact
from swin_core.weights.adapt import Adapter, check_variant
from swin_core.weights.key_layouts import convert, convert_with_buffers, quoted
from swin_core.weights.shapes import config_of
from swin_core.weights.swin_v2 import stored_windows
from swin_core.weights.unpickle import unpickle
from swin_core.weights.unwrap import find_state

_METADATA = "swinlens"


@dataclass(frozen=True)
class WeightsReport:
    """What `load_weights` did with a file."""

    path: Path
    """The file."""
    sha256: str
    """SHA-256 of the file, in hexadecimal."""
    layout: str
    """Key layout: "own", "microsoft", or the name of one of `swin_core.weights.key_layouts.LAYOUTS`."""
    adapted: tuple[str, ...] = ()
    """What was resized or converted, one line each."""
    skipped: tuple[str, ...] = ()
    """What the model does not use, one line each."""
    random: tuple[str, ...] = ()
    """What the file does not hold, so that the model keeps its random values, one line each."""
    choice: str = ""
    """Which weights were taken, if the file has several; see `swin_core.weights.unwrap.find_state`."""

    def summary(self) -> str:
        """Return the report in one line."""
        parts = [f"{self.path.name} ({self.layout} layout, sha256 {self.sha256[:12]})"]
        if self.choice:
            parts.append(self.choice)
        for title, lines in (
            ("adapted", self.adapted),
            ("skipped", self.skipped),
            ("left at random", self.random),
        ):
            if lines:
                parts.append(f"{title}: {', '.join(lines)}")
        return "; ".join(parts)


def load_weights(model: Swin, path: str | os.PathLike[str]) -> WeightsReport:
    """Load a weights file of any key layout into a model, adapting what may differ.

    - Window: each head's bias table is resized bicubically (paper, section 3.2). A table smaller than the file's
      largest was shrunk to a small map; it is first padded to the file's window by repeating its border, since an
      offset of one token means the same there.
    - Channels: one channel takes the sum over the file's channels; more repeat them in turn, scaled to keep the sum.
    - Patch size: the pseudo-inverse of the bicubic resize (FlexiViT, Beyer et al. 2023, section 3.4), so that an
      enlarged image gives the same tokens.
    - Image size: the absolute embedding is resized bicubically. The position bias of Swin V2 stays relative to the
      windows that it was trained with, if the file tells them.
    - Classes: the head stays random. So do the mixing matrices of Swin-MLP for another window.

    Args:
        model: changed in place if the file fits, otherwise unchanged.
        path: safetensors, `.pth` or `.ckpt`; `swin.pth#state_dict` takes one of several state dicts in it.

    Returns:
        What was adapted, skipped and left random.

    Raises:
        WeightsError: the file is not a weights file, contains code, is damaged, or is of another variant.
    """
    _check_is_swin(model, "load_weights")
    path, entry = split_entry(path)
    content = read_state(path)
    metadata = read_metadata(path, content)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    parameters = model.state_dict()
    try:
        found = find_state(content, entry)
        own, layout, buffers = convert_with_buffers(found.tensors)
        check_variant(model.config, own)
        _check_heads(model.config, metadata)
        trained = _trained_windows(metadata, buffers) if model.config.version == 2 else ()
        adapter = Adapter(model.config, own)
        tensors = adapter.adapt(parameters)
    except WeightsError as error:
        raise WeightsError(f"{path.name!r} does not fit: {error}") from error
    with torch.no_grad():
        for key, value in tensors.items():
            parameters[key].copy_(value)  # in place, so that cached attention terms see a new version
    if trained and trained != model.config.trained_windows():
        model.set_trained_windows(trained)
        adapter.adapted.append(f"position bias relative to windows of {', '.join(map(str, trained))}, as in training")
    return WeightsReport(
        path=path,
        sha256=sha256,
        layout=layout,
        adapted=tuple(adapter.adapted),
        skipped=tuple(adapter.skipped),
        random=tuple(adapter.random),
        choice=found.choice(),
    )


def save_weights(model: Swin, path: str | os.PathLike[str], metadata: Mapping[str, Any] | None = None) -> None:
    """Save a model as safetensors with its config in the metadata; the same model gives the same bytes.

    A crash at any moment leaves the old file or the new one, never a part.

    Args:
        model: its weights are saved in their own precision.
        path: of the file; its folder is created.
        metadata: further values for JSON, such as labels, mean and standard deviation.

    Raises:
        WeightsError: the file cannot be written.
    """
    _check_is_swin(model, "save_weights")
    path = Path(path)
    tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    values = {**(metadata or {}), "config": model.config.to_dict()}
    # A single key, since safetensors writes several in an order that changes from run to run.
    header = {_METADATA: json.dumps(values, sort_keys=True)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write(safetensors.torch.save(tensors, header))
    except OSError as error:
        raise WeightsError(f"{path.name!r} could not be saved: {error.strerror or error}.") from error


def _check_is_swin(model: object, function: str) -> None:
    if not isinstance(model, Swin):
        raise WeightsError(
            f"{function} takes a Swin, not a {type(model).__name__}; pass the `model` of a Classifier, or use the "
            "functions of the model's own library."
        )


def split_entry(path: str | os.PathLike[str]) -> tuple[Path, str]:
    """Return the file and the entry of "swin.pth#state_dict"; the entry is empty if only a file is named."""
    file, sign, entry = str(path).rpartition("#")
    if not sign or not file or Path(path).exists():
        return Path(path), ""
    return Path(file), entry


def read_state(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the content of a weights file: tensors by key, or whatever dictionary a training program saved.

    The format is recognised by content, not by name. Of a pickle only tensors, containers and settings are read, so
    nothing in it can run; see `unpickle`.

    Raises:
        WeightsError: missing, empty, cut short, not a weights file, or with Python objects.
    """
    path, _ = split_entry(path)
    if _is_safetensors(path):
        try:
            return safetensors.torch.load_file(path)
        except Exception as error:  # the parser raises errors of its own classes
            raise _damaged(path, error) from error
    if is_intact(path) is False:  # a checkpoint of a run
        raise WeightsError(f"{path.name!r} is cut short or damaged: its checksum differs.")
    content = unpickle(path)
    if not isinstance(content, dict):
        raise WeightsError(f"{path.name!r} is no state dict: it holds {type(content).__name__}.")
    return content


def read_metadata(path: str | os.PathLike[str], content: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the metadata that `save_weights` wrote, with the config under `config`; empty for other files.

    A checkpoint of a run has the metadata of its run.

    Args:
        path: of the file.
        content: what `read_state` returned, if it was read before.

    Raises:
        WeightsError: as `read_state`.
    """
    path, _ = split_entry(path)
    if not _is_safetensors(path):
        content = read_state(path) if content is None else content
        if not {"place", "model", "optimizers"} <= content.keys():
            return {}
        run = path.absolute().parent.parent / "model.safetensors"
        metadata = content.get("metadata") or (read_metadata(run) if run.is_file() else {})
        return metadata if isinstance(metadata, dict) else {}
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {}).get(_METADATA, "{}"))
    except Exception as error:  # as in `read_state`
        raise _damaged(path, error) from error
    if not isinstance(metadata, dict):
        raise WeightsError(f"{path.name!r} is damaged: its metadata is no JSON object.")
    return metadata


def read_config(path: str | os.PathLike[str]) -> SwinConfig:
    """Return the config of a weights file: from the metadata of ours, from the shapes of the tensors of others.

    Raises:
        WeightsError: as `read_state`; not a Swin; or the metadata contradicts the tensors.
    """
    path, entry = split_entry(path)
    content = read_state(path)
    try:
        return state_config(find_state(content, entry).tensors, read_metadata(path, content))
    except WeightsError as error:
        raise WeightsError(f"{path.name!r} cannot be used: {error}") from error


def state_config(state: Mapping[str, Any], metadata: Mapping[str, Any]) -> SwinConfig:
    """Return the config of weights that were read, and of their metadata; errors as in `read_config`."""
    if "config" not in metadata:
        return config_of(state)
    try:
        config = SwinConfig.from_dict(metadata["config"])
        # Check it against the tensors, or a small file could ask for a giant model.
        check_variant(config, convert(state)[0], exactly=True)
        return config
    except (ValueError, TypeError, ArithmeticError) as error:  # a config can hold any JSON
        raise WeightsError(str(error)) from error


def _is_safetensors(path: Path) -> bool:
    """Whether a file is safetensors (True) or the ZIP archive or pickle of a `.pth` (False).

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


def _trained_windows(metadata: Mapping[str, Any], buffers: Mapping[str, Tensor]) -> tuple[int, ...]:
    """Return the window of each stage that a Swin V2 was trained with; empty if the file does not tell."""
    if "config" in metadata:
        return SwinConfig.from_dict(metadata["config"]).trained_windows()
    return tuple(trained for _, trained in stored_windows(buffers))


def _check_heads(config: SwinConfig, metadata: Mapping[str, Any]) -> None:
    """Compare the number of heads with the metadata: without bias tables no shape depends on it."""
    stored = metadata.get("config")
    heads = stored.get("num_heads") if isinstance(stored, dict) else None
    if heads not in (None, list(config.num_heads), config.num_heads):
        raise WeightsError(f"it has {quoted(heads)} heads where the model has {list(config.num_heads)}.")


def _damaged(path: Path, error: Exception) -> WeightsError:
    reason = (str(error).splitlines() or [""])[0][:160].rstrip(". ")
    return WeightsError(f"{path.name!r} is cut short or damaged: {reason or type(error).__name__}.")
