"""A linear layer that takes the fastest road through PyTorch for the device it is on."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Linear", "linear"]

_ONEDNN = torch.backends.mkldnn.is_available()
_DIRECT = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if _ONEDNN else None
_FEW = 1024
"""Tokens up to which rearranging the weights costs a convolution more than the product gains by it."""


class Linear(nn.Linear):
    """`nn.Linear` whose float32 products on a CPU go through oneDNN; see `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """`(..., in)` to `(..., out)`."""
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear`, `(..., in)` to `(..., out)`, whose float32 products on a CPU go through oneDNN.

    PyTorch multiplies float32 matrices on a CPU by MKL, which holds back on processors of other makers; its
    convolutions go through oneDNN, which does not. A linear layer is a convolution with a 1 x 1 kernel over a
    channels-last map of one row, so the same sums run about twice as fast there, forward and backward. Without a
    gradient and with few tokens, oneDNN's own matrix product is called instead: it takes the weights as they lie.
    `scripts/benchmark.py linear` measures it.

    A thread that is alone gets PyTorch's slow convolution for a batch of fewer than 16 maps, so the row is cut.
    """
    narrow = torch.is_autocast_enabled("cpu") or x.dtype != torch.float32 or weight.dtype != torch.float32
    if not _ONEDNN or narrow or x.device.type != "cpu" or x.numel() == 0:
        return F.linear(x, weight, bias)
    learns = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    few = x.numel() <= _FEW * weight.shape[1]
    if few and _DIRECT is not None and not learns and not torch.compiler.is_compiling():
        return _DIRECT(x, weight, bias, "none", [], "")
    rows = _rows(x.numel() // weight.shape[1])
    tokens = x.reshape(rows, 1, -1, weight.shape[1]).permute(0, 3, 1, 2)  # (rows, in, 1, tokens), channels last
    y = F.conv2d(tokens, weight[:, :, None, None], bias)
    return y.permute(0, 2, 3, 1).reshape(*x.shape[:-1], weight.shape[0])


def _rows(tokens: int) -> int:
    """Into how many equal rows to cut some tokens: the fewest from 16 on, or one where no small number divides them."""
    return next((rows for rows in range(16, 65) if tokens % rows == 0), 1)
