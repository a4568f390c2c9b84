"""Muon (Jordan et al. 2024) in the arithmetic that is fast on the device at hand."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["Muon", "has_bfloat16", "orthogonalized"]

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic iteration, chosen for a steep slope at zero: singular values end between about 0.7 and 1.2."""
STEPS = 5
MOMENTUM = 0.95


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 numbers by itself; where it does not, they are slower than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def orthogonalized(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """The nearest matrix with singular values near 1, by five Newton-Schulz steps.

    Args:
        matrix: `(A, B)`.
        dtype: arithmetic of the steps.

    Returns:
        `(A, B)` in that type.
    """
    a, b, c = COEFFICIENTS
    is_tall = matrix.shape[0] > matrix.shape[1]
    # The products of all steps are as large as the shorter side.
    x = matrix.to(dtype, copy=True)
    x = x.T if is_tall else x
    x.div_(x.norm().clamp(min=1e-7))
    for _ in range(STEPS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if is_tall else x


class Muon(torch.optim.Optimizer):
    """Momentum whose matrices are orthogonalized before each step, scaled to the step length of AdamW.

    PyTorch's own Muon computes in bfloat16 always. A processor without it takes many times as long for that as for
    float32, longer than for the whole backward pass of a small model. Where the device has it, both give equal bits.

    Args:
        params: matrices, or groups of them with `lr` and `weight_decay`; the decay is decoupled.
    """

    def __init__(self, params: Any):
        super().__init__(params, {"lr": 1e-3, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move each matrix that has a gradient; `closure` is PyTorch's signature and not used."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(matrix.grad)
                mean = state["momentum_buffer"].lerp_(matrix.grad, 1 - MOMENTUM)
                dtype = torch.bfloat16 if has_bfloat16(matrix.device) else torch.float32
                ahead = orthogonalized(matrix.grad.lerp(mean, MOMENTUM), dtype)  # Nesterov's
                # A step of AdamW has a root mean square of about 0.2 (Liu et al. 2025, section 2.2).
                length = 0.2 * max(matrix.shape) ** 0.5
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(ahead, alpha=-group["lr"] * length)
