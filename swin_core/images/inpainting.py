"""Replace pixels of images: from their neighbours, or by a blurred image.

`inpaint` is the noisy linear imputation of ROAD (Rong et al. 2022, section 4), without its noise. Each removed pixel is
the weighted mean of its eight neighbours, 1/6 for the direct and 1/12 for the diagonal ones, including removed
neighbours. This is one sparse linear system per image, with the same matrix for all channels.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_NEIGHBOURS = tuple(
    (row, column, 1 / 12 if row and column else 1 / 6) for row in (-1, 0, 1) for column in (-1, 0, 1) if row or column
)
BLUR = 0.08
"""Standard deviation of the blur that removes a region, as a share of the image's longer side."""
_TOLERANCE = 1e-5
_MAX_ITERATIONS = 2000


def inpaint(images: Tensor, missing: Tensor) -> Tensor:
    """Replace the missing pixels of images by weighted means of their neighbours.

    On a CPU each system is solved exactly; on other devices all are solved together by conjugate gradients.

    Args:
        images: `(N, C, H, W)`.
        missing: `(N, H, W)`, bool; an image without any known pixel becomes zeros.

    Returns:
        `(N, C, H, W)`.
    """
    return (inpaint_directly if images.device.type == "cpu" else inpaint_iteratively)(images, missing)


def inpaint_directly(images: Tensor, missing: Tensor) -> Tensor:
    """`inpaint` by factorising the system of each image, on the CPU."""
    arrays = images.cpu().numpy().astype(np.float64)
    filled = [_solve(image, gaps) for image, gaps in zip(arrays, missing.cpu().numpy(), strict=True)]
    return torch.from_numpy(np.stack(filled)).to(images)


def _solve(image: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """`inpaint` for one image `(C, H, W)`, float64."""
    # A third of a second, which programs that remove no pixel, such as each rank of a training, do not pay.
    from scipy.sparse import csc_matrix
    from scipy.sparse.linalg import splu

    channels, height, width = image.shape
    pixels = np.flatnonzero(missing)
    if not len(pixels) or len(pixels) == missing.size:
        return np.where(missing, 0.0, image)
    flat, gone = image.reshape(channels, -1), missing.ravel()
    unknown = np.zeros(missing.size, np.int32)  # index of each missing pixel among the unknowns
    unknown[pixels] = np.arange(len(pixels))
    row, column = np.divmod(pixels, width)
    degree, right_side = np.zeros(len(pixels)), np.zeros((len(pixels), channels))
    rows, columns, values = [], [], []
    for down, right, weight in _NEIGHBOURS:
        inside = (row + down >= 0) & (row + down < height) & (column + right >= 0) & (column + right < width)
        here = np.flatnonzero(inside)
        neighbour = pixels[here] + down * width + right
        degree[here] += weight
        gap = gone[neighbour]
        rows.append(here[gap])
        columns.append(unknown[neighbour[gap]])
        values.append(np.full(int(gap.sum()), -weight))
        right_side[here[~gap]] += weight * flat[:, neighbour[~gap]].T
    diagonal = np.arange(len(pixels))
    entries = np.concatenate([*values, degree])
    indices = np.concatenate([*rows, diagonal]), np.concatenate([*columns, diagonal])
    matrix = csc_matrix((entries, indices), shape=(len(pixels), len(pixels)))
    # An ordering for symmetric positive definite matrices makes the factors several times smaller.
    factors = splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    result = flat.copy()
    result[:, pixels] = factors.solve(right_side).T
    return result.reshape(image.shape)


def inpaint_iteratively(images: Tensor, missing: Tensor) -> Tensor:
    """`inpaint` by conjugate gradients for all images and channels at once, on their device."""
    gaps = missing[:, None].to(images.dtype)
    degree = _neighbour_sum(torch.ones_like(images[:1, :1]))
    solution = torch.where(missing[:, None], 0, images)
    residual = gaps * (_neighbour_sum(solution) - degree * solution)
    direction, squared = residual, _dot(residual, residual)
    tiny = torch.finfo(images.dtype).tiny
    for _ in range(_MAX_ITERATIONS):
        if not residual.numel() or float(residual.abs().max()) <= _TOLERANCE:
            break
        product = gaps * (degree * direction - _neighbour_sum(direction))
        length = squared / _dot(direction, product).clamp_min(tiny)
        solution, residual = solution + length * direction, residual - length * product
        previous, squared = squared, _dot(residual, residual)
        direction = residual + squared / previous.clamp_min(tiny) * direction
    return solution


def _dot(first: Tensor, second: Tensor) -> Tensor:
    return (first * second).sum((2, 3), keepdim=True)


def _neighbour_sum(planes: Tensor) -> Tensor:
    """Weighted sum of the eight neighbours of each pixel; outside the border there are none."""
    height, width = planes.shape[2:]
    around = F.pad(planes, (1, 1, 1, 1))
    across = around[..., :width] + 2 * around[..., 1:-1] + around[..., 2:]
    # The kernel 1 2 1 in both directions counts the centre four times.
    return (across[..., :height, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :] - 4 * planes) / 12


def blur(images: Tensor, share: float = BLUR) -> Tensor:
    """Blur images `(V, C, H, W)` with a Gaussian whose standard deviation is a share of the longer side."""
    deviation = share * max(images.shape[2:])
    radius = max(1, round(3 * deviation))
    offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (offsets / deviation) ** 2)
    kernel = (kernel / kernel.sum()).view(1, 1, 1, -1)
    planes = images.flatten(0, 1)[:, None]
    planes = F.conv2d(F.pad(planes, (radius, radius, 0, 0), mode="replicate"), kernel)
    planes = F.conv2d(F.pad(planes, (0, 0, radius, radius), mode="replicate"), kernel.transpose(2, 3))
    return planes[:, 0].view(images.shape)
