"""Random numbers of a training step that depend on the seed, the epoch and the step, and not on who computes what."""

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Generator, Tensor

__all__ = ["Draws", "pieces", "seeded"]


def seeded(*key: int, device: torch.device | str = "cpu") -> Generator:
    """A generator that depends on the key alone, so that a step draws the same whether or not a run was resumed."""
    seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)
    return torch.Generator(device).manual_seed(seed)


def pieces(count: int, parts: int) -> list[slice]:
    """Cut a batch into nearly equal parts that begin at even places, so that no pair of neighbours is torn apart."""
    bounds = [2 * (part * (count // 2) // parts) for part in range(parts)] + [count]
    return [slice(start, stop) for start, stop in itertools.pairwise(bounds)]


class Draws:
    """What is drawn for some rows of a batch: numbers are drawn for the whole batch, and the rows' own are returned.

    Two devices that share a batch, or one that computes it in pieces, thus see the images that one device sees.

    Args:
        key: what the numbers depend on, such as seed, epoch and step.
        count: images of the whole batch.
        rows: the rows that are computed here; None for all.
        device: where the numbers are wanted.
    """

    def __init__(
        self, key: Sequence[int], count: int, rows: slice | None = None, device: torch.device | str = "cpu"
    ) -> None:
        self._key, self._generator = tuple(key), seeded(*key)
        self._count, self._rows, self.device = count, rows or slice(0, count), device

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """`(rows, *shape)` in [low, high), float32."""
        drawn = torch.empty(self._count, *shape).uniform_(low, high, generator=self._generator)
        return drawn[self._rows].to(self.device)

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """`(rows, *shape)` of low to high - 1, int64."""
        drawn = torch.randint(low, high, (self._count, *shape), generator=self._generator)
        return drawn[self._rows].to(self.device)

    def chance(self, share: float) -> Tensor:
        """`(rows,)` bool, true with probability `share`."""
        return self.uniform(0, 1) < share

    def chosen(self, share: float) -> Tensor:
        """Indices of the rows chosen with probability `share`, int64, on the CPU so that nothing waits for a GPU."""
        drawn = torch.rand(self._count, generator=self._generator)
        return (drawn[self._rows] < share).nonzero()[:, 0]

    def noise(self, chosen: Tensor, *shape: int) -> Tensor:
        """`(len(chosen), *shape)` in [0, 1), drawn on the device for some rows alone.

        A row's noise depends on the key and on its place in the whole batch, so that two devices draw what one draws.
        """
        noise = torch.empty(len(chosen), *shape, device=self.device)
        for row, place in zip(noise, chosen.tolist(), strict=True):
            row.uniform_(generator=seeded(*self._key, 1 + self._rows.start + place, device=self.device))
        return noise

    def beta(self, alpha: float) -> Tensor:
        """`(rows,)` of the Beta distribution with both parameters `alpha`, float32, the same for both of a pair."""
        seed = int(torch.randint(2**62, (), generator=self._generator))
        pairs = np.random.default_rng(seed).beta(alpha, alpha, (self._count + 1) // 2)
        return self._for_both(torch.tensor(pairs, dtype=torch.float32))

    def uniform_pairs(self) -> Tensor:
        """`(rows,)` in [0, 1), the same for both of a pair of neighbours."""
        return self._for_both(torch.rand((self._count + 1) // 2, generator=self._generator))

    def _for_both(self, pairs: Tensor) -> Tensor:
        return pairs.repeat_interleave(2)[: self._count][self._rows].to(self.device)
