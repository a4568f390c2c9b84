"""Mixup and CutMix: blend pairs of images and their labels.

Each image is mixed with its neighbour in the batch. The batch is in random order, so this is as good as any other
pairing; and since both neighbours are always on one device, a batch is mixed the same however it is divided.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from swin_core.training.augment import rectangles
from swin_core.training.random_draws import Draws


@dataclass(frozen=True, eq=False)
class MixedBatch:
    """A batch of mixed images."""

    images: Tensor
    """`(B, channels, H, W)`."""
    partners: Tensor
    """`(B,)` labels of the images that were mixed in."""
    shares: Tensor
    """`(B,)` share of the image's own label, 0 to 1; the rest is the partner's."""


def mix(images: Tensor, labels: Tensor, mixup: float, cutmix: float, draws: Draws) -> MixedBatch:
    """Mix each image with its neighbour; the last image of an odd batch stays as it is.

    Mixup (Zhang et al. 2018) blends two images with a share from the Beta distribution. CutMix (Yun et al. 2019) pastes
    a rectangle of the neighbour; the share is the remaining area. With both, each is used for half of the pairs.

    Args:
        images: `(B, channels, H, W)`, in random order.
        labels: `(B,)`.
        mixup, cutmix: alpha of the Beta distributions; 0 for none.
        draws: the random numbers.
    """
    indices = torch.arange(len(images), device=images.device)
    neighbours = torch.where(indices ^ 1 < len(images), indices ^ 1, indices)
    others = images[neighbours]
    use_cutmix = draws.uniform_pairs() < (0.5 if mixup and cutmix else float(bool(cutmix)))
    shares = torch.where(use_cutmix, draws.beta(cutmix or 1.0), draws.beta(mixup or 1.0))
    inside = _boxes(shares, images.shape[2], images.shape[3], draws)
    shares = torch.where(use_cutmix, 1 - inside.float().mean((1, 2, 3)), shares)
    blended = torch.lerp(others, images, shares[:, None, None, None])
    pasted = torch.where(inside, others, images)
    return MixedBatch(torch.where(use_cutmix[:, None, None, None], pasted, blended), labels[neighbours], shares)


def _boxes(shares: Tensor, height: int, width: int, draws: Draws) -> Tensor:
    """Return a box of area `1 - share` around a random centre, clipped to the image (Yun et al., eq. 2)."""
    side = (1 - shares).sqrt()
    middle_y, middle_x = draws.uniform_pairs() * height, draws.uniform_pairs() * width
    top, bottom = (middle_y - side * height / 2).round(), (middle_y + side * height / 2).round()
    left, right = (middle_x - side * width / 2).round(), (middle_x + side * width / 2).round()
    return rectangles(top, left, bottom, right, height, width)
