"""The token mixer of Swin-MLP, the all-MLP form of Swin (the authors' `swin_mlp.py`)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_core.models.windows import fit_window, pad_to_windows, window_partition, window_reverse


class WindowMLP(nn.Module):
    """Mix the tokens of a window by a learned matrix for each head, in place of attention.

    Windows are shifted by padding at the top and left instead of a cyclic shift, as in the authors' code; padded tokens
    are zeros and add nothing.
    """

    def __init__(self, heads: int, window: int, shift: int):
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        tokens = window * window
        # The shapes of the authors' grouped Conv1d, so that their weights fit.
        self.weight = nn.Parameter(torch.empty(heads * tokens, tokens, 1))
        self.bias = nn.Parameter(torch.zeros(heads * tokens))
        nn.init.trunc_normal_(self.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Mix tokens within windows: `(B, H, W, C)` to `(B, H, W, C)`."""
        _, height, width, channels = x.shape
        shift = fit_window((height, width), self.window, self.shift)[1]
        top, left = (self.window - step if step else 0 for step in shift)
        window = (self.window, self.window)
        x = pad_to_windows(F.pad(x, (0, 0, left, 0, top, 0)), window)
        grid = (x.shape[1], x.shape[2])
        windows = window_partition(x, window)
        tokens = windows.shape[1]
        values = windows.view(-1, tokens, self.heads, channels // self.heads)  # (B * windows, N, heads, d)
        mixing = self.weight.view(self.heads, tokens, tokens)
        mixed = torch.einsum("hnm,bmhd->bnhd", mixing, values) + self.bias.view(self.heads, tokens).t()[..., None]
        x = window_reverse(mixed.reshape(-1, tokens, channels), window, grid)
        return x[:, top : top + height, left : left + width]
