"""Statistics of whole images, such as brightness, and the changes of an image that shift them."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from swin_core.images.inpainting import blur

BORDER = 1 / 16
"""Width of the border as a share of the image's side."""

_BANDS = (1 / 64, 1 / 32, 1 / 16)
"""Standard deviations of the blurs between which the bands of sharpness lie, as shares of the side."""
_LEAST = 1 / 255
"""Added before a logarithm: one grey level."""


@dataclass(frozen=True)
class Statistic:
    """A statistic of images with values in 0 to 1, and how to shift it."""

    title: str
    measure: Callable[[Tensor], Tensor] | None
    """Images `(N, C, H, W)` to `(N, d)`; None if it is a property of the file and not of the pixels."""
    shift: Callable[[Tensor, Tensor], Tensor]
    """Images `(N, C, H, W)` and shifts `(N, d)` to images."""


def _colour(images: Tensor) -> Tensor:
    means = (images.mean((2, 3)) + _LEAST).log()
    return torch.stack([means[:, 0] - means[:, 1], means[:, 2] - means[:, 1]], 1)


def _shift_colour(images: Tensor, by: Tensor) -> Tensor:
    gains = torch.stack([by[:, 0], torch.zeros_like(by[:, 0]), by[:, 1]], 1).exp()[:, :, None, None]
    tinted = images * gains
    return tinted * (images.mean((1, 2, 3), keepdim=True) / tinted.mean((1, 2, 3), keepdim=True).clamp(min=_LEAST))


def _brightness(images: Tensor) -> Tensor:
    return images.mean((1, 2, 3))[:, None]


def _shift_brightness(images: Tensor, by: Tensor) -> Tensor:
    return images + by[:, :, None, None]


def _contrast(images: Tensor) -> Tensor:
    return (images.mean(1).std((1, 2)) + _LEAST).log()[:, None]


def _shift_contrast(images: Tensor, by: Tensor) -> Tensor:
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * by.exp()[:, :, None, None]


def _bands(images: Tensor) -> tuple[list[Tensor], Tensor]:
    """Split images into bands of detail, the finest first, and the rest."""
    blurred = [images, *(blur(images, share) for share in _BANDS)]
    return [fine - coarse for fine, coarse in pairwise(blurred)], blurred[-1]


def _sharpness(images: Tensor) -> Tensor:
    whole = images.std((1, 2, 3)) + _LEAST
    return torch.stack([((band.std((1, 2, 3)) + _LEAST) / whole).log() for band in _bands(images)[0]], 1)


def _shift_sharpness(images: Tensor, by: Tensor) -> Tensor:
    bands, rest = _bands(images)
    gains = by.exp()[:, :, None, None, None]
    return rest + sum(gains[:, number] * band for number, band in enumerate(bands))


def border_of(images: Tensor) -> Tensor:
    """Return the pixels of the border of images, `(H, W)` bool."""
    height, width = images.shape[2:]
    rows, columns = (max(1, round(BORDER * side)) for side in (height, width))
    border = torch.ones(height, width, dtype=torch.bool, device=images.device)
    border[rows : height - rows, columns : width - columns] = False
    return border


def _border(images: Tensor) -> Tensor:
    border = border_of(images)
    return images[:, :, border].mean(2) - images[:, :, ~border].mean(2)


def _shift_border(images: Tensor, by: Tensor) -> Tensor:
    return torch.where(border_of(images), images + by[:, :, None, None], images)


def _shift_aspect(images: Tensor, by: Tensor) -> Tensor:
    """Squash the content of an image as a file of a ratio `exp(by)` times as large would be."""
    theta = torch.zeros(len(images), 2, 3, device=images.device, dtype=images.dtype)
    theta[:, 0, 0], theta[:, 1, 1] = (by[:, 0] / 2).exp(), (-by[:, 0] / 2).exp()
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


STATISTICS: dict[str, Statistic] = {
    "colour": Statistic("colour cast", _colour, _shift_colour),
    "brightness": Statistic("brightness", _brightness, _shift_brightness),
    "contrast": Statistic("contrast", _contrast, _shift_contrast),
    "sharpness": Statistic("sharpness", _sharpness, _shift_sharpness),
    "border": Statistic("colour of the border", _border, _shift_border),
    "aspect": Statistic("aspect ratio of the file", None, _shift_aspect),
}
"""Statistics by name. colour: logarithms of red over green and of blue over green; brightness: mean; contrast: log
of the standard deviation; sharpness: logarithms of the share of three bands of detail in it; border: mean of the border
less that of the rest, by channel; aspect: logarithm of width over height."""


def shifted(images: Tensor, statistic: str, by: Tensor) -> Tensor:
    """Shift a statistic of images.

    Args:
        images: `(N, C, H, W)`, floating point, 0 to 1.
        statistic: a key of `STATISTICS`.
        by: the shifts, `(N, d)`.

    Returns:
        `(N, C, H, W)`, clipped to 0 to 1.
    """
    return STATISTICS[statistic].shift(images, by.to(images)).clamp(0, 1)
