"""Key layouts of Swin weights, and the config that a set of weights implies.

Our keys are those of the authors' repository. The tables of `LAYOUTS` map the keys of other libraries to them. To
support another library, add its table.
"""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from swin_core.errors import WeightsError
from swin_core.weights.swin_v2 import is_v2, v2_projections
from swin_core.weights.unwrap import find_state, namings

# Computed from the window, so they are dropped.
_BUFFERS = ("relative_position_index", "attn_mask", "relative_coords_table")
_NUMBERS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_MAX_STAGES = 16

BLOCK = re.compile(r"layers\.(\d{1,3})\.blocks\.(\d{1,3})\.")
_OWN_KEY = re.compile(
    r"(patch_embed\.(proj|norm)|layers\.\d+\.blocks\.\d+\.(norm[12]|attn|mlp\.fc[12]|spatial_mlp)"
    r"|layers\.\d+\.downsample\.(norm|reduction)|norm)\..+|head\.(weight|bias)|absolute_pos_embed"
)


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
    rearrange: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None
    """Rearranges renamed tensors that the library stores in another order or in parts."""


def _join_qkv(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Join the separate queries, keys and values of `transformers` to one layer; `v2_projections` does so for V2."""
    tensors = {key: value for key, value in tensors.items() if not key.endswith("embeddings.mask_token")}
    if is_v2(tensors):
        return tensors
    joined: dict[str, Tensor] = {}
    for key, value in tensors.items():
        block, name, end = key.rpartition(".attn.query.")
        if name:
            parts = [tensors.get(f"{block}.attn.{part}.{end}") for part in ("key", "value")]
            if any(part is None or part.shape != value.shape for part in parts):
                raise WeightsError(f"it is incomplete: {quoted(key)} has no keys and values of its shape.")
            joined[f"{block}.attn.qkv.{end}"] = torch.cat([value, *parts])  # type: ignore[list-item]
        elif not re.search(r"\.attn\.(key|value)\.", key):
            joined[key] = value
    return joined


def _from_unfold(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Reorder patch merging from `nn.Unfold`'s order, and name the norm after the last stage.

    OpenMMLab's merging sorts by channel, then by row and column of the neighbourhood; the authors' by column, row, and
    channel.
    """
    stages = [int(match[1]) for key in tensors if (match := BLOCK.match(key))]
    last_norm = f"norm{max(stages, default=0)}."
    result: dict[str, Tensor] = {}
    for key, value in tensors.items():
        if ".downsample." in key and value.dim() in (1, 2) and value.shape[-1] % 4 == 0:
            by_place = value.unflatten(-1, (-1, 2, 2)).transpose(-3, -1)  # (..., column, row, C)
            value = by_place.flatten(-3)
        result[key.replace(last_norm, "norm.", 1) if key.startswith(last_norm) else key] = value
    return result


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
    KeyLayout(  # Hugging Face
        "transformers",
        lambda keys: any(".attention.self.query." in key or ".attention.q_proj." in key for key in keys),
        {
            f"{start}{theirs}": ours
            for start in ("swin.", "swinv2.", "")  # without it in a file of the backbone alone
            for theirs, ours in {
                "embeddings.patch_embeddings.projection.": "patch_embed.proj.",
                "embeddings.norm.": "patch_embed.norm.",
                "encoder.layers.": "layers.",
                "layernorm.": "norm.",
            }.items()
        }
        | {
            ".attention.self.continuous_position_bias_mlp.": ".attn.cpb_mlp.",
            ".layernorm_before.": ".norm1.",
            ".layernorm_after.": ".norm2.",
            ".attention.self.": ".attn.",
            ".attention.output.dense.": ".attn.proj.",
            # Names inside the model from transformers 5 on; `save_pretrained` writes those above.
            ".attention.q_proj.": ".attn.query.",
            ".attention.k_proj.": ".attn.key.",
            ".attention.v_proj.": ".attn.value.",
            ".attention.o_proj.": ".attn.proj.",
            ".attention.relative_position_bias.": ".attn.",
            ".intermediate.dense.": ".mlp.fc1.",
            ".output.dense.": ".mlp.fc2.",
            "classifier.": "head.",
        },
        _join_qkv,
    ),
    KeyLayout(  # mmpretrain and mmdet
        "openmmlab",
        lambda keys: any(".attn.w_msa." in key for key in keys),
        {
            "patch_embed.projection.": "patch_embed.proj.",
            "stages.{stage}.": "layers.{stage}.",
            ".attn.w_msa.": ".attn.",
            ".ffn.layers.0.0.": ".mlp.fc1.",
            ".ffn.layers.1.": ".mlp.fc2.",
            "head.fc.": "head.",
        },
        _from_unfold,
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
        state: content of a file: tensors by key, possibly inside other dictionaries and with prefixes of wrappers.

    Returns:
        The tensors under our keys, and the layout: the name of one of `LAYOUTS`, "own", or "microsoft". The last is the
        authors': our keys, and index and mask buffers.

    Raises:
        WeightsError: the keys are not those of a Swin, or a value is not a tensor.
    """
    own, layout, _ = convert_with_buffers(state)
    return own, layout


def convert_with_buffers(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], str, dict[str, Tensor]]:
    """Return the tensors under our keys, the layout, and the buffers under our keys."""
    tensors = find_state(state).tensors
    first_fit = None
    for naming in namings(tensors):
        own, layout, buffers = _renamed(naming)
        if "patch_embed.proj.weight" not in own or not any(BLOCK.match(key) for key in own):
            continue
        first_fit = first_fit or (own, layout, buffers)
        if all(map(_OWN_KEY.fullmatch, own)):
            break
    else:
        if first_fit is None:
            first = next(iter(tensors), "none")
            raise WeightsError(f"its keys are not those of a Swin (the first is {quoted(first)}).")
        own, layout, buffers = first_fit  # its message then names a key that the file has
    for key, value in own.items():
        _check_dense(key, value)
    return own, layout, buffers


def other_layer(state: Mapping[str, Any]) -> str:
    """Return the key of a layer beside those of a Swin, such as one of a head of several layers; empty if none is."""
    own, _ = convert(state)
    return next((key for key in own if not _OWN_KEY.fullmatch(key)), "")


def _renamed(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str, dict[str, Tensor]]:
    layout = next((layout for layout in LAYOUTS if layout.matches(tensors)), None)
    named = tensors if layout is None else _rename(tensors, layout)
    own = _with_head(v2_projections({key: value for key, value in named.items() if not key.endswith(_BUFFERS)}))
    buffers = {key: value for key, value in named.items() if key.endswith(_BUFFERS)}
    if layout is None:
        return own, "microsoft" if buffers else "own", buffers
    return own, layout.name, buffers


def _rename(tensors: Mapping[str, Tensor], layout: KeyLayout) -> dict[str, Tensor]:
    ours: dict[str, str] = {}
    for stage in range(_MAX_STAGES):
        numbers = {"stage": stage, "next": stage + 1, "odd": 2 * stage + 1, "even": 2 * stage + 2}
        ours |= {theirs.format(**numbers): own.format(**numbers) for theirs, own in layout.keys.items()}
    parts = re.compile("|".join(("" if part.startswith(".") else "^") + re.escape(part) for part in ours))
    renamed = {parts.sub(lambda match: ours[match[0]], key): value for key, value in tensors.items()}
    if layout.rearrange is None:
        return renamed
    for key, value in renamed.items():
        if not key.endswith(_BUFFERS):
            _check_dense(key, value)
    return layout.rearrange(renamed)


def _with_head(own: dict[str, Tensor]) -> dict[str, Tensor]:
    """Name the head as ours if it is the only layer with another name, as of a classifier around a backbone."""
    other = {key: value for key, value in own.items() if not _OWN_KEY.fullmatch(key)}
    weight = next((key for key, value in other.items() if key.endswith("weight") and value.dim() == 2), "")
    bias = weight.removesuffix("weight") + "bias"
    width = own["norm.weight"].shape if "norm.weight" in own else None
    if not weight or set(other) - {weight, bias} or "head.weight" in own or other[weight].shape[1:] != width:
        return own
    head = {"head.weight": other[weight], "head.bias": other.get(bias, torch.zeros(other[weight].shape[0]))}
    return {key: value for key, value in own.items() if key not in other} | head


def quoted(key: object) -> str:
    """Quote a key from a file for a message, in one line of at most 80 characters."""
    text = repr(key)
    return text if len(text) <= 80 else text[:77] + "..."


def _check_dense(key: str, value: Tensor) -> None:
    """Raise unless a tensor is a dense array of real numbers that are all in the file."""
    if value.dtype not in _NUMBERS or value.layout != torch.strided or value.is_meta:
        kind = str(value.dtype).removeprefix("torch.")
        raise WeightsError(f"{quoted(key)} is no dense array of real numbers ({kind}).")
    if value.untyped_storage().nbytes() < value.numel() * value.element_size():
        raise WeightsError(f"{quoted(key)} claims more numbers than the file holds.")
