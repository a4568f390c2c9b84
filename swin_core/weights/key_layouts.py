"""The four layouts of Swin weights, told apart by their keys, and the config that a set of weights implies.

| ours, and the authors' | timm >= 0.9 | torchvision |
|---|---|---|
| `patch_embed.proj`, `.norm` | same | `features.0.0`, `features.0.2` |
| `layers.i.blocks.j.*` | same | `features.{2i+1}.j.*` |
| `....mlp.fc1`, `.fc2` | same | `....mlp.0`, `.mlp.3` |
| `layers.i.downsample.*` | `layers.{i+1}.downsample.*` | `features.{2i+2}.*` |
| `norm`, `head` | `norm`, `head.fc` | `norm`, `head` |

The authors' files and torchvision's also store index and mask buffers, which follow from the window and are
dropped. Older timm files have the authors' layout.
"""

import re
from collections import Counter
from collections.abc import Mapping
from math import isqrt
from typing import Any

import torch
from torch import Tensor

from swin_core.errors import ConfigError, WeightsError
from swin_core.models.config import SwinConfig

__all__ = ["BIAS_TABLE", "config_of", "convert", "implied_settings", "quoted", "table_window"]

BIAS_TABLE = "relative_position_bias_table"
_BUFFERS = ("relative_position_index", "attn_mask")
_WRAPPERS = ("model", "state_dict")
_NUMBERS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_PREFIXES = ("module.", "_orig_mod.")  # of DistributedDataParallel and torch.compile

_BLOCK = re.compile(r"layers\.(\d{1,3})\.blocks\.(\d{1,3})\.")
_DOWNSAMPLE = re.compile(r"^layers\.(\d{1,3})\.downsample\.")
_TORCHVISION = re.compile(r"^features\.(\d{1,3})\.(.+)$")


def convert(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], str]:
    """Bring weights of any of the four layouts into ours.

    Args:
        state: what a file holds: tensors by key, perhaps under `model` or `state_dict`, perhaps with
            `module.` before each key.

    Returns:
        The tensors under our keys, and the layout: "own", "microsoft", "timm" or "torchvision". Ours is the
        authors' without their index and mask buffers.

    Raises:
        WeightsError: the keys are not those of a Swin, or a value is not a tensor.
    """
    tensors = _unwrap(state)
    if any("cpb_mlp" in key or "logit_scale" in key for key in tensors):
        raise WeightsError("it holds a Swin V2, whose cosine attention this model does not have; use timm/<model>.")
    kept = {key: value for key, value in tensors.items() if not key.endswith(_BUFFERS)}
    for key, value in kept.items():
        _check_dense(key, value)
    if any(key.startswith("features.") for key in kept):
        layout, own = "torchvision", {_from_torchvision(key): value for key, value in kept.items()}
    elif "head.fc.weight" in kept or _is_merged_late(kept):
        layout, own = "timm", _from_timm(kept)
    else:
        layout, own = "own" if len(kept) == len(tensors) else "microsoft", kept
    if "patch_embed.proj.weight" not in own or not any(_BLOCK.match(key) for key in own):
        first = next(iter(tensors), "none")
        raise WeightsError(f"its keys are not those of a Swin (the first is {quoted(first)}).")
    return own, layout


def config_of(state: Mapping[str, Any]) -> SwinConfig:
    """The config that weights imply, from the shapes of their tensors.

    What no shape shows keeps its default: `shift` and `drop_path`. `image_size` is the one that the window of
    the last stage covers as a whole (224 for patch 4 and window 7, 384 for window 12), unless an absolute
    embedding tells it.

    Args:
        state: weights in any of the four layouts.

    Raises:
        WeightsError: not a Swin, or one without bias tables, which leave heads and window untold.
    """
    own = convert(state)[0]
    try:
        settings = implied_settings(own)
        if "window_size" not in settings:
            raise WeightsError(
                "it has no bias tables, so that its heads and window are unknown; build the model first."
            )
        return SwinConfig(**settings)
    except ConfigError as error:
        raise WeightsError(f"its shapes contradict each other: {error}") from error


def implied_settings(own: Mapping[str, Tensor]) -> dict[str, Any]:
    """The fields of `SwinConfig` that tensors in our layout show.

    Raises:
        WeightsError: a tensor that every Swin has is missing or has the wrong number of dimensions.
    """
    depths = _depths(own)
    kernel = _tensor(own, "patch_embed.proj.weight", 4)
    dim, patch = kernel.shape[0], kernel.shape[2]
    first = "layers.0.blocks.0."
    hidden = _tensor(own, first + "mlp.fc1.weight", 2).shape[0]
    for stage in range(len(depths)):
        # Real numbers for each stage's width, or a small file could ask for a giant model.
        shape = _tensor(own, f"layers.{stage}.blocks.0.mlp.fc1.weight", 2).shape
        if shape[1] != dim << stage:
            raise WeightsError(f"its stage {stage + 1} is {shape[1]} wide, unlike any Swin's.")
    settings: dict[str, Any] = {
        "embed_dim": dim,
        "in_chans": kernel.shape[1],
        "patch_size": patch,
        "depths": depths,
        "mlp_ratio": hidden / dim,
        "num_classes": _tensor(own, "head.weight", 2).shape[0] if "head.weight" in own else 0,
        "mixer": "mlp" if first + "spatial_mlp.weight" in own else "attention",
        "absolute_embedding": "absolute_pos_embed" in own,
    }
    if settings["mixer"] == "attention":
        settings["qkv_bias"] = first + "attn.qkv.bias" in own
        settings["relative_position_bias"] = first + "attn." + BIAS_TABLE in own
    heads_and_windows = [_heads_and_window(own, f"layers.{stage}.blocks.0.") for stage in range(len(depths))]
    known = [pair for pair in heads_and_windows if pair is not None]
    if len(known) == len(depths):
        settings["num_heads"] = tuple(heads for heads, _ in known)
        # A stage whose map is smaller than the window may have come with a smaller table.
        settings["window_size"] = max(window for _, window in known)
        settings["image_size"] = known[-1][1] * 2 ** (len(depths) - 1) * patch
    if settings["absolute_embedding"]:
        settings["image_size"] = isqrt(_tensor(own, "absolute_pos_embed", 3).shape[1]) * patch
    return settings


