"""Faithfulness: what the target's probability does while pixels change, in the order that a map gives them.

All images of all curves form one queue that passes through the model in batches of one size, on the model's device.
What curves share is computed once: the probability of the whole image, of the blurred one and of the blank one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from swin_core.models.modes import evaluation_mode
from swin_core.trust.road import fill
from swin_core.zoo.classifier import Classifier

__all__ = [
    "ROAD_SHARES",
    "Faithfulness",
    "Gain",
    "Probe",
    "areas",
    "blur",
    "deletion",
    "enlarge",
    "gain",
    "insertion",
    "measure",
    "ranks",
    "road",
    "step_counts",
]

ROAD_SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Shares of the pixels that ROAD removes; the paper's own list is 0.1, 0.2 and so on to 0.9."""

_BLUR = 0.08
"""Standard deviation of the blur over the image's side."""
_NOISE = 0.01
"""Standard deviation of ROAD's noise, in normalised units."""


def _batch_size(pictures: Tensor) -> int:
    # A GPU wants to be filled. On a CPU large batches are slower where malloc returns their memory to the system (see
    # `keep_freed_memory`): then 64 images of 32 pixels, 16 of 128 and 8 of 224 are the fastest.
    return max(1, min(64, 2048 // max(pictures.shape[2:]))) if pictures.device.type == "cpu" else 128


@dataclass(frozen=True, eq=False)
class Gain:
    """Curves of M maps from both ends; see `trust.Measures` for what each means."""

    shares: Tensor
    """`(P,)`: share of the pixels changed at each point of a curve."""
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
    """The same with the measures that are dearer."""

    insertion: Tensor
    """`(M, P)`."""
    road: Tensor
    """`(M,)`."""


class Probe:
    """Asks a classifier for its targets' probabilities while the pixels of some images change.

    Args:
        classifier: the model; its lock is held for one batch at a time, so that others may come between.
        images: normalised, `(V, C, H, W)`, on the model's device.
        owner: `(M,)`, the image of each map.
        targets: `(M,)`, the class of each map.
        tick: called with the number of images that have just passed through the model.
    """

    def __init__(
        self,
        classifier: Classifier,
        pictures: Tensor,
        owner: Tensor,
        targets: Tensor,
        tick: Callable[[int], None] = lambda count: None,
    ):
        self.classifier, self.pictures, self.tick = classifier, pictures, tick
        self.owner, self.targets = owner.to(pictures.device), targets.to(pictures.device)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images."""
        return self.pictures.shape[2], self.pictures.shape[3]

    @cached_property
    def blurred(self) -> Tensor:
        """The images without what is small in them."""
        return blur(self.pictures)

    @cached_property
    def blank(self) -> Tensor:
        """An image of zeros, the data's mean colour, for each of them; it takes the room of one number."""
        return self.pictures.new_zeros(1).expand(self.pictures.shape)

    @cached_property
    def whole_probability(self) -> Tensor:
        """`(M,)`: of the unchanged images."""
        return self._of_owners(self.pictures)

    @cached_property
    def blurred_probability(self) -> Tensor:
        """`(M,)`: of the blurred images."""
        return self._of_owners(self.blurred)

    @cached_property
    def blank_probability(self) -> Tensor:
        """`(M,)`: of the image of zeros."""
        return self._softmax(self.blank[:1])[0][self.targets]

    def ask(self, count: int, make: Callable[[Tensor], Tensor], targets: Tensor) -> Tensor:
        """Probabilities `(count,)` of the classes `targets`, of images that `make` makes from a batch's numbers."""
        if not count:  # an image of one pixel has no curve between the first and the last point
            return self.pictures.new_zeros(0)
        found = []
        for numbers in torch.arange(count, device=self.pictures.device).split(_batch_size(self.pictures)):
            found.append(self._softmax(make(numbers)).gather(1, targets[numbers, None])[:, 0])
        return torch.cat(found)

    def curve(self, before: Tensor, after: Tensor, order: Tensor, counts: Sequence[int]) -> Tensor:
        """Probabilities while pixels of `before` become those of `after`, without the first and the last point.

        Args:
            before: `(V, C, H, W)`.
            after: likewise.
            order: `(M, H, W)`, ranks; the pixel of rank 0 changes first.
            counts: pixels changed at each point, P of them.

        Returns:
            `(M, P - 2)`.
        """
        inner = torch.tensor(counts[1:-1], device=order.device)
        points = len(inner)

        def make(numbers: Tensor) -> Tensor:
            maps = numbers // points
            changed = order[maps] < inner[numbers % points, None, None]
            pictures = self.owner[maps]
            return torch.where(changed[:, None], after[pictures], before[pictures])

        return self.ask(len(order) * points, make, self.targets.repeat_interleave(points)).view(len(order), points)

    def _of_owners(self, pictures: Tensor) -> Tensor:
        found = torch.cat([self._softmax(batch) for batch in pictures.split(_batch_size(pictures))])
        return found[self.owner, self.targets]

    def _softmax(self, batch: Tensor) -> Tensor:
        model = self.classifier.model
        quiet = torch.autocast(batch.device.type, enabled=False)
        with self.classifier.lock, evaluation_mode(model), torch.inference_mode(), quiet:
            found = model(batch).float().softmax(-1)
        self.tick(len(batch))
        return found


def deletion(probe: Probe, maps: Tensor, steps: int, largest_first: bool = True) -> Tensor:
    """Probabilities while pixels become zeros, the data's mean colour (Petsiuk et al. 2018, section 3.2), `(M, P)`.

    Args:
        probe: the images, and which of them and which class each map is of.
        maps: `(M, h, w)`, on any grid; only the order of their values counts.
        steps: points of a curve beyond the first; pixels change in equal numbers, the last step may have fewer.
        largest_first: whether the most important pixels go first, or the least important ones.
    """
    values = enlarge(maps, probe.size)
    order, counts = ranks(values, largest_first), step_counts(values[0].numel(), steps)
    inner = probe.curve(probe.pictures, probe.blank, order, counts)
    return _closed(probe.whole_probability, inner, probe.blank_probability)


def insertion(probe: Probe, maps: Tensor, steps: int) -> Tensor:
    """Probabilities while pixels of the blurred image become those of the image, `(M, P)`.

    That of Petsiuk et al. 2018 (section 3.2), but for the width of the blur, which follows the image's side.
    Arguments as for `deletion`.
    """
    values = enlarge(maps, probe.size)
    order, counts = ranks(values, largest_first=True), step_counts(values[0].numel(), steps)
    inner = probe.curve(probe.blurred, probe.pictures, order, counts)
    return _closed(probe.blurred_probability, inner, probe.whole_probability)


def gain(probe: Probe, maps: Tensor, steps: int) -> Gain:
    """Deletion from both ends; arguments as for `deletion`."""
    counts = step_counts(probe.size[0] * probe.size[1], steps)
    shares = torch.tensor(counts, device=maps.device) / counts[-1]
    both = (deletion(probe, maps, steps, largest_first) for largest_first in (True, False))
    return Gain(shares, *both)


def measure(probe: Probe, maps: Tensor, steps: int, seed: int = 0) -> Faithfulness:
    """Deletion from both ends, insertion and ROAD; arguments as for `deletion`, and the seed of ROAD's noise."""
    found = gain(probe, maps, steps)
    return Faithfulness(
        found.shares, found.deletion, found.retention, insertion(probe, maps, steps), road(probe, maps, seed=seed)
    )


def _closed(start: Tensor, inner: Tensor, end: Tensor) -> Tensor:
    """A curve with its first and its last point, `(M, P)`."""
    return torch.cat([start[:, None], inner, end[:, None]], 1)


def road(probe: Probe, maps: Tensor, shares: Sequence[float] = ROAD_SHARES, seed: int = 0) -> Tensor:
    """ROAD of M maps (Rong et al. 2022): `(LeRF - MoRF) / 2`, the mean over some shares of removed pixels, `(M,)`.

    The pixels are chosen by rank: a threshold would take all the zeros of a map at once.

    Args:
        probe: the images.
        maps: `(M, h, w)`, on any grid.
        shares: shares of the pixels that are removed.
        seed: of the noise that is added to what takes their place; one field of noise for all images.
    """
    values = enlarge(maps, probe.size)
    removed = torch.tensor([round(share * values[0].numel()) for share in shares], device=maps.device)
    draw = torch.Generator().manual_seed(seed)
    noise = _NOISE * torch.randn(probe.pictures.shape[1:], generator=draw).to(probe.pictures)
    sides = torch.stack([ranks(values, False), ranks(values, True)], 1).flatten(0, 1)  # (2M, H, W)
    points = len(shares)

    def make(numbers: Tensor) -> Tensor:
        side = numbers // points
        missing = sides[side] < removed[numbers % points, None, None]
        filled = fill(probe.pictures[probe.owner[side // 2]], missing)
        return torch.where(missing[:, None], filled + noise, filled)

    found = probe.ask(len(sides) * points, make, probe.targets.repeat_interleave(2 * points))
    least, most = found.view(len(maps), 2, points).mean(2).unbind(1)
    return (least - most) / 2


def ranks(values: Tensor, largest_first: bool) -> Tensor:
    """The place of each pixel in the order of its value, `(M, H, W)`, int32; equal pixels in reading order."""
    order = values.flatten(1).argsort(dim=1, descending=largest_first, stable=True)
    places = torch.arange(order.shape[1], dtype=torch.int32, device=values.device).expand_as(order)
    return torch.empty_like(places.contiguous()).scatter_(1, order, places).view(values.shape)


def step_counts(pixels: int, steps: int) -> list[int]:
    """How many pixels are changed at each point of a curve: none, equal steps, and in the end all."""
    step = -(-pixels // steps)
    return [*range(0, pixels, step), pixels]


def areas(shares: Tensor, curves: Tensor) -> Tensor:
    """Area under each curve `(M, P)` by the trapezoid rule, `(M,)`, float64."""
    return torch.trapezoid(curves.double(), shares.double(), dim=1)


def enlarge(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps `(M, h, w)` at the size of the image, bilinear, float32."""
    maps = maps.float()
    if maps.shape[1:] == size:
        return maps
    return F.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def blur(pictures: Tensor) -> Tensor:
    """Images `(V, C, H, W)` under a Gaussian whose standard deviation is a twelfth of their longer side."""
    deviation = _BLUR * max(pictures.shape[2:])
    radius = max(1, round(3 * deviation))
    offsets = torch.arange(-radius, radius + 1, device=pictures.device, dtype=pictures.dtype)
    kernel = torch.exp(-0.5 * (offsets / deviation) ** 2)
    kernel = (kernel / kernel.sum()).view(1, 1, 1, -1)
    planes = pictures.flatten(0, 1)[:, None]
    planes = F.conv2d(F.pad(planes, (radius, radius, 0, 0), mode="replicate"), kernel)
    planes = F.conv2d(F.pad(planes, (0, 0, radius, radius), mode="replicate"), kernel.transpose(2, 3))
    return planes[:, 0].view(pictures.shape)
