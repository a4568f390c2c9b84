"""Faithfulness of single maps compared with two baselines.

The map, random maps on the same grid, and a Gaussian in the centre of the image are measured alike: by the target's
probability while pixels are removed in the order of the map. A map that does not beat these baselines says nothing
about where the model looked, however plausible it appears.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from swin_core.attribution.targets import check_targets
from swin_core.errors import ConfigError
from swin_core.system.progress import Progress, counter
from swin_core.trust.baselines import beats, centred_gaussian, random_maps
from swin_core.trust.faithfulness import ROAD_SHARES, Faithfulness, Probe, areas, enlarge, measure, step_counts
from swin_core.zoo.classifier import Classifier

RANDOM_MAPS = 3
"""Random maps per map: a single one may be good or bad by chance."""


@dataclass(frozen=True)
class ProbabilityCurve:
    """Probability of the target while more and more pixels are changed, in the order of a map."""

    shares: tuple[float, ...]
    """Share of the pixels changed at each point, 0 to 1."""
    probabilities: tuple[float, ...]
    """The target's probability at each point, 0 to 1."""
    area: float
    """Area under the curve by the trapezoid rule, 0 to 1."""


@dataclass(frozen=True)
class Measures:
    """Measurements of one map."""

    deletion: ProbabilityCurve
    """Most important pixels first, set to the data's mean colour (Petsiuk et al. 2018); a small area is better."""
    retention: ProbabilityCurve
    """Least important pixels first, set to the data's mean colour; a large area is better."""
    insertion: ProbabilityCurve
    """Most important pixels first, restored in the blurred image (Petsiuk et al. 2018); a large area is better."""
    srg: float
    """Symmetric relevance gain: area of `retention` minus area of `deletion` (Bluecher et al. 2024), -1 to 1.

    Higher is better; random maps reach 0 on average, since reversing an order flips the sign.
    """
    road: float
    """ROAD (Rong et al. 2022), -0.5 to 0.5; higher is better.

    Removed pixels are interpolated from their neighbours. Half of the difference between the mean probability without
    the least important pixels and that without the most important ones.
    """


@dataclass(frozen=True)
class Trust(Measures):
    """Measurements of a map and of its baselines."""

    target: int
    """The class whose probability was measured."""
    random: Measures
    """Mean of a few random maps on the same grid."""
    centred: Measures
    """A Gaussian in the centre of the image, with a standard deviation of a fifth of its side."""
    chance: float
    """Root mean square of the SRG of the random maps."""
    better: bool
    """Whether the map beats the baselines: its SRG is above `chance` and above that of `centred`."""
    sentence: str
    """The conclusion in one sentence."""

    @property
    def check(self) -> str:
        """The conclusion in a few words: "beats both baselines (+0.57)"."""
        if self.better:
            return f"beats both baselines ({self.srg:+.2f})"
        if self.srg <= self.chance:
            return f"no better than chance ({self.srg:.2f} against {self.chance:.2f})"
        return f"no better than the centre ({self.srg:.2f} against {self.centred.srg:.2f})"


