"""Baseline maps, which know nothing of the model: random maps and a centred Gaussian."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

BASELINES = {"random": "random map", "centred": "centred Gaussian"}
"""Titles of the baselines by their name in a ranking."""

_WIDTH = 0.2
"""Standard deviation of the centred Gaussian, as a share of the image's side."""


def random_maps(numbers: Iterable[int], grid: tuple[int, int], seed: int) -> Tensor:
    """One random map per number, `(N, h, w)`, 0 to 1; it depends on the number, the grid and the seed only."""
    draws = [np.random.default_rng((seed, int(number), *grid)).random(grid, np.float32) for number in numbers]
    return torch.from_numpy(np.stack(draws))


def centred_gaussian(size: tuple[int, int], device: torch.device | None = None) -> Tensor:
    """A Gaussian in the centre of the image, `(H, W)`, with a standard deviation of a fifth of each side."""
    across = [((torch.arange(n, device=device) + 0.5) / n - 0.5) / _WIDTH for n in size]
    return torch.exp(-0.5 * (across[0][:, None] ** 2 + across[1][None, :] ** 2))


def beats(srg: Tensor, random: Tensor, centred: Tensor) -> tuple[Tensor, Tensor]:
    """Whether maps beat both baselines, and the SRG that chance reaches.

    Args:
        srg: SRG of the maps, `(M,)`.
        random: SRG of random maps on the grid of each map, `(M, R)`.
        centred: SRG of the centred Gaussian, `(M,)`.

    Returns:
        `(M,)` bool, and the root mean square of the SRG of the random maps, `(M,)`. Reversing a map flips the sign of
        its SRG, so a random map is as likely below 0 as above.
    """
    chance = random.square().mean(1).sqrt()
    return srg > torch.maximum(chance, centred), chance
