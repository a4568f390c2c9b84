"""Weights of Swin V2: the forms in which libraries store queries, keys and values, and the windows of training."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

_SCALE = "attn.logit_scale"
_COORDINATES = "attn.relative_coords_table"


def is_v2(keys: Mapping[str, Tensor]) -> bool:
    """Return whether tensors under our keys are of a Swin V2."""
    return any(key.endswith(_SCALE) for key in keys)


def v2_projections(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors of a Swin V2 with one weight for queries, keys and values, and biases for queries and values.

    torchvision stores one bias and ignores that of the keys; transformers stores three weights. Other tensors are
    returned as they are.
    """
    own = dict(tensors)
    for attention in [key.removesuffix("logit_scale") for key in tensors if key.endswith(_SCALE)]:
        bias = own.get(attention + "qkv.bias")
        if bias is not None and bias.dim() == 1 and len(bias) % 3 == 0:
            own[attention + "q_bias"], _, own[attention + "v_bias"] = own.pop(attention + "qkv.bias").chunk(3)
        parts = [attention + f"{name}.weight" for name in ("query", "key", "value")]
        if all(part in own for part in parts) and len({own[part].shape for part in parts}) == 1:
            own[attention + "qkv.weight"] = torch.cat([own.pop(part) for part in parts])
            for name in ("query", "value"):
                if attention + f"{name}.bias" in own:
                    own[attention + f"{name[0]}_bias"] = own.pop(attention + f"{name}.bias")
    return own


def stored_windows(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, int]]:
    """Return the window of each block and the window that it was trained with, from the coordinates that files store.

    The authors' files and torchvision's store the offsets that the position bias takes, scaled so that the edge of the
    window of training is at 8 before the logarithm.

    Args:
        tensors: of a file, with its buffers, under its own keys.

    Returns:
        `(window, window of training)` in tokens by the name of the attention; empty if the file stores no coordinates.
    """
    windows = {}
    for key, table in tensors.items():
        if not key.endswith(_COORDINATES) or table.dim() != 4 or table.shape[1] < 1:
            continue
        window = (table.shape[1] + 1) // 2
        furthest = float(table.abs().max())
        scaled = 2 ** (furthest * math.log2(8)) - 1
        trained = window if scaled <= 0 else round(8 * (window - 1) / scaled) + 1
        windows[key.removesuffix(_COORDINATES)] = window, trained
    return windows
