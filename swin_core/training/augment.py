"""Augmentation of whole batches at once: a small data set stays in memory as bytes and needs no worker processes.

Every function takes its random numbers from the draws that it is given, so that a step's batch depends on the seed, the
epoch and the step alone.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from swin_core.images.preprocessing import to_float
from swin_core.training.config import TrainConfig
from swin_core.training.randaugment import rand_augment
from swin_core.training.random_draws import Draws

__all__ = ["augment", "colour_jitter", "cutout", "flip", "padded_crop", "random_erasing", "resized_crop"]


def augment(pictures: Tensor, config: TrainConfig, draws: Draws) -> Tensor:
    """A training batch by the config's settings.

    Args:
        images: `(B, S, S, channels)`, uint8 or float.
        config: crop, flip, colour, cutout and erasing settings, and the size of the result.
        draws: where randomness comes from.

    Returns:
        `(B, channels, image_size, image_size)`, float32 in 0 to 1 for bytes, not normalised.
    """
    if config.crop_scale < 1:
        batch = resized_crop(to_float(pictures), config.image_size, config.crop_scale, draws)
    else:
        batch = to_float(padded_crop(pictures, config.crop_padding, draws))
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


def padded_crop(pictures: Tensor, padding: int, draws: Draws) -> Tensor:
    """A crop of the images' own size out of each image with `padding` pixels of reflected border.

    `(B, S, S, channels)` to the same.
    """
    if not padding:
        return pictures
    batch, side = pictures.shape[:2]
    offsets = draws.integers(-padding, padding + 1, 2, 1)
    places = offsets + torch.arange(side, device=offsets.device)  # (B, 2, S)
    places = (side - 1) - ((side - 1) - places.abs()).abs()  # reflected at both edges
    rows, columns = places[:, 0, :, None], places[:, 1, None, :]
    return pictures[torch.arange(batch, device=offsets.device)[:, None, None], rows, columns]


def resized_crop(pictures: Tensor, size: int, smallest: float, draws: Draws) -> Tensor:
    """Random resized crop (Szegedy et al. 2015): area between `smallest` and 1, aspect between 3/4 and 4/3.

    `(B, channels, S, S)` to `(B, channels, size, size)`; bilinear.
    """
    batch = len(pictures)
    area = draws.uniform(smallest, 1)
    aspect = (4 / 3) ** draws.uniform(-1, 1)
    height = (area / aspect).sqrt().clamp(max=1)
    width = (area * aspect).sqrt().clamp(max=1)
    place = draws.uniform(-1, 1, 2)
    theta = torch.zeros(batch, 2, 3, device=pictures.device)
    theta[:, 0, 0], theta[:, 0, 2] = width, place[:, 0] * (1 - width)
    theta[:, 1, 1], theta[:, 1, 2] = height, place[:, 1] * (1 - height)
    grid = F.affine_grid(theta, [batch, pictures.shape[1], size, size], align_corners=False)
    return F.grid_sample(pictures, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def flip(pictures: Tensor, draws: Draws) -> Tensor:
    """Mirror half of the images, `(B, channels, H, W)`."""
    mirrored = draws.chance(0.5)[:, None, None, None]
    return torch.where(mirrored, pictures.flip(-1), pictures)


def colour_jitter(pictures: Tensor, strength: float, draws: Draws) -> Tensor:
    """Change brightness, contrast and saturation, each by a factor in `1 - strength` to `1 + strength`."""
    brightness, contrast, saturation = draws.uniform(1 - strength, 1 + strength, 3, 1, 1, 1).unbind(1)
    pictures = pictures * brightness
    mean = pictures.mean((1, 2, 3), keepdim=True)
    pictures = mean + (pictures - mean) * contrast
    grey = pictures.mean(1, keepdim=True)
    return (grey + (pictures - grey) * saturation).clamp_(0, 1)


def cutout(pictures: Tensor, side: int, draws: Draws) -> Tensor:
    """Blank one square of `side` pixels in each image with the image's mean colour (DeVries and Taylor 2017)."""
    height, width = pictures.shape[2:]
    top, left = draws.integers(0, height - side + 1), draws.integers(0, width - side + 1)
    inside = rectangles(top, left, top + side, left + side, height, width)
    return torch.where(inside, pictures.mean((2, 3), keepdim=True), pictures)


def random_erasing(pictures: Tensor, share: float, draws: Draws) -> Tensor:
    """Replace a rectangle by uniform noise in a share of the images (Zhong et al. 2020).

    It covers 2 to 33 % of the area, with an aspect between 0.3 and 1 / 0.3, as published; what would not fit is cut.
    """
    height, width = pictures.shape[2:]
    chosen = draws.chosen(share)
    rows = chosen.to(pictures.device)
    area = draws.uniform(0.02, 1 / 3) * height * width
    aspect = 0.3 ** draws.uniform(-1, 1)
    tall = (area * aspect).sqrt().round().clamp(1, height)
    wide = (area / aspect).sqrt().round().clamp(1, width)
    top = (draws.uniform(0, 1) * (height - tall + 1)).floor()
    left = (draws.uniform(0, 1) * (width - wide + 1)).floor()
    inside = rectangles(top, left, top + tall, left + wide, height, width)[rows]
    erased = torch.where(inside, draws.noise(chosen, *pictures.shape[1:]), pictures[rows])
    return pictures.index_copy(0, rows, erased)


def rectangles(top: Tensor, left: Tensor, bottom: Tensor, right: Tensor, height: int, width: int) -> Tensor:
    """`(B, 1, height, width)` bool, true from top to before bottom and from left to before right; each `(B,)`."""
    rows, columns = torch.arange(height, device=top.device), torch.arange(width, device=top.device)
    inside_rows = (rows >= top[:, None]) & (rows < bottom[:, None])
    inside_columns = (columns >= left[:, None]) & (columns < right[:, None])
    return (inside_rows[:, :, None] & inside_columns[:, None, :])[:, None]
