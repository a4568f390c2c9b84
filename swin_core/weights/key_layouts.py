"""Key layouts of Swin weights, and the config that a set of weights implies.

Our keys are those of the authors' repository. The tables of `LAYOUTS` map the keys of other libraries to them. To
support another library, add its table.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from math import isqrt
from typing import Any, NamedTuple

import torch
from torch import Tensor

from swin_core.errors import ConfigError, WeightsError
from swin_core.models.config import SwinConfig
from swin_core.weights.swin_v2 import is_v2, v2_projections

BIAS_TABLE = "relative_position_bias_table"
_BUFFERS = (
    "relative_position_index",
    "attn_mask",
    "relative_coords_table",
)  # computed from the window, so they are dropped
_WRAPPERS = ("model", "state_dict")
_NUMBERS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_PREFIXES = ("module.", "_orig_mod.")  # of DistributedDataParallel and torch.compile
_MAX_STAGES = 16

_BLOCK = re.compile(r"layers\.(\d{1,3})\.blocks\.(\d{1,3})\.")


class KeyLayout(NamedTuple):
    """How a library names the tensors of a Swin."""

    name: str
    """Name of the layout in reports."""
    matches: Callable[[Collection[str]], bool]
    """Whether the keys of a file are of this layout."""
    keys: Mapping[str, str]
    """Parts of the library's keys and ours: prefixes, or parts inside a key where they begin with a dot.

    In both, `{stage}` is the number of a stage from 0, `{next}` that of the next stage, `{odd}` is 2 * stage + 1 and
    `{even}` 2 * stage + 2.
    """


LAYOUTS = [
    KeyLayout(
        "torchvision",
        lambda keys: any(key.startswith("features.") for key in keys),
        {
            "features.0.0.": "patch_embed.proj.",
            "features.0.2.": "patch_embed.norm.",
            "features.{odd}.": "layers.{stage}.blocks.",
            "features.{even}.": "layers.{stage}.downsample.",
            ".mlp.0.": ".mlp.fc1.",
            ".mlp.3.": ".mlp.fc2.",
        },
    ),
    KeyLayout(
        "transformers",
        lambda keys: any(key.startswith("swinv2.") for key in keys),
        {
            "swinv2.embeddings.patch_embeddings.projection.": "patch_embed.proj.",
            "swinv2.embeddings.norm.": "patch_embed.norm.",
            "swinv2.encoder.layers.": "layers.",
            "swinv2.layernorm.": "norm.",
            "classifier.": "head.",
            ".attention.self.continuous_position_bias_mlp.": ".attn.cpb_mlp.",
            ".attention.self.": ".attn.",
            ".attention.output.dense.": ".attn.proj.",
            ".layernorm_before.": ".norm1.",
            ".layernorm_after.": ".norm2.",
            ".intermediate.dense.": ".mlp.fc1.",
            ".output.dense.": ".mlp.fc2.",
        },
    ),
    KeyLayout(  # from timm 0.9 on, where patch merging opens a stage
        "timm",
        lambda keys: (
            "layers.0.downsample.norm.weight" not in keys
            and ("head.fc.weight" in keys or "layers.1.downsample.norm.weight" in keys)
        ),
        {"head.fc.": "head.", "layers.{next}.downsample.": "layers.{stage}.downsample."},
    ),
    KeyLayout("timm", lambda keys: "head.fc.weight" in keys, {"head.fc.": "head."}),  # timm 0.8
]


def convert(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], str]:
    """Rename the keys of weights to ours.

    Args:
        state: content of a file: tensors by key, possibly under `model` or `state_dict`, possibly with `module.` before
            each key.

    Returns:
        The tensors under our keys, and the layout: the name of one of `LAYOUTS`, "own", or "microsoft". The last is the
        authors': our keys, and index and mask buffers.

    Raises:
        WeightsError: the keys are not those of a Swin, or a value is not a tensor.
    """
    tensors = _unwrap(state)
    own = {key: value for key, value in tensors.items() if not key.endswith(_BUFFERS)}
    for key, value in own.items():
        _check_dense(key, value)
    name = "own" if len(own) == len(tensors) else "microsoft"
    if layout := next((layout for layout in LAYOUTS if layout.matches(own)), None):
        name, own = layout.name, _rename(own, layout)
    own = v2_projections(own)
    if "patch_embed.proj.weight" not in own or not any(_BLOCK.match(key) for key in own):
        first = next(iter(tensors), "none")
        raise WeightsError(f"its keys are not those of a Swin (the first is {quoted(first)}).")
    return own, name


def _rename(tensors: Mapping[str, Tensor], layout: KeyLayout) -> dict[str, Tensor]:
    ours: dict[str, str] = {}
    for stage in range(_MAX_STAGES):
        numbers = {"stage": stage, "next": stage + 1, "odd": 2 * stage + 1, "even": 2 * stage + 2}
        ours |= {theirs.format(**numbers): own.format(**numbers) for theirs, own in layout.keys.items()}
    parts = re.compile("|".join(("" if part.startswith(".") else "^") + re.escape(part) for part in ours))
    return {parts.sub(lambda match: ours[match[0]], key): value for key, value in tensors.items()}


def config_of(state: Mapping[str, Any]) -> SwinConfig:
    """Return the config that the shapes of weights imply.

    `shift` and `drop_path` keep their defaults, since no shape depends on them. `image_size` is set so that the window
    of the last stage covers its whole map (224 for patch 4 and window 7, 384 for window 12), unless an absolute
    embedding determines it.

    Args:
        state: weights in any layout.

    Raises:
        WeightsError: not a Swin, or without bias tables, so that heads and window are unknown.
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
    """Return the fields of `SwinConfig` that the shapes of tensors under our keys determine.

    Raises:
        WeightsError: a tensor that every Swin has is missing or has the wrong number of dimensions.
    """
    depths = _depths(own)
    kernel = _tensor(own, "patch_embed.proj.weight", 4)
    dim, patch = kernel.shape[0], kernel.shape[2]
    first = "layers.0.blocks.0."
    hidden = _tensor(own, first + "mlp.fc1.weight", 2).shape[0]
    for stage in range(len(depths)):
        # Check the width of each stage, or a small file could ask for a giant model.
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
        settings["version"] = 2 if is_v2(own) else 1
        settings["qkv_bias"] = not own.keys().isdisjoint({first + "attn.qkv.bias", first + "attn.q_bias"})
        biases = {first + "attn." + BIAS_TABLE, first + "attn.cpb_mlp.0.weight"}
        settings["relative_position_bias"] = not own.keys().isdisjoint(biases)
    stages = [_heads_and_window(own, f"layers.{stage}.blocks.0.") for stage in range(len(depths))]
    known = [pair for pair in stages if pair is not None]
    if len(known) == len(depths):
        settings["num_heads"] = tuple(heads for heads, _ in known)
        # The table of a stage whose map is smaller than the window may be smaller too.
        settings["window_size"] = max(window for _, window in known)
        settings["image_size"] = known[-1][1] * 2 ** (len(depths) - 1) * patch
    if settings["absolute_embedding"]:
        settings["image_size"] = isqrt(_tensor(own, "absolute_pos_embed", 3).shape[1]) * patch
    return settings


