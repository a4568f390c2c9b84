"""Mixup and CutMix: images that are made of two, with the label of each in its share.

An image is mixed with its neighbour in the batch. The batch is in random order, so that is as good as any other; and
neighbours are always on one device, so that a batch is mixed alike however it is divided.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from swin_core.training.augment import rectangles
from swin_core.training.random_draws import Draws

__all__ = ["Mixed", "mix"]


@dataclass(frozen=True, eq=False)
class Mixed:
    """A batch of mixed images and what is in them."""

    pictures: Tensor
    """`(B, channels, H, W)`."""
    partners: Tensor
    """`(B,)` labels of the images that were mixed in."""
    shares: Tensor
    """`(B,)` share of the image's own label, 0 to 1; the rest is the partner's."""


def mix(pictures: Tensor, labels: Tensor, mixup: float, cutmix: float, draws: Draws) -> Mixed:
    """Mix each image with its neighbour.

    Mixup (Zhang et al. 2018) blends them by a share of the Beta distribution. CutMix (Yun et al. 2019) puts a rectangle
    of the neighbour into the image; the share is then what is left of the area. With both, each is used for half of
    the pairs. The last image of an odd batch stays as it is.

    Args:
        images: `(B, channels, H, W)`, in random order.
        labels: `(B,)`.
        mixup, cutmix: parameters of the Beta distributions; 0 for none.
        draws: where randomness comes from.
    """
    places = torch.arange(len(pictures), device=pictures.device)
    neighbours = torch.where(places ^ 1 < len(pictures), places ^ 1, places)
    others = pictures[neighbours]
    cut = draws.uniform_pairs() < (0.5 if mixup and cutmix else float(bool(cutmix)))
    shares = torch.where(cut, draws.beta(cutmix or 1.0), draws.beta(mixup or 1.0))
    inside = _boxes(shares, pictures.shape[2], pictures.shape[3], draws)
    cut_shares = 1 - inside.float().mean((1, 2, 3))
    shares = torch.where(cut, cut_shares, shares)
    blended = torch.lerp(others, pictures, shares[:, None, None, None])
    pasted = torch.where(inside, others, pictures)
    return Mixed(torch.where(cut[:, None, None, None], pasted, blended), labels[neighbours], shares)


def _boxes(shares: Tensor, height: int, width: int, draws: Draws) -> Tensor:
    """A rectangle of about `1 - share` of the area with a centre anywhere, cut off at the edges (Yun et al., eq. 2)."""
    side = (1 - shares).sqrt()
    middle_y, middle_x = draws.uniform_pairs() * height, draws.uniform_pairs() * width
    top, bottom = (middle_y - side * height / 2).round(), (middle_y + side * height / 2).round()
    left, right = (middle_x - side * width / 2).round(), (middle_x + side * width / 2).round()
    return rectangles(top, left, bottom, right, height, width)
