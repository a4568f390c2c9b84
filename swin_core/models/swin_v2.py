"""Attention of Swin Transformer V2 (Liu et al. 2022, arXiv 2111.09883).

V2 has the stages, windows and shifts of Swin. It differs in the attention below, and in norms that come after each
branch of a block and after each patch merging (`SwinBlock` and `PatchMerging` in `swin`). State-dict keys are those of
the authors' repository (`layers.0.blocks.1.attn.cpb_mlp.0.weight`), without its index, mask and coordinate buffers.
With the same weights the logits equal those of timm, torchvision and transformers.
"""

import math

import torch
from torch import Tensor, nn

from swin_core.models.linear import linear
from swin_core.models.window_attention import WindowAttention
from swin_core.models.windows import kept

_HIDDEN = 512
"""Hidden width of the network that computes the position bias."""
_FIRST_SCALE, _LARGEST_SCALE = math.log(10), math.log(100)
"""Logarithms of 1 / tau: at the start of training, and at most."""
_LARGEST_BIAS = 16.0
_SMALLEST_NORM = 1e-12


class CosineWindowAttention(WindowAttention):
    """Window attention of Swin V2: cosine similarity with a learned scale, and a continuous position bias.

    `SoftMax(cos(Q, K) / tau + B) V` for each window and head (eq. 2), with 1 / tau at most 100. B is computed from the
    offset of two tokens by a small network, so it is defined for windows of any size. Keys have no bias.

    Args:
        dim, heads, window, shift, position_bias: as for `WindowAttention`.
        trained_window: side of the window in training, in tokens; offsets are relative to it.
        qkv_bias: whether queries and values have a bias.
    """

    q_bias: nn.Parameter | None
    v_bias: nn.Parameter | None

    def __init__(
        self,
        dim: int,
        heads: int,
        window: int,
        shift: int,
        trained_window: int,
        *,
        qkv_bias: bool,
        position_bias: bool,
    ):
        super().__init__(dim, heads, window, shift, qkv_bias=False, position_bias=False)
        self.trained_window = trained_window
        self.scale = 1.0
        self.logit_scale = nn.Parameter(torch.full((heads, 1, 1), _FIRST_SCALE))
        self.cpb_mlp: nn.Sequential | None = None
        if position_bias:
            self.cpb_mlp = nn.Sequential(nn.Linear(2, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, heads, bias=False))
        for name in ("q_bias", "v_bias"):
            self.register_parameter(name, nn.Parameter(torch.zeros(dim)) if qkv_bias else None)

    def project(self, windows: Tensor) -> Tensor:
        """Return queries, keys and values of tokens, `(..., C)` to `(..., 3C)`."""
        return linear(windows, self.qkv.weight, self.projection_bias)

    def split(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries of length 1 / tau, keys of length 1, and values, `(windows, heads, N, d)` each."""
        qkv = qkv.unflatten(-1, (3, self.heads, -1))  # (windows, N, 3, heads, d)
        qk, v = qkv[:, :, :2], qkv[:, :, 2].transpose(1, 2)
        scale = self.logit_scale.clamp(max=_LARGEST_SCALE).exp().view(self.heads, 1)
        lengths = torch.stack([scale, torch.ones_like(scale)])
        # At least float32: padded tokens have the norm 0, and half precision cannot hold the smallest norm.
        norms = torch.linalg.vector_norm(qk, dim=-1, keepdim=True, dtype=torch.promote_types(qk.dtype, torch.float32))
        q, k = (qk * (lengths / norms.clamp_min(_SMALLEST_NORM))).to(qk.dtype).permute(2, 0, 3, 1, 4)
        return q, k, v

    @property
    def projection_bias(self) -> Tensor | None:
        """Bias of queries, keys and values, `(3C,)`, that of the keys 0; or None."""
        if self.q_bias is None or self.v_bias is None:
            return None
        return torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])

    def set_trained_window(self, window: int) -> None:
        """Set the side of the window in training, in tokens."""
        self.trained_window = window
        self._cached = None

    def bias_table(self) -> Tensor | None:
        """Return `16 sigmoid(MLP(offset))` for each offset from query to key, `((2M-1)^2, heads)`, or None."""
        if self.cpb_mlp is None:
            return None
        offsets = log_spaced_offsets(self.window, self.trained_window, self.qkv.weight.device)
        return _LARGEST_BIAS * torch.sigmoid(self.cpb_mlp(offsets.to(self.qkv.weight.dtype)))

    def bias_parameters(self) -> tuple[Tensor, ...]:
        """Return the parameters of the network that computes the position bias."""
        return () if self.cpb_mlp is None else tuple(self.cpb_mlp.parameters())


@kept
def log_spaced_offsets(window: int, trained_window: int, device: torch.device | None = None) -> Tensor:
    """Return the offsets of two tokens of a window as the position bias takes them, `((2M-1)^2, 2)` (section 3.3).

    An offset of `trained_window - 1` tokens is scaled to 8; then `sign(x) log2(1 + |x|) / 3`, so that a larger window
    extrapolates little. The rows are ordered as `relative_position_index` counts them. The result is cached and shared,
    so do not change it.
    """
    steps = torch.arange(1 - window, window, device=device, dtype=torch.float32)
    steps = steps / max(trained_window - 1, 1) * 8
    steps = steps.sign() * torch.log2(steps.abs() + 1) / math.log2(8)
    return torch.cartesian_prod(steps, steps)