def table_window(table: Tensor) -> int:
    """Return the window side M of a bias table `((2M-1)^2, heads)`.

    Raises:
        WeightsError: no square window has a table of this shape.
    """
    side = isqrt(table.shape[0]) if table.dim() == 2 else 0
    if side % 2 == 0 or side * side != table.shape[0]:
        raise WeightsError(f"a bias table of shape {tuple(table.shape)} belongs to no square window.")
    return (side + 1) // 2


def quoted(key: object) -> str:
    """Quote a key from a file for a message, in one line of at most 80 characters."""
    text = repr(key)
    return text if len(text) <= 80 else text[:77] + "..."


def _unwrap(state: Mapping[str, Any]) -> dict[str, Tensor]:
    for _ in range(len(_WRAPPERS) + 1):  # bounded: a pickle can contain itself
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
    """Raise unless a tensor is a dense array of real numbers that are all in the file."""
    if value.dtype not in _NUMBERS or value.layout != torch.strided or value.is_meta:
        kind = str(value.dtype).removeprefix("torch.")
        raise WeightsError(f"{quoted(key)} is no dense array of real numbers ({kind}).")
    if value.untyped_storage().nbytes() < value.numel() * value.element_size():
        raise WeightsError(f"{quoted(key)} claims more numbers than the file holds.")


def _depths(own: Mapping[str, Tensor]) -> tuple[int, ...]:
    blocks = {(int(match[1]), int(match[2])) for key in own if (match := _BLOCK.match(key))}
    counts = Counter(stage for stage, _ in blocks)
    depths = tuple(counts[stage] for stage in range(max(counts) + 1))
    if 0 in depths or any((s, i) not in blocks for s, depth in enumerate(depths) for i in range(depth)):
        raise WeightsError("it is incomplete: blocks between others are missing.")
    return depths


def _heads_and_window(own: Mapping[str, Tensor], block: str) -> tuple[int, int] | None:
    """Return the number of heads and the window side of a block, or None if no shape determines them."""
    if block + "spatial_mlp.weight" in own:
        mixing = _tensor(own, block + "spatial_mlp.weight", 3)  # (heads * N, N, 1)
        tokens = mixing.shape[1]
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
