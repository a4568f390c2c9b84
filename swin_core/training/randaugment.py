"""RandAugment (Cubuk et al. 2020) for whole batches: two random operations per image, of one magnitude.

The operations and their ranges are torchvision's. Each operation runs once, on all images that drew it; the geometric
ones run together, as one resampling.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from swin_core.training.random_draws import Draws

_OPERATIONS_PER_IMAGE = 2
_MAX_MAGNITUDE = 10

_GREY = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in luma (ITU-R BT.601), as in Pillow and torchvision."""


def grey(images: Tensor) -> Tensor:
    """Return the luma of RGB images, `(B, 3, H, W)` to `(B, 1, H, W)`; the mean for other numbers of channels."""
    if images.shape[1] != 3:
        return images.mean(1, keepdim=True)
    return (images * torch.tensor(_GREY, device=images.device)[:, None, None]).sum(1, keepdim=True)


def _blend(images: Tensor, degenerate: Tensor, amount: Tensor) -> Tensor:
    """Return `degenerate + (1 + amount) * (images - degenerate)`, clamped to 0 to 1."""
    return torch.lerp(degenerate.expand_as(images), images, 1 + amount[:, None, None, None]).clamp(0, 1)


def brightness(images: Tensor, amount: Tensor) -> Tensor:
    """Blend with black; `amount` is -1 to 1 for each image, and 0 changes nothing, as in the next three."""
    return _blend(images, torch.zeros_like(images), amount)


def colour(images: Tensor, amount: Tensor) -> Tensor:
    """Blend with the grey image."""
    return _blend(images, grey(images), amount)


def contrast(images: Tensor, amount: Tensor) -> Tensor:
    """Blend with the mean grey value."""
    return _blend(images, grey(images).mean((2, 3), keepdim=True), amount)


def sharpness(images: Tensor, amount: Tensor) -> Tensor:
    """Blend with a smoothed copy; the outermost pixels stay."""
    channels = images.shape[1]
    kernel = torch.ones(channels, 1, 3, 3, device=images.device)
    kernel[:, :, 1, 1] = 5
    smooth = images.clone()
    smooth[..., 1:-1, 1:-1] = F.conv2d(images, kernel / 13, groups=channels)
    return _blend(images, smooth, amount)


def posterize(images: Tensor, amount: Tensor) -> Tensor:
    """Keep `8 - 4 |amount|` bits of each channel."""
    levels = 2 ** (8 - (4 * amount.abs()).round())[:, None, None, None]
    return (images * levels).floor().clamp(max=levels - 1) / levels


def solarize(images: Tensor, amount: Tensor) -> Tensor:
    """Invert values of at least `1 - |amount|`."""
    return torch.where(images >= 1 - amount.abs()[:, None, None, None], 1 - images, images)


def autocontrast(images: Tensor, amount: Tensor) -> Tensor:
    """Stretch each channel to 0 to 1; a constant channel stays."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    flat = low == high
    return torch.where(flat, images, (images - low) / torch.where(flat, 1.0, high - low))


def equalize(images: Tensor, amount: Tensor) -> Tensor:
    """Equalise each channel's histogram of 256 values, as Pillow does."""
    batch, channels, height, width = images.shape
    values = (images * 255).round().long().flatten(0, 1).flatten(1)  # (B * channels, pixels)
    counts = torch.zeros(batch * channels, 256, dtype=torch.long, device=images.device)
    counts.scatter_add_(1, values, torch.ones_like(values))
    brightest = counts.gather(1, values.amax(1, keepdim=True))
    step = torch.div(height * width - brightest, 255, rounding_mode="floor")
    below = counts.cumsum(1) - counts
    safe = step.clamp(min=1)
    table = torch.div(below + torch.div(safe, 2, rounding_mode="floor"), safe, rounding_mode="floor").clamp(0, 255)
    equal = table.gather(1, values).float().view_as(images) / 255
    return torch.where(step.view(batch, channels, 1, 1) == 0, images, equal)


OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "brightness": brightness,
    "colour": colour,
    "contrast": contrast,
    "sharpness": sharpness,
    "posterize": posterize,
    "solarize": solarize,
    "autocontrast": autocontrast,
    "equalize": equalize,
}
"""Colour operations: name to a function of images `(B, channels, H, W)` in 0 to 1 and amounts `(B,)`."""

_RANGES = {"brightness": 0.9, "colour": 0.9, "contrast": 0.9, "sharpness": 0.9}  # 1 for the others
_GEOMETRIC = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
_NAMES = (*OPERATIONS, *_GEOMETRIC, "nothing")


def affine(images: Tensor, matrices: Tensor) -> Tensor:
    """Resample each image by its matrix `(B, 2, 3)`, which maps output to input pixels relative to the centre.

    Bilinear; black outside the image.
    """
    height, width = images.shape[2:]
    scale = torch.tensor([width / 2, height / 2], device=images.device)
    # affine_grid uses units of half widths and half heights.
    theta = matrices.clone()
    theta[:, :, :2] = matrices[:, :, :2] * scale / scale[:, None]
    theta[:, :, 2] = matrices[:, :, 2] / scale
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def matrices(kinds: Tensor, amount: Tensor, height: int, width: int) -> Tensor:
    """Return the affine matrices `(B, 2, 3)` of operations given by their index in `_GEOMETRIC`; amount -1 to 1."""
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


def rand_augment(images: Tensor, magnitude: int, draws: Draws) -> Tensor:
    """Apply two random operations to each image `(B, channels, H, W)` in 0 to 1; magnitude 1 to 10."""
    height, width = images.shape[2:]
    for _ in range(_OPERATIONS_PER_IMAGE):
        kinds = draws.integers(0, len(_NAMES))
        amount = (2 * draws.chance(0.5).float() - 1) * (magnitude / _MAX_MAGNITUDE)
        images = images.clone()
        for kind, (name, operation) in enumerate(OPERATIONS.items()):
            chosen = (kinds == kind).nonzero()[:, 0]
            if len(chosen):
                images[chosen] = operation(images[chosen], amount[chosen] * _RANGES.get(name, 1.0))
        moved = ((kinds >= len(OPERATIONS)) & (kinds < len(_NAMES) - 1)).nonzero()[:, 0]
        if len(moved):
            affine_matrices = matrices(kinds[moved] - len(OPERATIONS), amount[moved], height, width)
            images[moved] = affine(images[moved], affine_matrices)
    return images
