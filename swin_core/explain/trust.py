"""How far to believe a map: what happens to the probability when the pixels that it marks go, beside two baselines.

Every measure is taken of the map, of random maps on the same grid, and of a blob in the middle of the picture. A map that
does no better than these says nothing about where the model looked, however convincing it is to the eye.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from swin_core.zoo import Classifier

__all__ = ["Curve", "Measures", "Trust", "assess"]


@dataclass(frozen=True)
class Curve:
    """The target's probability while more and more of the picture is changed, in the order of a map."""

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
    """Most important pixels first, put back into the blurred picture (Petsiuk et al. 2018); a large area is good."""
    srg: float
    """Symmetric relevance gain, area of `retention` less area of `deletion` (Bluecher et al. 2024), -1 to 1.

    Higher is better; random maps have 0 on average, since turning an order round turns the sign.
    """
    road: float
    """ROAD (Rong et al. 2022): pixels give way to a blend of their neighbours; half of the mean probability with the least
    important ones gone less that with the most important ones gone, -0.5 to 0.5. Higher is better."""


@dataclass(frozen=True)
class Trust(Measures):
    """The measures of a map, beside those of maps that know nothing."""

    target: int
    """The class whose probability was watched."""
    random: Measures
    """Mean of a few random maps on the map's own grid."""
    centred: Measures
    """A Gaussian blob in the middle of the picture, a fifth of its side wide (one standard deviation)."""
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
    steps: int = 20,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[Trust]:
    """Measure how far maps can be believed: one `Trust` a map.

    Args:
        classifier: the model that the maps are of.
        views: what the model saw: `(H, W, 3)` uint8 for one picture of all maps, or `(M, H, W, 3)`, one a map.
        maps: `(M, h, w)`, or `(h, w)` for a single one; on any grid, signed or not: only the order of the values counts.
        targets: the class of each map, M of them, or one for all.
        steps: points of a curve beyond the first.
        seed: of the random maps and of ROAD's noise.
        progress: called with the pictures that have passed through the model and their number.

    Raises:
        TargetError: a class that the model does not have.
        ConfigError: numbers of views, maps and targets that do not fit, or values that are not finite.
    """
    raise NotImplementedError
