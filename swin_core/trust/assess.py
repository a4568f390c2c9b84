"""How far to believe a map: what happens to the probability when the pixels that it marks go, beside two baselines.

Every measure is taken of the map, of random maps on the same grid, and of a blob in the middle of the image. A map
that does no better than these says nothing about where the model looked, however convincing it is to the eye.
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

__all__ = ["Curve", "Measures", "Trust", "assess"]

RANDOM_MAPS = 3
"""Random maps beside each map: one alone may be good or bad by luck."""


@dataclass(frozen=True)
class Curve:
    """The target's probability while more and more of the image is changed, in the order of a map."""

    shares: tuple[float, ...]
    """Share of the pixels that are changed at each point, from 0 to 1."""
    probabilities: tuple[float, ...]
    """The target's probability at each point, 0 to 1."""
    area: float
    """Area under the curve by the trapezoid rule, 0 to 1."""


@dataclass(frozen=True)
class Measures:
    """What was measured of one map."""

    deletion: Curve
    """Most important pixels first, set to the data's mean colour (Petsiuk et al. 2018); a small area is good."""
    retention: Curve
    """The same with the least important pixels first; a large area is good."""
    insertion: Curve
    """Most important pixels first, put back into the blurred image (Petsiuk et al. 2018); a large area is good."""
    srg: float
    """Symmetric relevance gain, area of `retention` less area of `deletion` (Bluecher et al. 2024), -1 to 1.

    Higher is better; random maps have 0 on average, since turning an order round turns the sign.
    """
    road: float
    """ROAD (Rong et al. 2022), -0.5 to 0.5: higher is better.

    Pixels give way to a blend of their neighbours; half of the mean probability with the least important ones gone
    less that with the most important ones gone.
    """


@dataclass(frozen=True)
class Trust(Measures):
    """The measures of a map, beside those of maps that know nothing."""

    target: int
    """The class whose probability was watched."""
    random: Measures
    """Mean of a few random maps on the map's own grid."""
    centred: Measures
    """A Gaussian blob in the middle of the image, a fifth of its side wide (one standard deviation)."""
    chance: float
    """SRG that the random maps reached in either direction: the root of their mean square."""
    better: bool
    """Whether the map's SRG is above `chance` and above that of `centred`."""
    sentence: str
    """What this means, in plain words."""


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
    """Measure how far maps can be believed: one `Trust` a map.

    Args:
        classifier: the model that the maps are of.
        views: what the model saw: `(H, W, 3)` uint8 for one image of all maps, or `(M, H, W, 3)`, one a map.
        maps: `(M, h, w)`, or `(h, w)` for a single one; on any grid, signed or not: only the order of values counts.
        targets: the class of each map, M of them, or one for all.
        steps: points of a curve beyond the first, 2 or more; no more than there are pixels.
        seed: of the random maps and of ROAD's noise.
        progress: called with the images that have passed through the model and their number.

    Raises:
        TargetError: a class that the model does not have.
        ConfigError: numbers of views, maps and targets that do not fit, values that are not finite, or fewer than 2
            steps.
    """
    values = torch.as_tensor(maps, device=classifier.device).float()
    values = values[None] if values.dim() == 2 else values
    chosen = [targets] * len(values) if isinstance(targets, int | np.integer) else list(targets)
    _check(views, values, chosen, steps)
    kept = check_targets(chosen, torch.empty(classifier.num_classes))
    pictures = classifier.tensor(views)
    several = len(pictures) == len(values)
    owner = torch.arange(len(values)) if several else torch.zeros(len(values), dtype=torch.long)
    candidates = _with_baselines(values, (pictures.shape[2], pictures.shape[3]), seed)  # (M, 2 + random maps, H, W)
    each = candidates.shape[1]
    count = candidates.flatten(0, 1).shape[0]
    inner = len(step_counts(candidates[0, 0].numel(), steps)) - 2
    tick = counter(progress, count * (3 * inner + 2 * len(ROAD_SHARES)) + 2 * len(pictures) + 1)
    targets_of_all = torch.tensor(kept).repeat_interleave(each)
    probe = Probe(classifier, pictures, owner.repeat_interleave(each), targets_of_all, tick)
    found = measure(probe, candidates.flatten(0, 1), steps, seed)
    return [_trust(classifier, target, found, slice(each * m, each * (m + 1))) for m, target in enumerate(kept)]


def _check(views: np.ndarray, maps: Tensor, targets: Sequence[int], steps: int) -> None:
    pictures = len(views) if views.ndim == 4 else 1
    if maps.dim() != 3 or 0 in maps.shape or len(targets) != len(maps) or (views.ndim == 4 and pictures != len(maps)):
        raise ConfigError(
            f"{pictures} views, maps {tuple(maps.shape)} and {len(targets)} targets do not fit: give maps (M, h, w), "
            "M targets, and one view or M of them."
        )
    if not maps.isfinite().all():
        raise ConfigError("a map has values that are not finite; explain the image again.")
    if steps < 2:  # with one step, all pixels go at once, whatever the map says
        raise ConfigError(f"a curve needs at least 2 steps, not {steps}.")


def _with_baselines(maps: Tensor, size: tuple[int, int], seed: int) -> Tensor:
    """Each map at the size of the image, then the blob, then the random maps: `(M, 2 + random maps, H, W)`."""
    # The same random maps for all of one grid, so that what is measured of a map does not depend on those beside it.
    chance = random_maps(range(RANDOM_MAPS), (maps.shape[1], maps.shape[2]), seed).to(maps)
    ignorant = torch.cat([centred_gaussian(size, maps.device)[None], enlarge(chance, size)])
    return torch.cat([enlarge(maps, size)[:, None], ignorant.expand(len(maps), *ignorant.shape)], 1)


def _trust(classifier: Classifier, target: int, found: Faithfulness, rows: slice) -> Trust:
    own, centre = (_measures(found, slice(rows.start + n, rows.start + n + 1)) for n in range(2))
    random = slice(rows.start + 2, rows.stop)
    srg, centred, *others = found.srg[rows]
    better, chance = beats(srg[None], torch.stack(others)[None], centred[None])
    return Trust(
        **vars(own),
        target=target,
        random=_measures(found, random),
        centred=centre,
        chance=float(chance),
        better=bool(better),
        sentence=_sentence(classifier.labels[target], own.srg, float(chance), centre.srg),
    )


def _measures(found: Faithfulness, rows: slice) -> Measures:
    """The measures of one map, or the mean of those of several."""

    def curve(points: Tensor) -> Curve:
        mean = points[rows].double().mean(0, keepdim=True)
        area = float(areas(found.shares, mean))
        return Curve(tuple(found.shares.tolist()), tuple(mean[0].tolist()), area)

    deletion, retention = curve(found.deletion), curve(found.retention)
    return Measures(
        deletion=deletion,
        retention=retention,
        insertion=curve(found.insertion),
        srg=retention.area - deletion.area,
        road=float(found.road[rows].double().mean()),
    )


def _sentence(label: str, srg: float, chance: float, centred: float) -> str:
    figures = f"{srg:+.2f}, beside {chance:.2f} for random maps and {centred:+.2f} for the middle of the image"
    if srg <= chance:
        return (
            f"Taking away what this map marks costs {label!r} no more than taking away places at random ({figures}): "
            "do not read it as where the model looked."
        )
    if srg <= centred:
        return (
            f"This map marks places that matter for {label!r}, but no better than the middle of the image does "
            f"({figures}): it tells little that a guess would not."
        )
    return (
        f"Taking away what this map marks costs {label!r} more than taking away the middle of the image or places at "
        f"random ({figures}): it points at what the model uses."
    )
