"""Faithfulness of maps: the target's probability while pixels are changed in the order of a map.

The images of all curves pass through the model in batches of one size, on the model's device. The probabilities of the
whole, the blurred and the blank image, which the curves share, are computed once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from swin_core.images.inpainting import blur, inpaint
from swin_core.system.batches import images_at_once
from swin_core.zoo.classifier import Classifier

ROAD_SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Shares of the pixels that ROAD removes; the paper uses 0.1, 0.2 and so on to 0.9."""

_NOISE = 0.01
"""Standard deviation of ROAD's noise, in normalised units."""


def _batch_size(images: Tensor) -> int:
    return images_at_once(images.device, max(images.shape[2:]), most=128)


@dataclass(frozen=True, eq=False)
class Gain:
    """Deletion curves of M maps; see `assess.Measures` for the meaning of each."""

    shares: Tensor
    """Share of the pixels changed at each point of a curve, `(P,)`."""
    deletion: Tensor
    """`(M, P)`."""
    retention: Tensor
    """`(M, P)`."""

    @property
    def srg(self) -> Tensor:
        """Symmetric relevance gain, `(M,)`."""
        return areas(self.shares, self.retention) - areas(self.shares, self.deletion)


@dataclass(frozen=True, eq=False)
class Faithfulness(Gain):
    """Deletion curves and the more expensive measurements."""

    insertion: Tensor
    """`(M, P)`."""
    road: Tensor
    """`(M,)`."""


class Probe:
    """Measures the probabilities of M maps' targets on modified images.

    Args:
        classifier: the model; its lock is held for one batch at a time, so that other calls can run in between.
        images: normalised images, `(V, C, H, W)`, on the model's device.
        owner: index of the image of each map, `(M,)`.
        targets: class of each map, `(M,)`.
        tick: called with the number of images that have just passed through the model.
    """

    def __init__(
        self,
        classifier: Classifier,
        images: Tensor,
        owner: Tensor,
        targets: Tensor,
        tick: Callable[[int], None] = lambda count: None,
    ):
        self.classifier, self.images, self.tick = classifier, images, tick
        self.owner, self.targets = owner.to(images.device), targets.to(images.device)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images."""
        return self.images.shape[2], self.images.shape[3]

    @cached_property
    def blurred(self) -> Tensor:
        """The blurred images."""
        return blur(self.images)

    @cached_property
    def blank(self) -> Tensor:
        """Images of zeros, the data's mean colour, as a view of a single number."""
        return self.images.new_zeros(1).expand(self.images.shape)

    @cached_property
    def whole_probability(self) -> Tensor:
        """Probabilities of the targets in the unchanged images, `(M,)`."""
        return self._of_owners(self.images)

    @cached_property
    def blurred_probability(self) -> Tensor:
        """Probabilities of the targets in the blurred images, `(M,)`."""
        return self._of_owners(self.blurred)

    @cached_property
    def blank_probability(self) -> Tensor:
        """Probabilities of the targets in the image of zeros, `(M,)`."""
        return self._probabilities(self.blank[:1])[0][self.targets]

    def run(self, count: int, make: Callable[[Tensor], Tensor], targets: Tensor) -> Tensor:
        """Run `count` generated images through the model in batches; return p(target) of each, `(count,)`.

        `make(indices)` builds one batch.
        """
        if not count:  # the curve of a single pixel has no inner points
            return self.images.new_zeros(0)
        probabilities = []
        for indices in torch.arange(count, device=self.images.device).split(_batch_size(self.images)):
            probabilities.append(self._probabilities(make(indices)).gather(1, targets[indices, None])[:, 0])
        return torch.cat(probabilities)

    def curve(self, before: Tensor, after: Tensor, order: Tensor, counts: Sequence[int]) -> Tensor:
        """Probabilities while pixels of `before` are replaced by those of `after`, without the first and last point.

        Args:
            before: `(V, C, H, W)`.
            after: `(V, C, H, W)`.
            order: rank of each pixel, `(M, H, W)`; the pixel of rank 0 changes first.
            counts: number of pixels changed at each of the P points.

        Returns:
            `(M, P - 2)`.
        """
        inner = torch.tensor(counts[1:-1], device=order.device)
        points = len(inner)

        def make(indices: Tensor) -> Tensor:
            maps = indices // points
            changed = order[maps] < inner[indices % points, None, None]
            images = self.owner[maps]
            return torch.where(changed[:, None], after[images], before[images])

        return self.run(len(order) * points, make, self.targets.repeat_interleave(points)).view(len(order), points)

    def _of_owners(self, images: Tensor) -> Tensor:
        probabilities = torch.cat([self._probabilities(batch) for batch in images.split(_batch_size(images))])
        return probabilities[self.owner, self.targets]

    def _probabilities(self, batch: Tensor) -> Tensor:
        with self.classifier.lock, self.classifier.many_images():
            probabilities = self.classifier.probabilities(self.classifier.logits_model(batch))
        self.tick(len(batch))
        return probabilities


