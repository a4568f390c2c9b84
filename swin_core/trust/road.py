"""ROAD's imputation (Rong et al. 2022, section 4): removed pixels become a blend of their neighbours.

Each removed pixel is the weighted mean of its eight neighbours, 1/6 for the straight ones and 1/12 for the diagonal
ones, removed neighbours included: one sparse linear system an image, with the same matrix for all channels.
"""

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import csc_matrix
from scipy.sparse.linalg import splu
from torch import Tensor

__all__ = ["fill", "fill_directly", "fill_iteratively"]

_NEIGHBOURS = tuple(
    (row, column, 1 / 12 if row and column else 1 / 6) for row in (-1, 0, 1) for column in (-1, 0, 1) if row or column
)
_TOLERANCE = 1e-5
_MOST_ITERATIONS = 2000


def fill(pictures: Tensor, missing: Tensor) -> Tensor:
    """Images whose missing pixels are the weighted mean of their neighbours.

    On a CPU each system is solved exactly; elsewhere all of them together by conjugate gradients, on the device.

    Args:
        images: `(N, C, H, W)`.
        missing: `(N, H, W)`, bool; an image that is missing whole becomes zeros.

    Returns:
        `(N, C, H, W)`.
    """
    return (fill_directly if pictures.device.type == "cpu" else fill_iteratively)(pictures, missing)


def fill_directly(pictures: Tensor, missing: Tensor) -> Tensor:
    """`fill` by factorising each image's system, on the CPU."""
    known = pictures.cpu().numpy().astype(np.float64)
    filled = [_solve(picture, gaps) for picture, gaps in zip(known, missing.cpu().numpy(), strict=True)]
    return torch.from_numpy(np.stack(filled)).to(pictures)


def _solve(picture: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """One image `(C, H, W)`, float64."""
    channels, height, width = picture.shape
    place = np.flatnonzero(missing)
    if not len(place) or len(place) == missing.size:
        return np.where(missing, 0.0, picture)
    flat, gone = picture.reshape(channels, -1), missing.ravel()
    number = np.zeros(missing.size, np.int32)
    number[place] = np.arange(len(place))
    row, column = np.divmod(place, width)
    degree, known = np.zeros(len(place)), np.zeros((len(place), channels))
    rows, columns, values = [], [], []
    for down, right, weight in _NEIGHBOURS:
        inside = (row + down >= 0) & (row + down < height) & (column + right >= 0) & (column + right < width)
        here = np.flatnonzero(inside)
        there = place[here] + down * width + right
        degree[here] += weight
        gap = gone[there]
        rows.append(here[gap])
        columns.append(number[there[gap]])
        values.append(np.full(int(gap.sum()), -weight))
        known[here[~gap]] += weight * flat[:, there[~gap]].T
    every = np.arange(len(place))
    entries = np.concatenate([*values, degree])
    where = np.concatenate([*rows, every]), np.concatenate([*columns, every])
    matrix = csc_matrix((entries, where), shape=(len(place), len(place)))
    # The matrix is symmetric and positive definite: an ordering for such keeps the factors several times smaller.
    factors = splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    result = flat.copy()
    result[:, place] = factors.solve(known).T
    return result.reshape(picture.shape)


def fill_iteratively(pictures: Tensor, missing: Tensor) -> Tensor:
    """`fill` by conjugate gradients on all images and channels at once, on their device."""
    gaps = missing[:, None].to(pictures.dtype)
    degree = _blend(torch.ones_like(pictures[:1, :1]))
    found = torch.where(missing[:, None], 0, pictures)
    rest = gaps * (_blend(found) - degree * found)
    step, size = rest, _dot(rest, rest)
    for _ in range(_MOST_ITERATIONS):
        if not rest.numel() or float(rest.abs().max()) <= _TOLERANCE:
            break
        moved = gaps * (degree * step - _blend(step))
        length = size / _dot(step, moved).clamp_min(torch.finfo(step.dtype).tiny)
        found, rest = found + length * step, rest - length * moved
        before, size = size, _dot(rest, rest)
        step = rest + size / before.clamp_min(torch.finfo(step.dtype).tiny) * step
    return found


def _dot(first: Tensor, second: Tensor) -> Tensor:
    return (first * second).sum((2, 3), keepdim=True)


def _blend(planes: Tensor) -> Tensor:
    """The weighted sum of each pixel's eight neighbours; beyond the border there are none."""
    height, width = planes.shape[2:]
    around = F.pad(planes, (1, 1, 1, 1))
    across = around[..., :width] + 2 * around[..., 1:-1] + around[..., 2:]
    # The kernel 1 2 1 in both directions is four times the centre too much.
    return (across[..., :height, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :] - 4 * planes) / 12
