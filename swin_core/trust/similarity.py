"""Similarity of maps: Spearman's rank correlation and structural similarity."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from swin_core.attribution.regions import WHOLE, Region, bilinear

_WINDOW, _DEVIATION = 11, 1.5  # pixels; section 3.2 of Wang et al. 2004
_K1, _K2 = 0.01, 0.03


def spearman(first: Tensor, second: Tensor) -> Tensor:
    """Spearman's rank correlation of M pairs of maps, `(M,)` in [-1, 1]; ties share their mean rank.

    The correlation with a constant map is 0.

    Args:
        first: `(M, h, w)`.
        second: `(M, h, w)`.
    """
    a, b = (_mean_ranks(maps.flatten(1)) for maps in (first, second))
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    norm = a.norm(dim=1) * b.norm(dim=1)
    return torch.where(norm > 0, (a * b).sum(1) / norm.clamp_min(1e-300), 0)


def agreement(first: np.ndarray, second: np.ndarray, parts: tuple[Region, Region] = (WHOLE, WHOLE)) -> float:
    """Spearman's rank correlation of two maps that may have different grids, in [-1, 1]; NaN if a map is constant.

    The maps are compared on the finer of the two grids along each axis.

    Args:
        first: `(h, w)`.
        second: `(h', w')`.
        parts: the part of each map that lies in the region seen by both models, as shares of its sides.
    """
    height, width = np.maximum(first.shape, second.shape)
    a, b = (bilinear(values, height, width, part) for values, part in zip((first, second), parts, strict=True))
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(spearman(torch.from_numpy(a)[None], torch.from_numpy(b)[None]))


def _mean_ranks(values: Tensor) -> Tensor:
    """Rank of each value in its row `(M, n)`, from 1, mean rank for ties, float64."""
    ordered = values.sort(1).values
    below, up_to = torch.searchsorted(ordered, values), torch.searchsorted(ordered, values, right=True)
    return (below + up_to + 1).double() / 2


def ssim(first: Tensor, second: Tensor) -> Tensor:
    """Structural similarity of M pairs of maps (Wang et al. 2004, eq. 13), `(M,)` in [-1, 1].

    Each map is scaled to a largest magnitude of 1 first, since its unit depends on the weights. The mean is taken over
    the positions where the whole Gaussian window of 11 x 11 pixels fits; the edges of a smaller map are extended.

    Args:
        first: `(M, H, W)`.
        second: `(M, H, W)`.
    """
    a, b = (
        maps / maps.abs().amax((1, 2), keepdim=True).clamp_min(1e-300) for maps in (first.double(), second.double())
    )
    mean_a, mean_b = _windowed(a), _windowed(b)
    # Rounding must not make a variance of 0 negative.
    variance_a = (_windowed(a * a) - mean_a**2).clamp_min(0)
    variance_b = (_windowed(b * b) - mean_b**2).clamp_min(0)
    covariance = _windowed(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + _K1**2) / (mean_a**2 + mean_b**2 + _K1**2)
    structure = (2 * covariance + _K2**2) / (variance_a + variance_b + _K2**2)
    return (luminance * structure).flatten(1).mean(1)


def _windowed(maps: Tensor) -> Tensor:
    """Weighted mean over the window around each pixel of maps `(M, H, W)`, `(M, 1, H - 10, W - 10)`."""
    offsets = torch.arange(_WINDOW, dtype=maps.dtype, device=maps.device) - _WINDOW // 2
    kernel = torch.exp(-0.5 * (offsets / _DEVIATION) ** 2)
    kernel = (kernel / kernel.sum()).view(1, 1, 1, -1)
    high, wide = (max(0, _WINDOW - side) for side in maps.shape[1:])
    planes = F.pad(maps[:, None], (wide // 2, wide - wide // 2, high // 2, high - high // 2), mode="replicate")
    return F.conv2d(F.conv2d(planes, kernel), kernel.transpose(2, 3))
