"""Preprocess images for a model: resize, crop at the centre, normalise.

Training, validation and the zoo share these functions, so metrics and heat maps are of the same pixels. They equal
torchvision's and timm's transforms: the whole image is resized and a whole number of pixels is cut off.
"""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

Size = tuple[int, int]

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of the channels of ImageNet."""

_LUMA = (19595, 38470, 7471)
"""Shares of red, green and blue in grey, in 65,536ths."""
_MAX_ASPECT = 16
"""Longest side over shortest above which an image is cropped first; resizing a strip of one pixel takes gigabytes."""


def crop_square(
    image: Image.Image,
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
        resampling: Pillow's filter, antialiased.
        squash: whether to resize both sides to the same length instead of keeping the aspect ratio.
    """
    if not squash and max(image.size) > (longest := _MAX_ASPECT * min(image.size)):
        left, top = (max(0, length - longest) // 2 for length in image.size)
        image = image.crop((left, top, min(left + longest, image.width), min(top + longest, image.height)))
    resized = _resized_size(image.size, size, crop_fraction, squash)
    left, top = (_offset(length, size) for length in resized)
    return image.resize(resized, resampling).crop((left, top, left + size, top + size))


def crop_region(
    image_size: Size, size: int, crop_fraction: float = 1.0, squash: bool = False
) -> tuple[int, int, int, int]:
    """Return the region that `crop_square` keeps of an image of `(width, height)` pixels.

    Returns:
        Left, top, right and bottom, in pixels of the image.
    """
    resized = _resized_size(image_size, size, crop_fraction, squash)
    edges = []
    for length, resized_length in zip(image_size, resized, strict=True):
        first = _offset(resized_length, size)
        start = min(round(first * length / resized_length), length - 1)
        edges.append((start, max(start + 1, round((first + size) * length / resized_length))))
    (left, right), (top, bottom) = edges
    return left, top, right, bottom


def to_float(images: Tensor) -> Tensor:
    """Convert `(B, H, W, C)` to `(B, C, H, W)` float32; uint8 is scaled to 0 to 1."""
    planes = images.permute(0, 3, 1, 2).float()
    return planes / 255 if images.dtype == torch.uint8 else planes


def grey(pixels: np.ndarray) -> np.ndarray:
    """Return RGB pixels `(..., 3)` uint8 as grey `(..., 1)` uint8: the luma of ITU-R 601-2, rounded as by Pillow."""
    weighted = pixels.astype(np.uint32) @ np.array(_LUMA, np.uint32)
    return ((weighted + 0x8000) >> 16).astype(np.uint8)[..., None]


def grey_tensor(pixels: Tensor) -> Tensor:
    """Return `grey` of pixels `(B, H, W, 3)` uint8 in operations that can be exported, `(B, H, W, 1)` uint8."""
    weighted = (pixels.int() * torch.tensor(_LUMA, dtype=torch.int32, device=pixels.device)).sum(-1, keepdim=True)
    return ((weighted + 0x8000) // 0x10000).to(torch.uint8)


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Subtract each channel's mean and divide by its standard deviation, `(B, C, H, W)`."""
    shift, scale = (torch.tensor(values, device=images.device).view(-1, 1, 1) for values in (mean, std))
    return (images - shift) / scale


def _resized_size(image_size: Size, size: int, crop_fraction: float, squash: bool) -> Size:
    shorter = int(size / crop_fraction)
    if squash:
        return shorter, shorter
    width, height = image_size
    if width <= height:
        return shorter, int(shorter * height / width)
    return int(shorter * width / height), shorter


def _offset(length: int, size: int) -> int:
    # torchvision rounds half a pixel to even for a crop, and down for a border.
    return round((length - size) / 2) if length >= size else -((size - length) // 2)
