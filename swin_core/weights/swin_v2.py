"""Weights of Swin V2: the forms in which libraries store queries, keys and values, and the windows of training."""

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


def stored_windows(buffers: Mapping[str, Tensor]) -> list[tuple[int, int]]:
    """Return the window of each stage and the window that it was trained with, in tokens; empty if no buffer tells.

    The authors' files and torchvision's store the offsets that the position bias takes, `(1, 2M-1, 2M-1, 2)`. The edge
    of the window of training lies at 8 before the logarithm; see `swin_core.models.swin_v2.log_spaced_offsets`.

    Args:
        buffers: those of a file, under our keys.
    """
    windows: list[tuple[int, int]] = []
    while (table := buffers.get(f"layers.{len(windows)}.blocks.0.{_COORDINATES}")) is not None and table.dim() == 4:
        window = (table.shape[1] + 1) // 2
        furthest = 2 ** (3 * float(table.max())) - 1  # the logarithm's base is 8
        windows.append((window, round(8 * (window - 1) / furthest) + 1 if furthest > 0 else window))
    return windows
