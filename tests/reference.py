"""Slow, plain implementations to compare the fast ones with, and random weights that hide no mistake."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from swin_core.model import Swin, SwinConfig, WindowAttention, WindowMLP

SMALL = SwinConfig(
    image_size=32, patch_size=2, num_classes=7, embed_dim=12, depths=(2, 2), num_heads=(2, 3), window_size=4
)


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Fill every parameter with random numbers: no bias, table or norm is neutral, as it is when initialised.

    Matrices keep the size of their input; biases, tables and the deviations of norms are large.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(generator=generator)
            if "bias_table" in name or "pos_embed" in name:
                continue
            fan_in = parameter[0].numel() if parameter.dim() > 1 else 25
            parameter.mul_(fan_in**-0.5)
            if parameter.dim() == 1 and name.endswith("weight"):
                parameter.add_(1)
    return model


def small(**changes: Any) -> Swin:
    """A Swin of 32 x 32 pixels with random weights; both stages shift their windows."""
    model = Swin(replace(SMALL, **changes))
    randomise(model)
    return model.eval()


def relative_error(mine: torch.Tensor, theirs: torch.Tensor) -> float:
    """The length of the difference over the length of `theirs`."""
    return float(((mine - theirs).norm() / theirs.norm()).detach())


def naive_attention(module: WindowAttention, x: np.ndarray) -> np.ndarray:
    """Window attention of one map `(H, W, C)`, token by token in float64, without roll, partition or mask.

    A token sees those of its window that stand to it on the map as they do in the window: the shift then
    brought neither of them round the edge.
    """
    height, width, channels = x.shape
    side_h, side_w = min(module.window, height), min(module.window, width)
    step_h = module.shift if height > module.window else 0
    step_w = module.shift if width > module.window else 0
    full_h, full_w = -(-height // side_h) * side_h, -(-width // side_w) * side_w
    padded = np.zeros((full_h, full_w, channels))
    padded[:height, :width] = x

    def array(parameter: torch.Tensor | None) -> np.ndarray | float:
        return 0.0 if parameter is None else parameter.detach().double().numpy()

    qkv = padded @ array(module.qkv.weight).T + array(module.qkv.bias)
    heads, depth = module.heads, channels // module.heads
    q, k, v = (qkv[..., i * channels : (i + 1) * channels].reshape(full_h, full_w, heads, depth) for i in range(3))
    mixed = np.zeros((height, width, heads, depth))
    for row in range(height):
        for column in range(width):
            keys = list(_neighbours((row, column), (full_h, full_w), (side_h, side_w), (step_h, step_w)))
            for head in range(heads):
                scores = np.array([q[row, column, head] @ k[r, c, head] for r, c in keys]) / np.sqrt(depth)
                if module.relative_position_bias_table is not None:
                    table = array(module.relative_position_bias_table)
                    side = 2 * module.window - 1
                    middle = module.window - 1
                    for n, (r, c) in enumerate(keys):
                        scores[n] += table[(row - r + middle) * side + column - c + middle, head]
                weights = np.exp(scores - scores.max())
                weights /= weights.sum()
                mixed[row, column, head] = sum(w * v[r, c, head] for w, (r, c) in zip(weights, keys, strict=True))
    return mixed.reshape(height, width, channels) @ array(module.proj.weight).T + array(module.proj.bias)


def _neighbours(
    token: tuple[int, int], grid: tuple[int, int], window: tuple[int, int], shift: tuple[int, int]
) -> Iterator[tuple[int, int]]:
    """The tokens that `token` may attend to, itself included."""
    here = [(token[axis] - shift[axis]) % grid[axis] for axis in range(2)]
    for r in range(grid[0]):
        for c in range(grid[1]):
            there = [((r, c)[axis] - shift[axis]) % grid[axis] for axis in range(2)]
            same = all(here[axis] // window[axis] == there[axis] // window[axis] for axis in range(2))
            near = all(here[axis] - there[axis] == token[axis] - (r, c)[axis] for axis in range(2))
            if same and near:
                yield r, c


def naive_window_mlp(module: WindowMLP, x: np.ndarray) -> np.ndarray:
    """Swin-MLP's mixing of one map `(H, W, C)`, token by token in float64, without padding.

    Windows start at the shift minus a window when shifted; tokens outside the map add nothing.
    """
    height, width, channels = x.shape
    side, heads = module.window, module.heads
    depth = channels // heads
    weight = module.weight.detach().double().numpy().reshape(heads, side * side, side * side)
    bias = module.bias.detach().double().numpy().reshape(heads, side * side)
    start_h = module.shift if height > side else 0
    start_w = module.shift if width > side else 0
    out = np.zeros_like(x)
    for row in range(height):
        for column in range(width):
            top = (row - start_h) // side * side + start_h
            left = (column - start_w) // side * side + start_w
            mine = (row - top) * side + column - left
            for head in range(heads):
                part = slice(head * depth, (head + 1) * depth)
                out[row, column, part] = bias[head, mine]
                for r in range(max(top, 0), min(top + side, height)):
                    for c in range(max(left, 0), min(left + side, width)):
                        out[row, column, part] += weight[head, mine, (r - top) * side + c - left] * x[r, c, part]
    return out


def authors_window_mlp(module: WindowMLP, x: torch.Tensor) -> torch.Tensor:
    """The mixing as the authors' `swin_mlp.py` states it, with a grouped Conv1d.

    `x`: `(B, H, W, C)`, sides multiples of the window.
    """
    batch, height, width, channels = x.shape
    side, heads, shift = module.window, module.heads, module.shift
    tokens = side * side
    mixing = nn.Conv1d(heads * tokens, heads * tokens, 1, groups=heads).to(x.dtype)
    mixing.load_state_dict(module.state_dict())
    top = left = side - shift
    if shift:
        x = nn.functional.pad(x, (0, 0, left, shift, top, shift))
    rows, columns = x.shape[1] // side, x.shape[2] // side
    windows = x.view(batch, rows, side, columns, side, channels).permute(0, 1, 3, 2, 4, 5)
    windows = windows.reshape(-1, tokens, heads, channels // heads).transpose(1, 2)
    mixed = mixing(windows.reshape(-1, heads * tokens, channels // heads))
    mixed = mixed.view(-1, heads, tokens, channels // heads).transpose(1, 2)
    mixed = mixed.reshape(batch, rows, columns, side, side, channels).permute(0, 1, 3, 2, 4, 5)
    mixed = mixed.reshape(batch, rows * side, columns * side, channels)
    return mixed[:, top : top + height, left : left + width] if shift else mixed
