"""From an image of any size to the numbers that a model sees: resized, cropped at the centre, normalised.

Training, validation and the zoo all take this one way, so that figures and heat maps are of the same pixels. It is
torchvision's and timm's: the whole image is resized and a whole number of pixels is cut off.
"""

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

__all__ = ["crop_region", "crop_square", "normalise", "to_float"]

Size = tuple[int, int]

_MOST_OBLONG = 16
"""Longer over shorter side up to which an image is resized whole; a strip of one pixel would take gigabytes."""


def crop_square(
    picture: Image.Image,
    size: int,
    crop_fraction: float = 1.0,
    resampling: Image.Resampling = Image.Resampling.BICUBIC,
    squash: bool = False,
) -> Image.Image:
    """Resize and crop an image to `size` by `size` pixels.

    Args:
        image: in any mode that Pillow can resize.
        size: side in pixels.
        crop_fraction: share of the shorter side that the crop keeps; above 1 the rest is a black border.
        resampling: Pillow's filter; it widens with the scale, so that nothing aliases.
        squash: whether both sides are squeezed to one length instead of keeping their ratio.
    """
    if not squash and max(picture.size) > (longest := _MOST_OBLONG * min(picture.size)):
        left, top = (max(0, length - longest) // 2 for length in picture.size)
        picture = picture.crop((left, top, min(left + longest, picture.width), min(top + longest, picture.height)))
    scaled = _scaled(picture.size, size, crop_fraction, squash)
    left, top = (_offset(length, size) for length in scaled)
    return picture.resize(scaled, resampling).crop((left, top, left + size, top + size))


def crop_region(
    picture: Size, size: int, crop_fraction: float = 1.0, squash: bool = False
) -> tuple[int, int, int, int]:
    """What `crop_square` keeps of an image of `(width, height)` pixels, as Pillow's box in its own pixels."""
    scaled = _scaled(picture, size, crop_fraction, squash)
    edges = []
    for length, resized in zip(picture, scaled, strict=True):
        first = _offset(resized, size)
        start = min(round(first * length / resized), length - 1)
        edges.append((start, max(start + 1, round((first + size) * length / resized))))
    (left, right), (top, bottom) = edges
    return left, top, right, bottom


def to_float(pictures: Tensor) -> Tensor:
    """`(B, H, W, channels)` to `(B, channels, H, W)` float32; bytes are scaled to 0 to 1."""
    planes = pictures.permute(0, 3, 1, 2).float()
    return planes / 255 if pictures.dtype == torch.uint8 else planes


def normalise(pictures: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Subtract the mean of each channel and divide by its standard deviation, `(B, channels, H, W)`."""
    shift, scale = (torch.tensor(values, device=pictures.device).view(-1, 1, 1) for values in (mean, std))
    return (pictures - shift) / scale


def _scaled(picture: Size, size: int, crop_fraction: float, squash: bool) -> Size:
    shorter = int(size / crop_fraction)
    if squash:
        return shorter, shorter
    width, height = picture
    if width <= height:
        return shorter, int(shorter * height / width)
    return int(shorter * width / height), shorter


def _offset(length: int, size: int) -> int:
    # torchvision rounds a cut half to even, and a border's half down.
    return round((length - size) / 2) if length >= size else -((size - length) // 2)
