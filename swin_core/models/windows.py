"""Geometry of shifted windows as pure functions, without parameters or state.

Feature maps are channels last, `(B, H, W, C)`. `grid`, `window` and `shift` are pairs (vertical, horizontal) in tokens,
since a window shrinks along an axis where the map is smaller. A window has N = window_h * window_w tokens.

A map is padded at the right and bottom to a multiple of the window, then rolled, as in torchvision and the authors'
detection code (timm rolls first). Padded tokens are zeros; they take part as keys, as in those two, and are cut off
after the attention.
"""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

Pair = tuple[int, int]

_CACHE_SIZE = 32
"""Masks and indices to keep. A Swin of four stages needs eight for one image size."""


def fit_window(grid: Pair, window: int, shift: int) -> tuple[Pair, Pair]:
    """Return window and shift for a map of `grid` tokens: `(window_h, window_w)` and `(shift_h, shift_w)`.

    Along an axis where the map is not larger than the window, the window shrinks to the map and nothing is shifted, so
    one window covers the axis. (The authors' code, timm and torchvision do not shift there either; the first two shrink
    the window.)
    """
    window_h, window_w = (min(size, window) for size in grid)
    shift_h, shift_w = (shift if size > window else 0 for size in grid)
    return (window_h, window_w), (shift_h, shift_w)


def pad_to_windows(x: Tensor, window: Pair) -> Tensor:
    """Zero-pad `(B, H, W, C)` at the right and bottom until both sides are multiples of the window."""
    height, width = x.shape[1:3]
    bottom, right = -height % window[0], -width % window[1]
    return F.pad(x, (0, 0, 0, right, 0, bottom)) if bottom or right else x


def window_partition(x: Tensor, window: Pair) -> Tensor:
    """Cut maps `(B, H, W, C)`, with H and W multiples of the window, into windows `(B * windows, N, C)`.

    The windows are ordered by image, row and column.
    """
    batch, height, width, channels = x.shape
    rows, columns = height // window[0], width // window[1]
    x = x.view(batch, rows, window[0], columns, window[1], channels).transpose(2, 3)
    return x.reshape(batch * rows * columns, window[0] * window[1], channels)


def window_reverse(windows: Tensor, window: Pair, grid: Pair) -> Tensor:
    """Assemble windows `(B * windows, N, C)` into maps `(B, H, W, C)`: the inverse of `window_partition`."""
    rows, columns = grid[0] // window[0], grid[1] // window[1]
    channels = windows.shape[-1]
    x = windows.view(-1, rows, columns, window[0], window[1], channels).transpose(2, 3)
    return x.reshape(-1, grid[0], grid[1], channels)


def shift_regions(grid: Pair, shift: Pair, device: torch.device | None = None) -> Tensor:
    """Number the regions that the cyclic shift joins from opposite sides of the map (figure 4).

    Returns integers `(H, W)` on the *shifted* map. Two tokens of a window were neighbours before the shift exactly when
    their numbers agree.
    """
    axes = []
    for size, step in zip(grid, shift, strict=True):
        axis = torch.zeros(size, dtype=torch.long, device=device)
        axis[size - step :] = 1  # rolled in from the other side
        axes.append(axis)
    return axes[0][:, None] * 2 + axes[1][None, :]


@lru_cache(maxsize=_CACHE_SIZE)
def shift_mask(grid: Pair, window: Pair, shift: Pair, device: torch.device | None = None) -> Tensor | None:
    """Return the additive mask of SW-MSA (section 3.2, "efficient batch computation for shifted configuration").

    `grid` is that of the padded map. Returns `(windows, N, N)` float32: 0 for neighbours, minus infinity for tokens
    that only the shift brought together; None without a shift. It is cached and shared, so do not change it.
    """
    if not any(shift):
        return None
    with torch.inference_mode(False):  # a backward pass may use a mask that was cached during inference
        regions = shift_regions(grid, shift, device)[None, :, :, None]
        regions = window_partition(regions, window).squeeze(-1)  # (windows, N)
        apart = regions[:, None, :] != regions[:, :, None]
        return torch.zeros(apart.shape, device=device).masked_fill_(apart, float("-inf"))


@lru_cache(maxsize=_CACHE_SIZE)
def relative_position_index(window: Pair, table_window: int, device: torch.device | None = None) -> Tensor:
    """Return the row of the bias table for each pair of tokens, `(N, N)` as `[query, key]` (section 3.2, eq. 4).

    `table_window` is the window size M of the table, which has `(2M-1)^2` rows; the window is at most as large. The
    index is cached and shared, so do not change it.
    """
    with torch.inference_mode(False):
        rows = torch.arange(window[0], device=device)[:, None].expand(window).flatten()
        columns = torch.arange(window[1], device=device).repeat(window[0])
        down = rows[:, None] - rows[None, :] + table_window - 1
        right = columns[:, None] - columns[None, :] + table_window - 1
        return down * (2 * table_window - 1) + right
