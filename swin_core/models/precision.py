"""Precision of matrix products: which devices have bfloat16, and forward passes of many images in it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from swin_core.models.modes import evaluation_mode


def has_bfloat16(device: torch.device) -> bool:
    """Return whether a device has bfloat16 matrix products in hardware; without it, they are slower than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def uses_bfloat16(precision: str, device: torch.device) -> bool:
    """Return whether one of `PRECISIONS` (`swin_core.models.config`) means bfloat16 on a device."""
    return precision == "bfloat16" or (precision == "auto" and has_bfloat16(device))


@contextmanager
def many_images(model: nn.Module, device: torch.device, bfloat16: bool = False) -> Iterator[None]:
    """Set a model up for many images whose logits only count: evaluation mode, no gradients, fast matrix products.

    Args:
        model: its mode is restored afterwards.
        device: of the model.
        bfloat16: multiply in bfloat16; weights, norms and sums stay as they are.
    """
    with evaluation_mode(model), torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
        yield
