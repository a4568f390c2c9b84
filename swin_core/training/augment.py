"""Augmentation of whole batches, so that a data set in memory needs no worker processes.

All random numbers come from the `Draws` of a step, so that its batch depends on the seed, the epoch and the step alone.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from swin_core.images.preprocessing import to_float
from swin_core.training.config import TrainConfig
from swin_core.training.randaugment import rand_augment
from swin_core.training.random_draws import Draws


def augment(images: Tensor, config: TrainConfig, draws: Draws) -> Tensor:
    """Augment a training batch by the config's settings.

    Args:
        images: `(B, S, S, channels)`, uint8 or float.
        config: crop, flip, colour, cutout and erasing settings, and the size of the result.
        draws: the random numbers.

    Returns:
        `(B, channels, image_size, image_size)`, float32, not normalised; uint8 becomes 0 to 1.
    """
    if config.crop_scale < 1:
        batch = resized_crop(to_float(images), config.image_size, config.crop_scale, draws)
    else:
        batch = to_float(padded_crop(images, config.crop_padding, draws))
    if config.flip:
        batch = flip(batch, draws)
    if config.randaugment:
        batch = rand_augment(batch, config.randaugment, draws)
    if config.colour_jitter:
        batch = colour_jitter(batch, config.colour_jitter, draws)
    if config.cutout:
        batch = cutout(batch, config.cutout, draws)
    if config.erasing:
        batch = random_erasing(batch, config.erasing, draws)
    return batch


def padded_crop(images: Tensor, padding: int, draws: Draws) -> Tensor:
    """Pad images `(B, S, S, channels)` by reflection and crop each at random to its own size."""
    if not padding:
        return images
    batch, side = images.shape[:2]
    offsets = draws.integers(-padding, padding + 1, 2, 1)
    indices = offsets + torch.arange(side, device=offsets.device)  # (B, 2, S)
    indices = (side - 1) - ((side - 1) - indices.abs()).abs()  # reflected at both edges
    rows, columns = indices[:, 0, :, None], indices[:, 1, None, :]
    return images[torch.arange(batch, device=offsets.device)[:, None, None], rows, columns]


def resized_crop(images: Tensor, size: int, smallest: float, draws: Draws) -> Tensor:
    """Random resized crop (Szegedy et al. 2015) of area `smallest` to 1 and aspect 3/4 to 4/3, bilinear.

    `(B, channels, S, S)` to `(B, channels, size, size)`.
    """
    batch = len(images)
    area = draws.uniform(smallest, 1)
    aspect = (4 / 3) ** draws.uniform(-1, 1)
    height = (area / aspect).sqrt().clamp(max=1)
    width = (area * aspect).sqrt().clamp(max=1)
    centre = draws.uniform(-1, 1, 2)
    theta = torch.zeros(batch, 2, 3, device=images.device)
    theta[:, 0, 0], theta[:, 0, 2] = width, centre[:, 0] * (1 - width)
    theta[:, 1, 1], theta[:, 1, 2] = height, centre[:, 1] * (1 - height)
    grid = F.affine_grid(theta, [batch, images.shape[1], size, size], align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def flip(images: Tensor, draws: Draws) -> Tensor:
    """Flip half of the images `(B, channels, H, W)` horizontally."""
    flipped = draws.chance(0.5)[:, None, None, None]
    return torch.where(flipped, images.flip(-1), images)


def colour_jitter(images: Tensor, strength: float, draws: Draws) -> Tensor:
    """Scale brightness, contrast and saturation, each by a factor in `1 - strength` to `1 + strength`."""
    brightness, contrast, saturation = draws.uniform(1 - strength, 1 + strength, 3, 1, 1, 1).unbind(1)
    images = images * brightness
    mean = images.mean((1, 2, 3), keepdim=True)
    images = mean + (images - mean) * contrast
    grey = images.mean(1, keepdim=True)
    return (grey + (images - grey) * saturation).clamp_(0, 1)


def cutout(images: Tensor, side: int, draws: Draws) -> Tensor:
    """Fill a square of `side` pixels in each image with its mean colour (DeVries and Taylor 2017)."""
    height, width = images.shape[2:]
    top, left = draws.integers(0, height - side + 1), draws.integers(0, width - side + 1)
    inside = rectangles(top, left, top + side, left + side, height, width)
    return torch.where(inside, images.mean((2, 3), keepdim=True), images)


def random_erasing(images: Tensor, share: float, draws: Draws) -> Tensor:
    """Replace a rectangle by uniform noise in a share of the images (Zhong et al. 2020).

    As published, it covers 2 to 33 % of the area with an aspect of 0.3 to 1 / 0.3; it is clipped to the image.
    """
    height, width = images.shape[2:]
    chosen = draws.chosen(share)
    rows = chosen.to(images.device)
    area = draws.uniform(0.02, 1 / 3) * height * width
    aspect = 0.3 ** draws.uniform(-1, 1)
    tall = (area * aspect).sqrt().round().clamp(1, height)
    wide = (area / aspect).sqrt().round().clamp(1, width)
    top = (draws.uniform(0, 1) * (height - tall + 1)).floor()
    left = (draws.uniform(0, 1) * (width - wide + 1)).floor()
    inside = rectangles(top, left, top + tall, left + wide, height, width)[rows]
    erased = torch.where(inside, draws.noise(chosen, *images.shape[1:]), images[rows])
    return images.index_copy(0, rows, erased)


def rectangles(top: Tensor, left: Tensor, bottom: Tensor, right: Tensor, height: int, width: int) -> Tensor:
    """Return `(B, 1, height, width)` bool, true inside rectangles with edges `(B,)`, bottom and right excluded."""
    rows, columns = torch.arange(height, device=top.device), torch.arange(width, device=top.device)
    inside_rows = (rows >= top[:, None]) & (rows < bottom[:, None])
    inside_columns = (columns >= left[:, None]) & (columns < right[:, None])
    return (inside_rows[:, :, None] & inside_columns[:, None, :])[:, None]
