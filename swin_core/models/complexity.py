"""What attention costs: equations 1 and 2 of the paper, and the same counted by PyTorch.

The equations count multiply-adds of the matrix products: queries, keys and values (3 h w C^2), the scores, the mix of
the values, and the projection behind them (h w C^2). Softmax, biases and the mask are left out on both sides. PyTorch
counts two FLOPs for each multiply-add.
"""

import torch
from torch.utils.flop_counter import FlopCounterMode

from swin_core.errors import ConfigError
from swin_core.models.swin import WindowAttention
from swin_core.models.windows import Pair, fit_window

__all__ = ["FLOPS_PER_MULTIPLY_ADD", "count_flops", "msa_complexity", "padded_grid", "window_msa_complexity"]

FLOPS_PER_MULTIPLY_ADD = 2
"""How PyTorch counts: a product and a sum."""


def msa_complexity(grid: Pair, channels: int) -> int:
    """Global attention, in which every token sees every other (eq. 1): `4 h w C^2 + 2 (h w)^2 C`.

    Args:
        grid: `(h, w)` in tokens.
        channels: width C of a token.

    Returns:
        Multiply-adds.

    Raises:
        ConfigError: a number below 1.
    """
    _check(*grid, channels)
    tokens = grid[0] * grid[1]
    return 4 * tokens * channels**2 + 2 * tokens**2 * channels


def window_msa_complexity(grid: Pair, channels: int, window: int) -> int:
    """Attention within windows of M x M tokens (eq. 2): `4 h w C^2 + 2 M^2 h w C`.

    On a grid that windows do not divide, h and w are those of the padded grid, and along a side shorter than M the
    window shrinks to it: this is what runs, and what PyTorch counts.

    Args:
        grid: `(h, w)` in tokens.
        channels: width C of a token.
        window: side M of a window in tokens.

    Returns:
        Multiply-adds.

    Raises:
        ConfigError: a number below 1.
    """
    _check(*grid, channels, window)
    (high, wide), _ = fit_window(grid, window, 0)
    height, width = padded_grid(grid, window)
    return 4 * height * width * channels**2 + 2 * high * wide * height * width * channels


def padded_grid(grid: Pair, window: int) -> Pair:
    """The grid with what is added at the right and bottom so that whole windows fill it."""
    (high, wide), _ = fit_window(grid, window, 0)
    return -(-grid[0] // high) * high, -(-grid[1] // wide) * wide


def count_flops(grid: Pair, channels: int, heads: int, window: int | None) -> int:
    """FLOPs that PyTorch counts for one image in our `WindowAttention`; no memory is used and nothing computed.

    Args:
        grid: `(h, w)` in tokens.
        channels: width C of a token, a multiple of `heads`.
        heads: heads of the attention; they do not change the count.
        window: side M of a window; None for a window that is the whole grid.

    Raises:
        ConfigError: a number below 1.
    """
    side = max(grid) if window is None else window
    _check(*grid, channels, heads, side)
    # Tensors of the meta device have a shape and no values. The bias is an addition, which neither side counts.
    attention = WindowAttention(channels, heads, side, 0, qkv_bias=True, position_bias=False).to("meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        attention(torch.empty(1, *grid, channels, device="meta"))
    return int(counter.get_total_flops())


def _check(*numbers: int) -> None:
    if min(numbers) < 1:
        raise ConfigError(f"grid, channels, heads and window must be at least 1, not {min(numbers)}.")
