"""A linear layer that takes the fastest road through PyTorch for the device it is on."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Linear", "linear", "linear_gelu"]

_ONEDNN = torch.backends.mkldnn.is_available()
_DIRECT = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if _ONEDNN else None
_CONVOLUTION = getattr(torch.ops.mkldnn, "_convolution_pointwise", None) if _ONEDNN else None
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
    if not _by_onednn(x, weight):
        return F.linear(x, weight, bias)
    learns = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    if _few(x) and _DIRECT is not None and not learns and not torch.compiler.is_compiling():
        return _DIRECT(x, weight, bias, "none", [], "")
    return _as_tokens(F.conv2d(_as_map(x), weight[:, :, None, None], bias), x)


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """GELU (Hendrycks and Gimpel 2016, with the exact erf) of `linear`, `(..., in)` to `(..., out)`.

    Without a gradient, oneDNN applies it to the sums while they are in the cache; the wide map of an MLP is then
    written once and not read again.
    """
    quiet = not (torch.is_grad_enabled() or torch.compiler.is_compiling())
    if not quiet or _DIRECT is None or _CONVOLUTION is None or not _by_onednn(x, weight):
        return F.gelu(linear(x, weight, bias))
    if _few(x):
        return _DIRECT(x, weight, bias, "gelu", [], "none")
    kernel = weight[:, :, None, None]
    return _as_tokens(_CONVOLUTION(_as_map(x), kernel, bias, [0, 0], [1, 1], [1, 1], 1, "gelu", [], "none"), x)


def _by_onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether it is a float32 product on a CPU."""
    narrow = torch.is_autocast_enabled("cpu") or x.dtype != torch.float32 or weight.dtype != torch.float32
    return _ONEDNN and not narrow and x.device.type == "cpu" and x.numel() > 0


def _few(x: Tensor) -> bool:
    return x.numel() <= _FEW * x.shape[-1]


def _as_map(x: Tensor) -> Tensor:
    """Tokens `(..., in)` as a channels-last map, `(rows, in, 1, tokens)`."""
    return x.reshape(_rows(x.numel() // x.shape[-1]), 1, -1, x.shape[-1]).permute(0, 3, 1, 2)


def _as_tokens(y: Tensor, x: Tensor) -> Tensor:
    """The map of the tokens x, `(rows, out, 1, tokens)`, as tokens, `(..., out)`."""
    return y.permute(0, 2, 3, 1).reshape(*x.shape[:-1], y.shape[1])


def _rows(tokens: int) -> int:
    """Into how many equal rows to cut some tokens: the fewest from 16 on, or one where no small number divides them."""
    return next((rows for rows in range(16, 65) if tokens % rows == 0), 1)
