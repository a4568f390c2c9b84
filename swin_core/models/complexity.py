"""Complexity of attention: equations 1 and 2 of the paper. PyTorch's own count of the same products is equal.

The equations count multiply-adds of the matrix products: queries, keys and values (3 h w C^2), the scores, the weighted
sum of the values, and the projection (h w C^2). Softmax, biases and the mask are not counted. PyTorch counts two FLOPs
for each multiply-add, as the tests confirm; its counter is not used here, since it loads 70 MB of packages.

`grid` is `(h, w)` in tokens, `channels` the width C of a token, `window` the side M of a window in tokens. The
functions raise `ConfigError` for numbers below 1.
"""

from swin_core.errors import ConfigError
from swin_core.models.windows import Pair, fit_window, padded_size


def msa_complexity(grid: Pair, channels: int) -> int:
    """Return the multiply-adds of global attention (eq. 1): `4 h w C^2 + 2 (h w)^2 C`."""
    _check_positive(*grid, channels)
    tokens = grid[0] * grid[1]
    return 4 * tokens * channels**2 + 2 * tokens**2 * channels


def window_msa_complexity(grid: Pair, channels: int, window: int) -> int:
    """Return the multiply-adds of attention within windows of M x M tokens (eq. 2): `4 h w C^2 + 2 M^2 h w C`.

    Where windows do not divide the grid, h and w are those of the padded grid; along a side shorter than M the window
    shrinks to it. This is what the model computes and PyTorch counts.
    """
    _check_positive(*grid, channels, window)
    (window_h, window_w), _ = fit_window(grid, window, 0)
    height, width = padded_grid(grid, window)
    return 4 * height * width * channels**2 + 2 * window_h * window_w * height * width * channels


def padded_grid(grid: Pair, window: int) -> Pair:
    """Return the size of a grid that is padded at the right and bottom to whole windows."""
    return padded_size(grid, fit_window(grid, window, 0)[0])


def _check_positive(*numbers: int) -> None:
    if min(numbers) < 1:
        raise ConfigError(f"grid, channels, heads and window must be at least 1, not {min(numbers)}.")
