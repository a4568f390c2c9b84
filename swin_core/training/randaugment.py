"""RandAugment (Cubuk et al. 2020) for whole batches: two random changes to each image, of one magnitude.

The changes and their ranges are torchvision's. Each change is computed once for all the images that drew it, and
the geometric ones together, as one resampling.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from swin_core.training.random_draws import Draws

__all__ = ["CHANGES", "affine", "rand_augment"]

_CHANGES_A_PICTURE = 2
_GREATEST = 10
"""The magnitude at which each change is as strong as it gets."""

_GREY = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in luma (ITU-R BT.601), as in Pillow and torchvision."""


def grey(pictures: Tensor) -> Tensor:
    """Luma of RGB images, `(B, 3, H, W)` to `(B, 1, H, W)`; the mean for another number of channels."""
    if pictures.shape[1] != 3:
        return pictures.mean(1, keepdim=True)
    return (pictures * torch.tensor(_GREY, device=pictures.device)[:, None, None]).sum(1, keepdim=True)


def _away_from(pictures: Tensor, degenerate: Tensor, amount: Tensor) -> Tensor:
    """From what lacks a property towards the image and beyond: `1 + amount` of the way."""
    return torch.lerp(degenerate.expand_as(pictures), pictures, 1 + amount[:, None, None, None]).clamp(0, 1)


def brightness(pictures: Tensor, amount: Tensor) -> Tensor:
    """Away from black; `amount` -1 to 1 for each image, 0 changes nothing, as in the next three."""
    return _away_from(pictures, torch.zeros_like(pictures), amount)


def colour(pictures: Tensor, amount: Tensor) -> Tensor:
    """Away from grey."""
    return _away_from(pictures, grey(pictures), amount)


def contrast(pictures: Tensor, amount: Tensor) -> Tensor:
    """Away from the mean grey."""
    return _away_from(pictures, grey(pictures).mean((2, 3), keepdim=True), amount)


def sharpness(pictures: Tensor, amount: Tensor) -> Tensor:
    """Away from a smoothed copy; the outermost pixels stay."""
    channels = pictures.shape[1]
    kernel = torch.ones(channels, 1, 3, 3, device=pictures.device)
    kernel[:, :, 1, 1] = 5
    smooth = pictures.clone()
    smooth[..., 1:-1, 1:-1] = F.conv2d(pictures, kernel / 13, groups=channels)
    return _away_from(pictures, smooth, amount)


def posterize(pictures: Tensor, amount: Tensor) -> Tensor:
    """Keep `8 - 4 |amount|` bits of each channel."""
    levels = 2 ** (8 - (4 * amount.abs()).round())[:, None, None, None]
    return (pictures * levels).floor().clamp(max=levels - 1) / levels


def solarize(pictures: Tensor, amount: Tensor) -> Tensor:
    """Invert what is at least as bright as `1 - |amount|`."""
    return torch.where(pictures >= 1 - amount.abs()[:, None, None, None], 1 - pictures, pictures)


def autocontrast(pictures: Tensor, amount: Tensor) -> Tensor:
    """Stretch each channel to 0 and 1; a channel of one value stays."""
    low, high = pictures.amin((2, 3), keepdim=True), pictures.amax((2, 3), keepdim=True)
    flat = low == high
    return torch.where(flat, pictures, (pictures - low) / torch.where(flat, 1.0, high - low))


def equalize(pictures: Tensor, amount: Tensor) -> Tensor:
    """Even out each channel's histogram of 256 values, by Pillow's rule."""
    batch, channels, height, width = pictures.shape
    values = (pictures * 255).round().long().flatten(0, 1).flatten(1)  # (B * channels, pixels)
    counts = torch.zeros(batch * channels, 256, dtype=torch.long, device=pictures.device)
    counts.scatter_add_(1, values, torch.ones_like(values))
    brightest = counts.gather(1, values.amax(1, keepdim=True))
    step = torch.div(height * width - brightest, 255, rounding_mode="floor")
    below = counts.cumsum(1) - counts
    safe = step.clamp(min=1)
    table = torch.div(below + torch.div(safe, 2, rounding_mode="floor"), safe, rounding_mode="floor").clamp(0, 255)
    equal = table.gather(1, values).float().view_as(pictures) / 255
    return torch.where(step.view(batch, channels, 1, 1) == 0, pictures, equal)


CHANGES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "brightness": brightness,
    "colour": colour,
    "contrast": contrast,
    "sharpness": sharpness,
    "posterize": posterize,
    "solarize": solarize,
    "autocontrast": autocontrast,
    "equalize": equalize,
}
"""Changes of the colours: name to a function of images `(B, channels, H, W)` in 0 to 1 and amounts `(B,)`."""

_RANGES = {"brightness": 0.9, "colour": 0.9, "contrast": 0.9, "sharpness": 0.9}  # the others take -1 to 1 as it is
_GEOMETRIC = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
_NAMES = (*CHANGES, *_GEOMETRIC, "nothing")


def affine(pictures: Tensor, matrices: Tensor) -> Tensor:
    """Resample each image by its matrix `(B, 2, 3)`, from output to input places in pixels about the centre.

    Bilinear; what lies outside is black.
    """
    height, width = pictures.shape[2:]
    scale = torch.tensor([width / 2, height / 2], device=pictures.device)
    # affine_grid works in half widths and half heights.
    theta = matrices.clone()
    theta[:, :, :2] = matrices[:, :, :2] * scale / scale[:, None]
    theta[:, :, 2] = matrices[:, :, 2] / scale
    grid = F.affine_grid(theta, list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def matrices(kinds: Tensor, amount: Tensor, height: int, width: int) -> Tensor:
    """`(B, 2, 3)`: the geometric change of each image by its index into `_GEOMETRIC`; amount -1 to 1."""
    shear, angle = 0.3 * amount, math.radians(30) * amount
    zero, one = torch.zeros_like(amount), torch.ones_like(amount)
    choices = torch.stack(
        [
            torch.stack([one, shear, zero, zero, one, zero], 1),
            torch.stack([one, zero, zero, shear, one, zero], 1),
            torch.stack([one, zero, amount * width * 150 / 331, zero, one, zero], 1),
            torch.stack([one, zero, zero, zero, one, amount * height * 150 / 331], 1),
            torch.stack([angle.cos(), angle.sin(), zero, -angle.sin(), angle.cos(), zero], 1),
        ],
        1,
    )
    return choices[torch.arange(len(kinds), device=kinds.device), kinds].view(-1, 2, 3)


def rand_augment(pictures: Tensor, magnitude: int, draws: Draws) -> Tensor:
    """Two changes to each image, `(B, channels, H, W)` in 0 to 1 to the same; magnitude 1 to 10."""
    height, width = pictures.shape[2:]
    for _ in range(_CHANGES_A_PICTURE):
        kinds = draws.integers(0, len(_NAMES))
        amount = (2 * draws.chance(0.5).float() - 1) * (magnitude / _GREATEST)
        pictures = pictures.clone()
        for kind, (name, change) in enumerate(CHANGES.items()):
            chosen = (kinds == kind).nonzero()[:, 0]
            if len(chosen):
                pictures[chosen] = change(pictures[chosen], amount[chosen] * _RANGES.get(name, 1.0))
        moved = ((kinds >= len(CHANGES)) & (kinds < len(_NAMES) - 1)).nonzero()[:, 0]
        if len(moved):
            turned = matrices(kinds[moved] - len(CHANGES), amount[moved], height, width)
            pictures[moved] = affine(pictures[moved], turned)
    return pictures