def table_window(table: Tensor) -> int:
    """The window side M of a bias table of `(2M-1)^2` rows, `(rows, heads)`.

    Raises:
        WeightsError: no square window has a table of that shape.
    """
    side = isqrt(table.shape[0]) if table.dim() == 2 else 0
    if side % 2 == 0 or side * side != table.shape[0]:
        raise WeightsError(f"a bias table of shape {tuple(table.shape)} belongs to no square window.")
    return (side + 1) // 2


def quoted(key: object) -> str:
    """A key from a file, safe to show: in quotes, on one line, not longer than 80 characters."""
    text = repr(key)
    return text if len(text) <= 80 else text[:77] + "..."


def _unwrap(state: Mapping[str, Any]) -> dict[str, Tensor]:
    for _ in range(len(_WRAPPERS) + 1):  # bounded: a pickle can hold itself
        inner = next((state[key] for key in _WRAPPERS if isinstance(state.get(key), Mapping)), None)
        if inner is None:
            break
        state = inner
    tensors: dict[str, Tensor] = {}
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise WeightsError(f"it is no state dict: {quoted(key)} is {type(value).__name__}, not a tensor.")
        tensors[key] = value
    for prefix in _PREFIXES:
        if tensors and all(key.startswith(prefix) for key in tensors):
            tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return tensors


def _check_dense(key: str, value: Tensor) -> None:
    """Refuse what is no plain array of real numbers, or claims more of them than the file holds."""
    if value.dtype not in _NUMBERS or value.layout != torch.strided or value.is_meta:
        kind = str(value.dtype).removeprefix("torch.")
        raise WeightsError(f"{quoted(key)} is no dense array of real numbers ({kind}).")
    if value.untyped_storage().nbytes() < value.numel() * value.element_size():
        raise WeightsError(f"{quoted(key)} claims more numbers than the file holds.")


def _is_merged_late(state: Mapping[str, Tensor]) -> bool:
    """Whether merging opens a stage, as in timm: then the first stage has none."""
    stages = {int(found[1]) for key in state if (found := _DOWNSAMPLE.match(key))}
    return bool(stages) and 0 not in stages


def _from_timm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    late = _is_merged_late(state)
    own = {}
    for key, value in state.items():
        if late:
            key = _DOWNSAMPLE.sub(lambda found: f"layers.{int(found[1]) - 1}.downsample.", key)
        own[re.sub(r"^head\.fc\.", "head.", key)] = value
    return own


def _from_torchvision(key: str) -> str:
    found = _TORCHVISION.match(key)
    if found is None:
        return key
    part, rest = int(found[1]), found[2]
    if part == 0:
        return "patch_embed." + re.sub(r"^0\.", "proj.", re.sub(r"^2\.", "norm.", rest))
    stage = (part - 1) // 2
    if part % 2 == 0:
        return f"layers.{stage}.downsample.{rest}"
    return f"layers.{stage}.blocks." + rest.replace(".mlp.0.", ".mlp.fc1.").replace(".mlp.3.", ".mlp.fc2.")


def _depths(own: Mapping[str, Tensor]) -> tuple[int, ...]:
    blocks = {(int(found[1]), int(found[2])) for key in own if (found := _BLOCK.match(key))}
    counts = Counter(stage for stage, _ in blocks)
    depths = tuple(counts[stage] for stage in range(max(counts) + 1))
    if 0 in depths or any((s, i) not in blocks for s, depth in enumerate(depths) for i in range(depth)):
        raise WeightsError("it is incomplete: blocks between others are missing.")
    return depths


def _heads_and_window(own: Mapping[str, Tensor], block: str) -> tuple[int, int] | None:
    mixing = own.get(block + "spatial_mlp.weight")
    if mixing is not None:
        tokens = _tensor(own, block + "spatial_mlp.weight", 3).shape[1]
        if tokens == 0 or isqrt(tokens) ** 2 != tokens:
            raise WeightsError(f"a mixing matrix of {tokens} tokens belongs to no square window.")
        return mixing.shape[0] // tokens, isqrt(tokens)
    table = own.get(f"{block}attn.{BIAS_TABLE}")
    if table is None:
        return None
    window = table_window(table)
    return table.shape[1], window


def _tensor(own: Mapping[str, Tensor], key: str, dimensions: int) -> Tensor:
    if key not in own:
        raise WeightsError(f"it is incomplete: {key!r} is missing.")
    if own[key].dim() != dimensions or 0 in own[key].shape:
        raise WeightsError(f"{key!r} has the shape {tuple(own[key].shape)}, with {dimensions} dimensions expected.")
    return own[key]
