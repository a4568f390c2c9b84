"""What a ranking measures: sums over images and mosaics, which several processes can share.

Each process takes every n-th image, mosaic and randomised method, and the sums are added up once at the end. Which
images these are, their random maps and their other classes depend on the seed alone, not on the processes.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from swin_core.attribution.dispatch import attribute
from swin_core.attribution.methods import METHOD_FACTS
from swin_core.data.dataset import DataSet
from swin_core.errors import DataError
from swin_core.models.modes import evaluation_mode
from swin_core.system.distributed import Ranks
from swin_core.system.progress import Progress, counter
from swin_core.trust.baselines import beats, centred_gaussian, random_maps
from swin_core.trust.faithfulness import Faithfulness, Gain, Probe, areas, gain, measure
from swin_core.trust.mosaics import Mosaic, focus, mosaics
from swin_core.trust.randomisation import parts, random_logit, randomisation
from swin_core.zoo.classifier import Classifier

__all__ = ["Choice", "GridSize", "RankingSums", "Survey"]

Choice = tuple[str, str]
"""A method and a layer; or a baseline and its grid."""
GridSize = tuple[int, int]
"""Height and width of a map."""

_BATCH = 16  # images explained at a time
_MOSAICS = 200
_SEEDS = (0, 1, 2)  # of the parameter randomisation
_RANDOMISED = 16  # images that it explains, at each part and seed
_FIGURES = ("count", "srg", "srg2", "deletion", "insertion", "road", "better", "random_logit", "seconds")
"""What is summed up over the images: `srg2` is the square of `srg`."""


@dataclass(frozen=True, eq=False)
class RankingSums:
    """The sums of all processes."""

    choices: tuple[Choice, ...]
    """Methods at layers, then the baselines."""
    figures: Tensor
    """`(choices, _FIGURES)`; NaN where a figure is not measured."""
    shares: Tensor
    """`(methods at layers, 3)`: mosaics, the sum of the focus on them, and that of its square."""
    alike: Tensor
    """`(methods at layers, 2, parts)`: Spearman and SSIM after each part of the model was randomised."""

    def mean(self, choice: Choice) -> dict[str, float]:
        """The figures' means over the images, those that were measured."""
        sums = dict(zip(_FIGURES, self.figures[self.choices.index(choice)].tolist(), strict=True))
        return {name: value / sums["count"] for name, value in sums.items() if not np.isnan(value)}

    def error(self, choice: Choice) -> float:
        """Standard error of SRG."""
        sums = dict(zip(_FIGURES, self.figures[self.choices.index(choice)].tolist(), strict=True))
        return _error(sums["count"], sums["srg"], sums["srg2"])

    def focus(self, choice: Choice) -> tuple[float | None, float | None]:
        """The mean focus and its standard error; None without mosaics or for a baseline."""
        place = self.choices.index(choice)
        if place >= len(self.shares) or not self.shares[place, 0]:
            return None, None
        count, total, squares = self.shares[place].tolist()
        return total / count, _error(count, total, squares)

    def randomised(self, choice: Choice) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Spearman and SSIM after each part; empty for a baseline."""
        place = self.choices.index(choice)
        if place >= len(self.alike):
            return (), ()
        spearman, ssim = self.alike[place].tolist()
        return tuple(spearman), tuple(ssim)


def _error(count: float, total: float, squares: float) -> float:
    """Standard error of a mean, from the sums of the values and of their squares; NaN for a single value."""
    if count < 2:
        return float("nan")
    return float(np.sqrt(max(0.0, squares - total**2 / count) / (count - 1) / count))


class Survey:
    """The images of a ranking, and what is measured on them.

    Args:
        classifier: the model.
        dataset: where the images come from.
        images: how many to explain; None for all.
        seed: of everything that is drawn.
    """

    def __init__(self, classifier: Classifier, dataset: DataSet, pictures: int | None, seed: int):
        self.classifier, self.dataset, self.seed = classifier, dataset, seed
        self.order = np.random.default_rng(seed).permutation(len(dataset))[:pictures]
        self.parts = tuple(name for name, _ in parts(classifier.model))

    @cached_property
    def scenes(self) -> list[Mosaic]:
        """Mosaics of the data's images; none where the model has other classes, or a class has no two images."""
        try:
            return list(mosaics(self.classifier, self.dataset, _MOSAICS, self.seed))
        except DataError:
            return []

    def explained(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        """Images as the model sees them, `(B, C, H, W)`, and the class that it chooses for each, `(B,)`."""
        views = [self.classifier.view(self.dataset.image(int(index))) for index in indices]
        batch = self.classifier.tensor(np.stack(views))
        with self.classifier.lock, evaluation_mode(self.classifier.model), torch.no_grad():
            return batch, self.classifier.model(batch).argmax(1)

    def run(
        self,
        grids: dict[Choice, GridSize],
        steps: int,
        quick: bool,
        ranks: Ranks,
        progress: Progress | None,
    ) -> RankingSums:
        """Measure methods at layers, and the baselines.

        Args:
            grids: the methods at layers, each with the grid of its maps.
            steps: points of a curve beyond the first.
            quick: leave out insertion and ROAD.
            ranks: the processes that share the work.
            progress: called with the maps made by this process and their number.
        """
        wanted = list(grids)
        baselines = self._baselines(grids)
        tick = self._ticker(len(wanted), len(baselines), ranks, progress)
        figures = torch.zeros(len(wanted) + len(baselines), len(_FIGURES), dtype=torch.float64)
        mine = self.order[ranks.rank :: ranks.size]
        for start in range(0, len(mine), _BATCH):
            figures += self._figures(mine[start : start + _BATCH], grids, baselines, steps, quick, tick)
        shares, alike = self._shares(wanted, ranks, tick), self._alike(wanted, ranks, tick)
        return RankingSums((*wanted, *baselines), ranks.sum(figures), ranks.sum(shares), ranks.sum(alike))

    def _baselines(self, grids: dict[Choice, GridSize]) -> dict[Choice, GridSize]:
        """A random map for each grid, and the blob, which is as large as the image."""
        size = (self.classifier.image_size, self.classifier.image_size)
        kinds = {("random", f"{high} x {wide}"): (high, wide) for high, wide in sorted(set(grids.values()))}
        return {**kinds, ("centred", "input"): size}

    def _ticker(self, wanted: int, baselines: int, ranks: Ranks, progress: Progress | None) -> Callable[[int], None]:
        """Counts the maps that this process makes."""
        pictures, scenes, methods = (
            len(range(ranks.rank, count, ranks.size)) for count in (len(self.order), len(self.scenes), wanted)
        )
        randomised = methods * len(_SEEDS) * len(self.parts) * min(_RANDOMISED, len(self.order))
        total = pictures * (wanted + baselines) + scenes * wanted + randomised
        return counter(progress, total)

    def _figures(
        self,
        indices: np.ndarray,
        grids: dict[Choice, GridSize],
        baselines: dict[Choice, GridSize],
        steps: int,
        quick: bool,
        tick: Callable[[int], None],
    ) -> Tensor:
        """`RankingSums.figures` of one batch of images."""
        batch, targets = self.explained(indices)
        probe = Probe(self.classifier, batch, torch.arange(len(batch)), targets)
        gains: dict[Choice, Tensor] = {}

        def measured(choice: Choice, maps: Tensor) -> list[float]:
            found = gain(probe, maps, steps) if quick else measure(probe, maps, steps, self.seed)
            gains[choice] = found.srg
            tick(len(maps))
            return _sums(found)

        known = []
        for choice, grid in baselines.items():
            maps = random_maps(indices, grid, self.seed).to(batch)
            if choice[0] == "centred":
                maps = centred_gaussian(grid, batch.device).expand(len(batch), -1, -1)
            known.append([*measured(choice, maps), *[torch.nan] * 3])
        rows = []
        others = self._others(indices, targets)
        for choice, (high, wide) in grids.items():
            began = time.perf_counter()
            maps = attribute(self.classifier, batch, targets, *choice, signed=True)[:, 0]
            took = time.perf_counter() - began
            sums = measured(choice, maps)
            better, _ = beats(gains[choice], gains["random", f"{high} x {wide}"][:, None], gains["centred", "input"])
            alike = float(len(maps))  # where a method does not depend on the class, both maps are one
            if METHOD_FACTS[choice[0]].by_class:
                alike = float(random_logit(self.classifier, batch, maps, others, *choice).sum())
            rows.append([*sums, float(better.sum()), alike, took])
        return torch.tensor([*rows, *known], dtype=torch.float64)

    def _others(self, indices: np.ndarray, targets: Tensor) -> Tensor:
        """Another class for each image, `(B,)`, each of the others as likely; the same one if there is no other."""
        classes = self.classifier.num_classes
        draws = [np.random.default_rng((self.seed, int(index))).integers(1, max(2, classes)) for index in indices]
        return (targets + torch.tensor([int(draw) for draw in draws], device=targets.device)) % classes

    def _shares(self, wanted: Sequence[Choice], ranks: Ranks, tick: Callable[[int], None]) -> Tensor:
        """`RankingSums.shares` of this process's mosaics; an empty map counts as chance."""
        sums = torch.zeros(len(wanted), 3, dtype=torch.float64)
        mine = self.scenes[ranks.rank :: ranks.size]
        for start in range(0, len(mine), _BATCH):
            scenes = mine[start : start + _BATCH]
            batch = self.classifier.tensor(np.stack([scene.view for scene in scenes]))
            targets = torch.tensor([scene.target for scene in scenes], device=batch.device)
            for place, choice in enumerate(wanted):
                maps = attribute(self.classifier, batch, targets, *choice)[:, 0].cpu().numpy()
                found = [focus(one, scene.cells) for one, scene in zip(maps, scenes, strict=True)]
                values = np.array([0.5 if share is None else share for share in found])
                sums[place] += torch.tensor([len(values), values.sum(), (values**2).sum()])
                tick(len(scenes))
        return sums

    def _alike(self, wanted: Sequence[Choice], ranks: Ranks, tick: Callable[[int], None]) -> Tensor:
        """`RankingSums.alike` of this process's methods; the others' are zeros."""
        batch, targets = self.explained(self.order[:_RANDOMISED])
        alike = torch.zeros(len(wanted), 2, len(self.parts), dtype=torch.float64)
        for place in range(ranks.rank, len(wanted), ranks.size):
            found = randomisation(
                self.classifier, batch, targets, *wanted[place], _SEEDS, lambda count: tick(count * len(batch))
            )
            alike[place] = torch.tensor([found.spearman, found.ssim], dtype=torch.float64)
        return alike


def _sums(found: Gain) -> list[float]:
    """The first six of `_FIGURES` of a batch of maps; NaN for what was not measured."""
    insertion = road = torch.nan
    if isinstance(found, Faithfulness):
        insertion = float(areas(found.shares, found.insertion).sum())
        road = float(found.road.double().sum())
    srg = found.srg
    deletion = float(areas(found.shares, found.deletion).sum())
    return [len(srg), float(srg.sum()), float(srg.square().sum()), deletion, insertion, road]
