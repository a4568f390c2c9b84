"""Augmentation of whole batches at once: a small data set stays in memory as bytes and needs no worker processes.

Every function draws from the generator that it is given, so that a step's batch depends on the seed, the epoch and the
step alone.
"""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from swin_core.preprocessing import to_float
from swin_core.training.config import TrainConfig

__all__ = ["augment", "colour_jitter", "cutout", "flip", "padded_crop", "resized_crop"]


def augment(pictures: Tensor, config: TrainConfig, generator: Generator) -> Tensor:
    """A training batch by the config's settings.

    Args:
        pictures: `(B, S, S, channels)`, uint8 or float.
        config: crop, flip, colour and cutout settings, and the size of the result.
        generator: where randomness comes from.

    Returns:
        `(B, channels, image_size, image_size)`, float32 in 0 to 1 for bytes, not normalised.
    """
    if config.crop_scale < 1:
        batch = resized_crop(to_float(pictures), config.image_size, config.crop_scale, generator)
    else:
        batch = to_float(padded_crop(pictures, config.crop_padding, generator))
    if config.flip:
        batch = flip(batch, generator)
    if config.colour_jitter:
        batch = colour_jitter(batch, config.colour_jitter, generator)
    if config.cutout:
        batch = cutout(batch, config.cutout, generator)
    return batch


def padded_crop(pictures: Tensor, padding: int, generator: Generator) -> Tensor:
    """A crop of the pictures' own size out of each picture with `padding` pixels of reflected border.

    `(B, S, S, channels)` to the same.
    """
    if not padding:
        return pictures
    batch, side = pictures.shape[:2]
    offsets = torch.randint(-padding, padding + 1, (2, batch, 1), generator=generator)
    places = offsets + torch.arange(side)  # (2, B, S)
    places = (side - 1) - ((side - 1) - places.abs()).abs()  # reflected at both edges
    rows, columns = places[0, :, :, None], places[1, :, None, :]
    return pictures[torch.arange(batch)[:, None, None], rows, columns]


def resized_crop(pictures: Tensor, size: int, smallest: float, generator: Generator) -> Tensor:
    """Random resized crop (Szegedy et al. 2015): area between `smallest` and 1, aspect between 3/4 and 4/3.

    `(B, channels, S, S)` to `(B, channels, size, size)`; bilinear.
    """
    batch = len(pictures)
    area = torch.empty(batch).uniform_(smallest, 1, generator=generator)
    aspect = torch.empty(batch).uniform_(-1, 1, generator=generator).mul_(torch.log(torch.tensor(4 / 3))).exp_()
    height = (area / aspect).sqrt().clamp(max=1)
    width = (area * aspect).sqrt().clamp(max=1)
    place = torch.empty(2, batch).uniform_(-1, 1, generator=generator)
    theta = torch.zeros(batch, 2, 3)
    theta[:, 0, 0], theta[:, 0, 2] = width, place[0] * (1 - width)
    theta[:, 1, 1], theta[:, 1, 2] = height, place[1] * (1 - height)
    grid = F.affine_grid(theta, [batch, pictures.shape[1], size, size], align_corners=False)
    return F.grid_sample(pictures, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def flip(pictures: Tensor, generator: Generator) -> Tensor:
    """Mirror half of the pictures, `(B, channels, H, W)`."""
    mirrored = torch.rand(len(pictures), 1, 1, 1, generator=generator) < 0.5
    return torch.where(mirrored, pictures.flip(-1), pictures)


def colour_jitter(pictures: Tensor, strength: float, generator: Generator) -> Tensor:
    """Change brightness, contrast and saturation, each by a factor in `1 - strength` to `1 + strength`."""
    factors = torch.empty(3, len(pictures), 1, 1, 1).uniform_(1 - strength, 1 + strength, generator=generator)
    pictures = pictures * factors[0]
    mean = pictures.mean((1, 2, 3), keepdim=True)
    pictures = mean + (pictures - mean) * factors[1]
    grey = pictures.mean(1, keepdim=True)
    return (grey + (pictures - grey) * factors[2]).clamp_(0, 1)


def cutout(pictures: Tensor, side: int, generator: Generator) -> Tensor:
    """Blank one square of `side` pixels in each picture with the batch's mean colour (DeVries and Taylor 2017)."""
    batch, _, height, width = pictures.shape
    top = torch.randint(0, height - side + 1, (batch, 1), generator=generator)
    left = torch.randint(0, width - side + 1, (batch, 1), generator=generator)
    rows, columns = torch.arange(height), torch.arange(width)
    inside_rows = (rows >= top) & (rows < top + side)
    inside_columns = (columns >= left) & (columns < left + side)
    inside = (inside_rows[:, :, None] & inside_columns[:, None, :])[:, None]
    return torch.where(inside, pictures.mean((0, 2, 3), keepdim=True), pictures)
