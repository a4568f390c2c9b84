"""Random numbers of a training step: they depend on the seed, the epoch and the step, not on how a batch is divided."""

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Generator, Tensor


def seeded(*key: int, device: torch.device | str = "cpu") -> Generator:
    """Return a generator that depends only on the key, so that a resumed run draws the same numbers."""
    seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)
    return torch.Generator(device).manual_seed(seed)


def split_batch(count: int, parts: int) -> list[slice]:
    """Split a batch into nearly equal parts that begin at even rows, so that no pair of neighbours is separated."""
    bounds = [2 * (part * (count // 2) // parts) for part in range(parts)] + [count]
    return [slice(start, stop) for start, stop in itertools.pairwise(bounds)]


class Draws:
    """Random numbers for some rows of a batch: drawn for the whole batch, returned for these rows.

    So ranks that share a batch, or one that computes it in micro-batches, see the images that a single rank sees.

    Args:
        key: what the numbers depend on, such as seed, epoch and step.
        count: images of the whole batch.
        rows: the rows that are computed here; None for all.
        device: where the numbers go.
    """

    def __init__(
        self, key: Sequence[int], count: int, rows: slice | None = None, device: torch.device | str = "cpu"
    ) -> None:
        self._key, self._generator = tuple(key), seeded(*key)
        self._count, self._rows, self.device = count, rows or slice(0, count), device

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Return `(rows, *shape)` in [low, high), float32."""
        drawn = torch.empty(self._count, *shape).uniform_(low, high, generator=self._generator)
        return drawn[self._rows].to(self.device)

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Return `(rows, *shape)` of low to high - 1, int64."""
        drawn = torch.randint(low, high, (self._count, *shape), generator=self._generator)
        return drawn[self._rows].to(self.device)

    def chance(self, probability: float) -> Tensor:
        """Return `(rows,)` bool, true with this probability."""
        return self.uniform(0, 1) < probability

    def chosen(self, probability: float) -> Tensor:
        """Return the indices of rows chosen with this probability, int64, on the CPU so that no GPU is waited for."""
        drawn = torch.rand(self._count, generator=self._generator)
        return (drawn[self._rows] < probability).nonzero()[:, 0]

    def noise(self, chosen: Tensor, *shape: int) -> Tensor:
        """Return `(len(chosen), *shape)` in [0, 1), drawn on the device for the chosen rows only.

        A row's noise depends on the key and the row's index in the whole batch, so that ranks draw what one rank draws.
        """
        noise = torch.empty(len(chosen), *shape, device=self.device)
        for row, index in zip(noise, chosen.tolist(), strict=True):
            row.uniform_(generator=seeded(*self._key, 1 + self._rows.start + index, device=self.device))
        return noise

    def beta(self, alpha: float) -> Tensor:
        """Return `(rows,)` of the Beta distribution with both parameters `alpha`, float32, equal within a pair."""
        seed = int(torch.randint(2**62, (), generator=self._generator))
        pairs = np.random.default_rng(seed).beta(alpha, alpha, (self._count + 1) // 2)
        return self._for_both(torch.tensor(pairs, dtype=torch.float32))

    def uniform_pairs(self) -> Tensor:
        """Return `(rows,)` in [0, 1), equal within a pair of neighbours."""
        return self._for_both(torch.rand((self._count + 1) // 2, generator=self._generator))

    def _for_both(self, pairs: Tensor) -> Tensor:
        return pairs.repeat_interleave(2)[: self._count][self._rows].to(self.device)
