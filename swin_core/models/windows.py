"""Geometry of shifted windows as pure functions, without parameters or state.

Feature maps are channels last, `(B, H, W, C)`. `grid`, `window` and `shift` are pairs (vertical, horizontal) in tokens,
since a window shrinks along an axis where the map is smaller. A window has N = window_h * window_w tokens.

A map is padded at the right and bottom to a multiple of the window, then rolled, as in torchvision and the authors'
detection code (timm rolls first). Padded tokens are zeros; they take part as keys, as in those two, and are cut off
after the attention.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, wraps
from typing import Any, ParamSpec, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

Pair = tuple[int, int]

_CACHE_SIZE = 32
"""Masks and indices to keep. A Swin of four stages needs eight for one image size."""

P = ParamSpec("P")
R = TypeVar("R")


def kept(function: Callable[P, R]) -> Callable[P, R]:
    """Keep the last results of a function that makes tensors from sizes; compiled code computes them in its graph."""
    cached = lru_cache(maxsize=_CACHE_SIZE)(function)

    @wraps(function)
    def call(*sizes: P.args, **named: P.kwargs) -> R:
        if torch.compiler.is_compiling():
            return function(*sizes, **named)
        with torch.inference_mode(False):  # a backward pass may use a tensor that was kept during inference
            return cached(*sizes, **named)  # type: ignore[arg-type]

    return call


def sizes_vary() -> bool:
    """Return whether code is compiled for maps of any size, so that it must not branch on sizes."""
    return torch.compiler.is_dynamo_compiling()


def fit_window(grid: Pair, window: int, shift: int) -> tuple[Pair, Pair]:
    """Return window and shift for a map of `grid` tokens: `(window_h, window_w)` and `(shift_h, shift_w)`.

    Along an axis where the map is not larger than the window, the window shrinks to the map and nothing is shifted, so
    one window covers the axis. (The authors' code, timm and torchvision do not shift there either; the first two shrink
    the window.)
    """
    window_h, window_w = (min(size, window) for size in grid)
    shift_h, shift_w = (shift if size > window else 0 for size in grid)
    return (window_h, window_w), (shift_h, shift_w)


def to_windows(x: Tensor, window: Pair, shift: Pair) -> Tensor:
    """Pad maps `(B, H, W, C)`, shift them and cut them into windows `(B * windows, N, C)`, in one pass over the memory.

    It equals `pad_to_windows`, `torch.roll` and `window_partition`. The windows are ordered by image, row and column.
    """
    order = window_order((x.shape[1], x.shape[2]), window, shift, x.device)
    windows: Tensor = _ToWindows.apply(x.flatten(1, 2), *order)
    return windows.reshape(-1, window[0] * window[1], x.shape[3])


def from_windows(windows: Tensor, size: Pair, window: Pair, shift: Pair) -> Tensor:
    """Assemble windows `(B * windows, N, C)` into maps of `size`, `(B, H, W, C)`: the inverse of `to_windows`."""
    order = window_order(size, window, shift, windows.device)
    channels = windows.shape[-1]
    tokens: Tensor = _FromWindows.apply(windows.reshape(-1, order[0].shape[0], channels), *order)
    return tokens.unflatten(1, size)


class _ToWindows(torch.autograd.Function):
    """Tokens `(B, H * W, C)` in the order of the windows, zero where a window is padded.

    Its gradient is `_FromWindows`, and that one's is this. PyTorch's own gradient of an index adds up, although each
    token occurs once, which is slow.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(tokens: Tensor, order: Tensor, places: Tensor, padded: Tensor | None) -> Tensor:
        windows = tokens.index_select(1, order)
        return windows if padded is None else windows.masked_fill(padded, 0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        return _FromWindows.apply(gradients[0], *ctx.saved_tensors), None, None, None


class _FromWindows(torch.autograd.Function):
    """Tokens in the order of the windows as `(B, H * W, C)`, without those of the padding."""

    generate_vmap_rule = True

    @staticmethod
    def forward(windows: Tensor, order: Tensor, places: Tensor, padded: Tensor | None) -> Tensor:
        return windows.index_select(1, places)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        return _ToWindows.apply(gradients[0], *ctx.saved_tensors), None, None, None


def padded_size(size: Pair, window: Pair) -> Pair:
    """Return the sides of a map after `pad_to_windows`."""
    height, width = (-(-length // side) * side for length, side in zip(size, window, strict=True))
    return height, width


def _steps(size: Pair, window: Pair, shift: Pair, device: torch.device | None) -> Sequence[int | Tensor]:
    """Return the shift of each axis; in a compiled graph as tensors, 0 where the map is not larger than the window."""
    if not sizes_vary():
        return shift
    lengths = [torch.full((), length, device=device) for length in size]
    return [(length > side) * step for length, side, step in zip(lengths, window, shift, strict=True)]


@kept
def window_order(size: Pair, window: Pair, shift: Pair, device: torch.device) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return which token of a map stands where in its windows, and back.

    Returns:
        For each place in the windows the index of its token on the map, or 0 in the padding; for each token of the map
        its place; and which places are padding, `(places, 1)` bool, or None. They are kept and shared, so do not change
        them.
    """
    height, width = padded_size(size, window)
    down, right = _steps(size, window, shift, device)
    rows = (torch.arange(height, device=device) + down) % height
    columns = (torch.arange(width, device=device) + right) % width
    tokens = window_partition((rows[:, None] * size[1] + columns)[None, :, :, None], window).flatten()
    padding = (rows >= size[0])[:, None] | (columns >= size[1])
    padding = window_partition(padding[None, :, :, None], window).flatten()
    places = torch.arange(height * width, device=device).view(-1, window[0] * window[1], 1)
    places = window_reverse(places, window, (height, width))[0, :, :, 0]
    rows = (torch.arange(size[0], device=device) - down) % height
    columns = (torch.arange(size[1], device=device) - right) % width
    places = places[rows][:, columns].flatten()
    if not sizes_vary() and size == (height, width):
        return tokens, places, None
    return tokens.masked_fill(padding, 0), places, padding[:, None]


def pad_to_windows(x: Tensor, window: Pair) -> Tensor:
    """Zero-pad `(B, H, W, C)` at the right and bottom until both sides are multiples of the window."""
    size = (x.shape[1], x.shape[2])
    height, width = padded_size(size, window)
    if sizes_vary():  # `F.pad` would compile a graph for sizes with padding and one for those without
        return window_reverse(to_windows(x, window, (0, 0)), window, (height, width))
    return F.pad(x, (0, 0, 0, width - size[1], 0, height - size[0])) if size != (height, width) else x


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


def shift_regions(grid: Pair, shift: Sequence[int | Tensor], device: torch.device | None = None) -> Tensor:
    """Number the regions that the cyclic shift joins from opposite sides of the map (figure 4).

    Returns integers `(H, W)` on the *shifted* map. Two tokens of a window were neighbours before the shift exactly when
    their numbers agree.
    """
    # 1 where tokens were rolled in from the other side.
    rows, columns = (
        (torch.arange(size, device=device) >= size - step).long() for size, step in zip(grid, shift, strict=True)
    )
    return rows[:, None] * 2 + columns[None, :]


@kept
def shift_mask(size: Pair, window: Pair, shift: Pair, device: torch.device | None = None) -> Tensor | None:
    """Return the additive mask of SW-MSA (section 3.2, "efficient batch computation for shifted configuration").

    `size` is that of the map, padded or not. Returns `(windows, N, N)` float32: 0 for neighbours, minus infinity for
    tokens that only the shift brought together; None without a shift. It is kept and shared, so do not change it.
    """
    if not any(shift):
        return None
    regions = shift_regions(padded_size(size, window), _steps(size, window, shift, device), device)
    regions = window_partition(regions[None, :, :, None], window).squeeze(-1)
    apart = regions[:, None, :] != regions[:, :, None]  # (windows, N, N)
    return torch.zeros(apart.shape, device=device).masked_fill(apart, float("-inf"))


def outside_mask(size: Pair, window: Pair, device: torch.device) -> Tensor:
    """Return the additive mask that shrinks the window of a compiled graph to a smaller map, `(N,)` for the keys.

    0 on the map, minus infinity beyond its end along an axis where it is smaller than the window; all 0 on other maps.
    """
    rows, columns = (
        torch.arange(side, device=device) >= torch.full((), length, device=device)
        for length, side in zip(size, window, strict=True)
    )
    outside = rows[:, None] | columns
    return torch.zeros(outside.shape, device=device).masked_fill(outside, float("-inf")).flatten()


@kept
def relative_position_index(window: Pair, table_window: int, device: torch.device | None = None) -> Tensor:
    """Return the row of the bias table for each pair of tokens, `(N, N)` as `[query, key]` (section 3.2, eq. 4).

    `table_window` is the window size M of the table, which has `(2M-1)^2` rows; the window is at most as large. The
    index is cached and shared, so do not change it.
    """
    rows = torch.arange(window[0], device=device)[:, None].expand(window).flatten()
    columns = torch.arange(window[1], device=device).repeat(window[0])
    down = rows[:, None] - rows[None, :] + table_window - 1
    right = columns[:, None] - columns[None, :] + table_window - 1
    return down * (2 * table_window - 1) + right