def deletion(probe: Probe, maps: Tensor, steps: int, largest_first: bool = True) -> Tensor:
    """Probabilities while pixels are set to zero, the data's mean colour (Petsiuk et al. 2018, section 3.2), `(M, P)`.

    Args:
        probe: the images, and the image and class of each map.
        maps: `(M, h, w)`, on any grid; only the order of values counts.
        steps: points of a curve after the first. All steps change the same number of pixels, the last one maybe fewer.
        largest_first: remove the most important pixels first, or the least important ones.
    """
    values = enlarge(maps, probe.size)
    order, counts = pixel_ranks(values, largest_first), step_counts(values[0].numel(), steps)
    inner = probe.curve(probe.images, probe.blank, order, counts)
    return torch.cat([probe.whole_probability[:, None], inner, probe.blank_probability[:, None]], 1)


def insertion(probe: Probe, maps: Tensor, steps: int) -> Tensor:
    """Probabilities while pixels of the blurred image are restored, `(M, P)`; arguments as for `deletion`.

    As in Petsiuk et al. 2018 (section 3.2), except that the width of the blur is proportional to the image's side.
    """
    values = enlarge(maps, probe.size)
    order, counts = pixel_ranks(values, largest_first=True), step_counts(values[0].numel(), steps)
    inner = probe.curve(probe.blurred, probe.images, order, counts)
    return torch.cat([probe.blurred_probability[:, None], inner, probe.whole_probability[:, None]], 1)


def gain(probe: Probe, maps: Tensor, steps: int) -> Gain:
    """Deletion of the most and of the least important pixels first; arguments as for `deletion`."""
    counts = step_counts(probe.size[0] * probe.size[1], steps)
    shares = torch.tensor(counts, device=maps.device) / counts[-1]
    both = (deletion(probe, maps, steps, largest_first) for largest_first in (True, False))
    return Gain(shares, *both)


def measure(probe: Probe, maps: Tensor, steps: int, seed: int = 0) -> Faithfulness:
    """`gain`, insertion and ROAD; arguments as for `deletion`, and the seed of ROAD's noise."""
    curves = gain(probe, maps, steps)
    return Faithfulness(
        curves.shares, curves.deletion, curves.retention, insertion(probe, maps, steps), road(probe, maps, seed=seed)
    )


def road(probe: Probe, maps: Tensor, shares: Sequence[float] = ROAD_SHARES, seed: int = 0) -> Tensor:
    """ROAD of M maps (Rong et al. 2022): `(LeRF - MoRF) / 2`, averaged over shares of removed pixels, `(M,)`.

    Pixels are removed by rank: a threshold would remove all zeros of a map at once.

    Args:
        probe: the images, and the image and class of each map.
        maps: `(M, h, w)`, on any grid.
        shares: shares of pixels to remove.
        seed: seed of the noise added to the interpolated pixels; all images get the same noise.
    """
    values = enlarge(maps, probe.size)
    removed = torch.tensor([round(share * values[0].numel()) for share in shares], device=maps.device)
    generator = torch.Generator().manual_seed(seed)
    noise = _NOISE * torch.randn(probe.images.shape[1:], generator=generator).to(probe.images)
    orders = torch.stack([pixel_ranks(values, False), pixel_ranks(values, True)], 1).flatten(0, 1)  # (2M, H, W)
    points = len(shares)

    def make(indices: Tensor) -> Tensor:
        order = indices // points
        missing = orders[order] < removed[indices % points, None, None]
        filled = inpaint(probe.images[probe.owner[order // 2]], missing)
        return torch.where(missing[:, None], filled + noise, filled)

    probabilities = probe.run(len(orders) * points, make, probe.targets.repeat_interleave(2 * points))
    least_first, most_first = probabilities.view(len(maps), 2, points).mean(2).unbind(1)
    return (least_first - most_first) / 2


def pixel_ranks(values: Tensor, largest_first: bool) -> Tensor:
    """Rank of each pixel by its value, from 0, `(M, H, W)`, int32; equal pixels in reading order."""
    order = values.flatten(1).argsort(dim=1, descending=largest_first, stable=True)
    positions = torch.arange(order.shape[1], dtype=torch.int32, device=values.device).expand_as(order)
    return torch.empty_like(positions.contiguous()).scatter_(1, order, positions).view(values.shape)


def step_counts(pixels: int, steps: int) -> list[int]:
    """Number of pixels changed at each point of a curve: none, equal steps, all."""
    step = -(-pixels // steps)
    return [*range(0, pixels, step), pixels]


def areas(shares: Tensor, curves: Tensor) -> Tensor:
    """Area under each curve `(M, P)` by the trapezoid rule, `(M,)`, float64."""
    return torch.trapezoid(curves.double(), shares.double(), dim=1)


def enlarge(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize maps `(M, h, w)` to the size of the image, bilinear, float32."""
    maps = maps.float()
    if maps.shape[1:] == size:
        return maps
    return F.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]
