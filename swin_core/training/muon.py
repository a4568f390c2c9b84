"""Muon (Jordan et al. 2024), in bfloat16 if the device supports it, else in float32."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from swin_core.models.precision import has_bfloat16

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration, steep at zero: singular values end between about 0.7 and 1.2."""
STEPS = 5
MOMENTUM = 0.95


def orthogonalized(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the nearest matrix with singular values near 1, by five Newton-Schulz steps.

    Args:
        matrix: `(A, B)`.
        dtype: precision of the steps.

    Returns:
        `(A, B)` in that precision.
    """
    a, b, c = COEFFICIENTS
    is_tall = matrix.shape[0] > matrix.shape[1]
    # With the shorter side first, the products of the steps are as small as possible.
    x = matrix.to(dtype, copy=True)
    x = x.T if is_tall else x
    x.div_(x.norm().clamp(min=1e-7))
    for _ in range(STEPS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if is_tall else x


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalized before each step and scaled to AdamW's step length.

    PyTorch's own Muon always computes in bfloat16. On a CPU without bfloat16 that takes longer than the whole backward
    pass of a small model. With bfloat16, both give equal bits.

    Args:
        params: matrices, or groups of them with `lr` and `weight_decay`; the decay is decoupled.
    """

    def __init__(self, params: Any):
        super().__init__(params, {"lr": 1e-3, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update each matrix that has a gradient; `closure` is part of PyTorch's signature and not used."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(matrix.grad)
                mean = state["momentum_buffer"].lerp_(matrix.grad, 1 - MOMENTUM)
                dtype = torch.bfloat16 if has_bfloat16(matrix.device) else torch.float32
                update = orthogonalized(matrix.grad.lerp(mean, MOMENTUM), dtype)  # Nesterov momentum
                # A step of AdamW has a root mean square of about 0.2 (Liu et al. 2025, section 2.2).
                length = 0.2 * max(matrix.shape) ** 0.5
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(update, alpha=-group["lr"] * length)
