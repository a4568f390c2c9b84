"""Linear layers that send float32 matrix products on CPUs to oneDNN."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_ONEDNN = torch.backends.mkldnn.is_available()
_LINEAR = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if _ONEDNN else None
_CONVOLUTION = getattr(torch.ops.mkldnn, "_convolution_pointwise", None) if _ONEDNN else None
_MAX_TOKENS = 1024
"""Tokens up to which a convolution loses more by reordering the weights than it gains."""


class Linear(nn.Linear):
    """`nn.Linear` that sends float32 products on CPUs to oneDNN; see `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """`(..., in)` to `(..., out)`."""
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear`, `(..., in)` to `(..., out)`, that sends float32 products on CPUs to oneDNN.

    PyTorch multiplies float32 matrices on CPUs with MKL, which is slow on processors of other makers than Intel;
    convolutions use oneDNN, which is not. A linear layer equals a 1 x 1 convolution of a channels-last map, which runs
    about twice as fast there, forward and backward. Without gradients and with few tokens, oneDNN's own matrix product
    is called, which does not reorder the weights. `scripts/benchmark.py linear` measures all three.
    """
    if not _use_onednn(x, weight):
        return F.linear(x, weight, bias)
    needs_grad = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    if _few_tokens(x) and _LINEAR is not None and not needs_grad:
        return _LINEAR(x, weight, bias, "none", [], "")
    return _map_to_tokens(F.conv2d(_tokens_to_map(x), weight[:, :, None, None], bias), x)


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """GELU (Hendrycks and Gimpel 2016, with the exact erf) of `linear`, `(..., in)` to `(..., out)`.

    Without gradients oneDNN applies GELU while the sums are in the cache, so the wide map of an MLP is written once and
    not read again.
    """
    if torch.is_grad_enabled() or _LINEAR is None or _CONVOLUTION is None or not _use_onednn(x, weight):
        return F.gelu(linear(x, weight, bias))
    if _few_tokens(x):
        return _LINEAR(x, weight, bias, "gelu", [], "none")
    kernel = weight[:, :, None, None]
    y = _CONVOLUTION(_tokens_to_map(x), kernel, bias, [0, 0], [1, 1], [1, 1], 1, "gelu", [], "none")
    return _map_to_tokens(y, x)


def _use_onednn(x: Tensor, weight: Tensor) -> bool:
    if torch.compiler.is_compiling():  # compilers and other runtimes have kernels for plain linear layers
        return False
    float32 = x.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return _ONEDNN and float32 and x.device.type == "cpu" and x.numel() > 0


def _few_tokens(x: Tensor) -> bool:
    return x.numel() <= _MAX_TOKENS * x.shape[-1]


def _tokens_to_map(x: Tensor) -> Tensor:
    """Tokens `(..., in)` as a channels-last map, `(rows, in, 1, tokens)`.

    In a single thread PyTorch's convolution is slow for a batch below 16, so the tokens are cut into the fewest equal
    rows from 16 on, or left as one where no small number divides them.
    """
    tokens = x.numel() // x.shape[-1]
    rows = next((rows for rows in range(16, 65) if tokens % rows == 0), 1)
    return x.reshape(rows, 1, -1, x.shape[-1]).permute(0, 3, 1, 2)


def _map_to_tokens(y: Tensor, x: Tensor) -> Tensor:
    """The map of the tokens x, `(rows, out, 1, tokens)`, as tokens `(..., out)`."""
    return y.permute(0, 2, 3, 1).reshape(*x.shape[:-1], y.shape[1])
