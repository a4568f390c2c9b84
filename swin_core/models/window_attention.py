"""Attention within shifted windows. Swin V2's form in `swin_v2` shares its partition, kernels and cache."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_core.models.linear import Linear
from swin_core.models.windows import (
    Pair,
    fit_window,
    from_windows,
    outside_mask,
    relative_position_index,
    shift_mask,
    sizes_vary,
    to_windows,
)

_MAX_CACHED = 2**24
"""Largest number of elements of an additive term to cache (64 MB); those of larger batches are computed each time."""

_FEW_SCORES = 2**21
"""Scores over all windows and heads up to which plain products are faster on a CPU than the fused kernel."""


class WindowAttention(nn.Module):
    """W-MSA and SW-MSA: self-attention within windows (Liu et al. 2021, section 3.2, eq. 4).

    `Attention(Q, K, V) = SoftMax(Q K^T / sqrt(d) + B) V` for each window and head. B is looked up in a table of
    `(2M-1)^2` relative positions; the mask of the cyclic shift is added to it.
    """

    def __init__(self, dim: int, heads: int, window: int, shift: int, *, qkv_bias: bool, position_bias: bool):
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.scale = (dim // heads) ** -0.5
        """Factor on the products of queries and keys."""
        self.qkv = Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = Linear(dim, dim)
        if position_bias:
            self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        else:
            self.register_parameter("relative_position_bias_table", None)
        self._cached: tuple[tuple[Any, ...], Tensor] | None = None
        """Last additive term, with the key that says what it was computed from."""

    def forward(self, x: Tensor) -> Tensor:
        """Mix tokens within windows: `(B, H, W, C)` to `(B, H, W, C)`."""
        batch, height, width, channels = x.shape
        window, shift = (self.window, self.window), (self.shift, self.shift)
        if not sizes_vary():  # a compiled graph has one window, and masks what is beyond the map
            window, shift = fit_window((height, width), self.window, self.shift)
        windows = to_windows(x, window, shift)
        q, k, v = self.split(self.project(windows))
        mixed = self._attend(q, k, v, batch, (height, width), window, shift)
        mixed = mixed.transpose(1, 2).reshape(-1, windows.shape[1], channels)
        return from_windows(self.proj(mixed), (height, width), window, shift)

    def project(self, windows: Tensor) -> Tensor:
        """Return queries, keys and values of tokens, `(..., C)` to `(..., 3C)`."""
        return self.qkv(windows)

    def split(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values `(windows, heads, N, d)` from `(windows, N, 3C)`."""
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return q, k, v

    @property
    def projection_bias(self) -> Tensor | None:
        """Bias of queries, keys and values, `(3C,)`, or None."""
        return self.qkv.bias

    def bias_table(self) -> Tensor | None:
        """Return the position bias of each offset from query to key, `((2M-1)^2, heads)`, or None without one."""
        return self.relative_position_bias_table

    def bias_parameters(self) -> tuple[Tensor, ...]:
        """Return the parameters that determine `bias_table`."""
        table = self.relative_position_bias_table
        return () if table is None else (table,)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, batch: int, grid: Pair, window: Pair, shift: Pair) -> Tensor:
        trained = torch.is_grad_enabled() and any(value.requires_grad for value in self.bias_parameters())
        compiling = torch.compiler.is_compiling()
        if trained:
            self._cached = None  # fused optimizers change parameters without counting their version
        if compiling or q.device.type != "cpu":
            fresh = trained or compiling
            term = self.additive_term(grid, window, shift) if fresh else self._cached_term(q, 1, grid, window, shift)
            return self._attend_fused(q, k, v, batch, term)
        # The CPU's fused kernel has no gradient for its additive term, and is slower where all scores fit into a cache.
        if trained or q.shape[:-1].numel() * q.shape[-2] <= _FEW_SCORES:
            scores = (q if self.scale == 1 else q * self.scale) @ k.transpose(-2, -1)
            term = self.additive_term(grid, window, shift) if trained else self._cached_term(q, 1, grid, window, shift)
            scores = (scores.unflatten(0, (batch, -1)) + term).flatten(0, 1)
            return scores.softmax(-1) @ v
        term = self._cached_term(q, batch, grid, window, shift)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=term, scale=self.scale)

    def _attend_fused(self, q: Tensor, k: Tensor, v: Tensor, batch: int, term: Tensor) -> Tensor:
        """Attention by the fused kernel of a GPU or a compiled graph, `(B * windows, heads, N, d)` each.

        The windows and heads of an image share a dimension, so that the additive term is not repeated for each image.
        """
        if not self.shift:  # one term for all windows
            return F.scaled_dot_product_attention(q, k, v, attn_mask=term.to(q.dtype), scale=self.scale)
        q, k, v = (values.unflatten(0, (batch, -1)).flatten(1, 2) for values in (q, k, v))
        term = term.to(q.dtype).expand(-1, self.heads, -1, -1).flatten(0, 1)[None]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=term, scale=self.scale)
        return mixed.unflatten(1, (-1, self.heads)).flatten(0, 1)

    def additive_term(self, grid: Pair, window: Pair, shift: Pair) -> Tensor:
        """Relative position bias plus shift mask, `(windows or 1, heads or 1, N, N)`; differentiable."""
        tokens = window[0] * window[1]
        device = self.proj.weight.device
        term = torch.zeros(1, 1, tokens, tokens, device=device)
        table = self.bias_table()
        if table is not None:
            index = relative_position_index(window, self.window, device)
            term = table[index.flatten()].view(1, tokens, tokens, self.heads).permute(0, 3, 1, 2)
        if sizes_vary():
            term = term + outside_mask(grid, window, device).to(term.dtype)
        mask = shift_mask(grid, window, shift, device)
        return term if mask is None else term + mask.to(term.dtype)[:, None]

    def _cached_term(self, q: Tensor, batch: int, grid: Pair, window: Pair, shift: Pair) -> Tensor:
        """The additive term as the fused kernel takes it, cached until the position bias or the grid changes."""
        parameters = self.bias_parameters()
        version: Any = tuple((value.data_ptr(), 0 if value.is_inference() else value._version) for value in parameters)
        if any(value.is_inference() for value in parameters):
            version = object()  # changes made in inference mode are not counted, so the term cannot be cached
        key = (batch if any(shift) else 1, grid, q.dtype, q.device, version)
        cached = self._cached  # read once: another thread may replace it
        if cached is not None and cached[0] == key:
            return cached[1]
        # A tensor made in inference mode could not take part in a later backward pass.
        with torch.inference_mode(False), torch.no_grad():
            term = self.additive_term(grid, window, shift).to(q.dtype)
            if any(shift):
                term = term.expand(-1, self.heads, -1, -1).repeat(batch, 1, 1, 1)
            term = term.contiguous()
        if term.numel() <= _MAX_CACHED:
            self._cached = key, term
        return term