def assess(
    classifier: Classifier,
    views: np.ndarray,
    maps: np.ndarray | Tensor,
    targets: Sequence[int] | int,
    *,
    steps: int = 16,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Trust]:
    """Measure the faithfulness of maps and of their baselines.

    Args:
        classifier: the model that the maps explain.
        views: the images as the model sees them: `(H, W, 3)` uint8 for all maps, or one per map, `(M, H, W, 3)`.
        maps: `(M, h, w)`, or `(h, w)` for a single map; on any grid, signed or not: only the order of values counts.
        targets: the class of each map, or one class for all.
        steps: points of a curve after the first, 2 or more; limited to the number of pixels.
        seed: seed of the random maps and of ROAD's noise.
        progress: called with the number of images that have passed, and will pass, through the model.

    Returns:
        M results.

    Raises:
        TargetError: a class that the model does not have.
        ConfigError: the numbers of views, maps and targets differ, a value is not finite, or `steps` is below 2.
    """
    values = torch.as_tensor(maps, device=classifier.device).float()
    values = values[None] if values.dim() == 2 else values
    chosen = [targets] * len(values) if isinstance(targets, int | np.integer) else list(targets)
    _check(views, values, chosen, steps)
    classes = check_targets(chosen, torch.empty(classifier.num_classes))
    images = classifier.tensor(views)
    size = (images.shape[2], images.shape[3])
    owner = torch.arange(len(values)) if len(images) == len(values) else torch.zeros(len(values), dtype=torch.long)
    # The random maps of a grid are always the same, so a map's result does not depend on the other maps.
    random = random_maps(range(RANDOM_MAPS), (values.shape[1], values.shape[2]), seed).to(values)
    baselines = torch.cat([centred_gaussian(size, values.device)[None], enlarge(random, size)])
    # Each map is followed by its baselines: (M, 2 + random maps, H, W)
    candidates = torch.cat([enlarge(values, size)[:, None], baselines.expand(len(values), *baselines.shape)], 1)
    each = candidates.shape[1]
    inner = len(step_counts(size[0] * size[1], steps)) - 2
    tick = counter(progress, len(values) * each * (3 * inner + 2 * len(ROAD_SHARES)) + 2 * len(images) + 1)
    per_candidate = torch.tensor(classes).repeat_interleave(each)
    probe = Probe(classifier, images, owner.repeat_interleave(each), per_candidate, tick)
    result = measure(probe, candidates.flatten(0, 1), steps, seed)
    return [_trust(classifier, target, result, slice(each * m, each * (m + 1))) for m, target in enumerate(classes)]


def _check(views: np.ndarray, maps: Tensor, targets: Sequence[int], steps: int) -> None:
    images = len(views) if views.ndim == 4 else 1
    if maps.dim() != 3 or 0 in maps.shape or len(targets) != len(maps) or (views.ndim == 4 and images != len(maps)):
        raise ConfigError(
            f"{images} views, maps {tuple(maps.shape)} and {len(targets)} targets do not fit: give maps (M, h, w), "
            "M targets, and one view or M of them."
        )
    if not maps.isfinite().all():
        raise ConfigError("a map has values that are not finite; explain the image again.")
    if steps < 2:  # one step removes all pixels at once, whatever the map
        raise ConfigError(f"a curve needs at least 2 steps, not {steps}.")


def _trust(classifier: Classifier, target: int, result: Faithfulness, rows: slice) -> Trust:
    """The result of one map; `rows` are the map, the Gaussian and the random maps."""
    own, centre = (_measures(result, slice(rows.start + n, rows.start + n + 1)) for n in range(2))
    random = slice(rows.start + 2, rows.stop)
    srg, centred, *of_random = result.srg[rows]
    better, chance = beats(srg[None], torch.stack(of_random)[None], centred[None])
    return Trust(
        **vars(own),
        target=target,
        random=_measures(result, random),
        centred=centre,
        chance=float(chance),
        better=bool(better),
        sentence=_sentence(classifier.labels[target], own.srg, float(chance), centre.srg),
    )


def _measures(result: Faithfulness, rows: slice) -> Measures:
    """Measurements of one map, or means of several maps."""

    def curve(points: Tensor) -> ProbabilityCurve:
        mean = points[rows].double().mean(0, keepdim=True)
        return ProbabilityCurve(
            tuple(result.shares.tolist()), tuple(mean[0].tolist()), float(areas(result.shares, mean))
        )

    deletion, retention = curve(result.deletion), curve(result.retention)
    return Measures(
        deletion=deletion,
        retention=retention,
        insertion=curve(result.insertion),
        srg=retention.area - deletion.area,
        road=float(result.road[rows].double().mean()),
    )


def _sentence(label: str, srg: float, chance: float, centred: float) -> str:
    numbers = f"SRG {srg:+.2f}; random maps {chance:.2f}; centre of the image {centred:+.2f}"
    if srg <= chance:
        return (
            f"Removing what this map marks lowers {label!r} no more than removing random pixels ({numbers}): "
            "the map does not show where the model looked."
        )
    if srg <= centred:
        return (
            f"This map marks pixels that matter for {label!r}, but it is no better than guessing the centre of the "
            f"image ({numbers})."
        )
    return (
        f"Removing what this map marks lowers {label!r} more than removing the centre of the image or random pixels "
        f"({numbers}): the map shows what the model uses."
    )
