"""Maps that know nothing of a model, beside which every map has to stand."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

__all__ = ["BASELINES", "beats", "centred_gaussian", "random_maps"]

BASELINES = {"random": "random map", "centred": "centred Gaussian"}
"""The baselines, by the name that their rows bear in a ranking."""

_WIDTH = 0.2
"""Standard deviation of the centred Gaussian over the image's side."""


def random_maps(numbers: Iterable[int], grid: tuple[int, int], seed: int) -> Tensor:
    """One random map for each number, `(N, h, w)`, 0 to 1; it depends on its number, the grid and the seed alone."""
    draws = [np.random.default_rng((seed, int(number), *grid)).random(grid, np.float32) for number in numbers]
    return torch.from_numpy(np.stack(draws))


def centred_gaussian(size: tuple[int, int], device: torch.device | None = None) -> Tensor:
    """A blob in the middle of the image, `(H, W)`, its standard deviation a fifth of each side."""
    across = [((torch.arange(n, device=device) + 0.5) / n - 0.5) / _WIDTH for n in size]
    return torch.exp(-0.5 * (across[0][:, None] ** 2 + across[1][None, :] ** 2))


def beats(srg: Tensor, random: Tensor, centred: Tensor) -> tuple[Tensor, Tensor]:
    """Whether maps are better than both baselines, and what chance reaches.

    Args:
        srg: of the maps, `(M,)`.
        random: of random maps on each map's grid, `(M, R)`.
        centred: of the blob, `(M,)`.

    Returns:
        `(M,)` bool, and the SRG that the random maps reach in either direction, `(M,)`: the root of their mean square,
        since turning a map round turns the sign of its SRG.
    """
    chance = random.square().mean(1).sqrt()
    return srg > torch.maximum(chance, centred), chance
