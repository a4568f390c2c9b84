"""Attention matrices to compare with: from a model's own unfused softmax, placed by loops that know no windows.py."""

from __future__ import annotations

import copy
from typing import Any

import torch
from reference import randomise
from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class Softmaxes(TorchFunctionMode):
    """Collects what every softmax gives, one a block, and keeps its gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Tensor] = []

    def __torch_function__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = call(*args, **(kwargs or {}))
        if getattr(call, "__name__", "") == "softmax" and not (self.found and result is self.found[-1]):
            result.retain_grad()
            self.found.append(result)
        return result


def softmaxes(model: nn.Module, x: Tensor, targets: Tensor | None = None) -> list[tuple[Tensor, Tensor | None]]:
    """Each block's attention `(B * windows, heads, N, N)` and the logits' gradient at it."""
    model = copy.deepcopy(model).requires_grad_()
    for part in model.modules():
        if hasattr(part, "fused_attn"):
            part.fused_attn = False
    with Softmaxes() as mode:
        logits = model(x)
    if targets is not None:
        logits.gather(1, targets[:, None]).sum().backward()
    return [(one.detach(), one.grad) for one in mode.found]


def token_numbers(grid: tuple[int, int], window: int, shift: int, rolls_first: bool) -> list[list[int | None]]:
    """For each window its tokens' numbers on the map, row by row; None for a padded one."""
    high, wide = grid
    side_h, side_w = min(window, high), min(window, wide)
    step_h, step_w = (shift if high > window else 0), (shift if wide > window else 0)
    full_h, full_w = -(-high // side_h) * side_h, -(-wide // side_w) * side_w
    windows: list[list[int | None]] = []
    for top in range(0, full_h, side_h):
        for left in range(0, full_w, side_w):
            tokens: list[int | None] = []
            for row in range(top, top + side_h):
                for column in range(left, left + side_w):
                    if rolls_first:
                        inside = row < high and column < wide
                        r, c = (row + step_h) % high, (column + step_w) % wide
                    else:
                        r, c = (row + step_h) % full_h, (column + step_w) % full_w
                        inside = r < high and c < wide
                    tokens.append(r * wide + c if inside else None)
            windows.append(tokens)
    return windows


def whole(matrices: Tensor, windows: list[list[int | None]], tokens: int) -> Tensor:
    """One picture's window matrices `(windows, N, N)` as a matrix of all tokens, without padded ones."""
    out = torch.zeros(tokens, tokens, dtype=matrices.dtype)
    for matrix, numbers in zip(matrices, windows, strict=True):
        for n, query in enumerate(numbers):
            for m, key in enumerate(numbers):
                if query is not None and key is not None:
                    out[query, key] = matrix[n, m]
    return out


def timm_swin(**changes: Any) -> SwinTransformer:
    """timm's Swin of the shape of `small()`."""
    shape = {"img_size": 32, "patch_size": 2, "num_classes": 7, "embed_dim": 12, "depths": (2, 2), "num_heads": (2, 3)}
    model = SwinTransformer(**(shape | {"window_size": 4} | changes))
    randomise(model)
    return model.double().eval()


def timm_swin_v2(**changes: Any) -> SwinTransformerV2:
    """timm's second Swin of the same shape."""
    shape = {"img_size": 32, "patch_size": 2, "num_classes": 7, "embed_dim": 12, "depths": (2, 2), "num_heads": (2, 3)}
    model = SwinTransformerV2(**(shape | {"window_size": 4} | changes))
    randomise(model)
    return model.double().eval()


def vit(**changes: Any) -> VisionTransformer:
    shape = {"img_size": 32, "patch_size": 8, "num_classes": 7, "embed_dim": 24, "depth": 3, "num_heads": 3}
    model = VisionTransformer(**(shape | changes))
    randomise(model)
    return model.double().eval()
