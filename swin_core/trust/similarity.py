"""Similarity of maps: Spearman's rank correlation and structural similarity."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from swin_core.attribution.regions import WHOLE, Region, bilinear

__all__ = ["agreement", "spearman", "ssim"]

_WINDOW, _DEVIATION = 11, 1.5  # pixels; section 3.2 of Wang et al. 2004
_K1, _K2 = 0.01, 0.03


def spearman(first: Tensor, second: Tensor) -> Tensor:
    """Spearman's rank correlation of M pairs of maps, `(M,)` in [-1, 1]; ties share their mean rank.

    A constant map says nothing that another could agree with: its correlation counts as 0.

    Args:
        first: `(M, h, w)`.
        second: likewise, on the same grid.
    """
    one, other = (_mean_ranks(maps.flatten(1)) for maps in (first, second))
    one, other = one - one.mean(1, keepdim=True), other - other.mean(1, keepdim=True)
    spread = one.norm(dim=1) * other.norm(dim=1)
    return torch.where(spread > 0, (one * other).sum(1) / spread.clamp_min(1e-300), 0)


def agreement(first: np.ndarray, second: np.ndarray, parts: tuple[Region, Region] = (WHOLE, WHOLE)) -> float:
    """Spearman's rank correlation of two maps that may have different grids, in [-1, 1]; NaN if a map is constant.

    The maps are compared on the finer of the two grids in each direction.

    Args:
        first: `(h, w)`.
        second: `(h', w')`.
        parts: the part of each map that shows what both models see, as shares of its sides.
    """
    height, width = np.maximum(first.shape, second.shape)
    one, other = (bilinear(values, height, width, part) for values, part in zip((first, second), parts, strict=True))
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(spearman(torch.from_numpy(one)[None], torch.from_numpy(other)[None]))


def _mean_ranks(values: Tensor) -> Tensor:
    """Rank of each value in its row `(M, n)`, from 1, ties at their mean, float64."""
    ordered = values.sort(1).values
    below = torch.searchsorted(ordered, values)
    to = torch.searchsorted(ordered, values, right=True)
    return (below + to + 1).double() / 2


def ssim(first: Tensor, second: Tensor) -> Tensor:
    """Structural similarity of M pairs of maps (Wang et al. 2004, eq. 13), `(M,)` in [-1, 1].

    Each map is scaled to a largest magnitude of 1 first, since other weights give other units. The mean is taken over
    the places where the whole Gaussian window of 11 x 11 pixels fits; of a smaller map the edges are extended.

    Args:
        first: `(M, H, W)`.
        second: likewise, of the same size.
    """
    one, other = (_scaled(maps.double()) for maps in (first, second))
    mean_one, mean_other = _windowed(one), _windowed(other)
    # Rounding must not make a variance of 0 negative.
    variance_one = (_windowed(one * one) - mean_one**2).clamp_min(0)
    variance_other = (_windowed(other * other) - mean_other**2).clamp_min(0)
    together = _windowed(one * other) - mean_one * mean_other
    light = (2 * mean_one * mean_other + _K1**2) / (mean_one**2 + mean_other**2 + _K1**2)
    structure = (2 * together + _K2**2) / (variance_one + variance_other + _K2**2)
    return (light * structure).flatten(1).mean(1)


def _scaled(maps: Tensor) -> Tensor:
    return maps / maps.abs().amax((1, 2), keepdim=True).clamp_min(1e-300)


def _windowed(maps: Tensor) -> Tensor:
    """The weighted mean around each place of maps `(M, H, W)`, `(M, 1, H - 10, W - 10)`."""
    offsets = torch.arange(_WINDOW, dtype=maps.dtype, device=maps.device) - _WINDOW // 2
    kernel = torch.exp(-0.5 * (offsets / _DEVIATION) ** 2)
    kernel = (kernel / kernel.sum()).view(1, 1, 1, -1)
    high, wide = (max(0, _WINDOW - side) for side in maps.shape[1:])
    planes = F.pad(maps[:, None], (wide // 2, wide - wide // 2, high // 2, high - high // 2), mode="replicate")
    return F.conv2d(F.conv2d(planes, kernel), kernel.transpose(2, 3))
