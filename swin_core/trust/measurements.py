"""The measurements behind a ranking: sums over images and mosaics, which several ranks share.

Each rank takes every n-th image, mosaic and method to randomise; the sums are added up once at the end. The choice of
images, random maps and contrast classes depends on the seed alone, not on the number of ranks.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from swin_core.attribution.dispatch import attribute
from swin_core.attribution.methods import METHODS
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

Candidate = tuple[str, str]
"""Method and layer; or baseline and grid."""
GridSize = tuple[int, int]
"""Height and width of a map in cells."""

_BATCH = 16
"""Images explained at a time."""
_MOSAICS = 200
_SEEDS = (0, 1, 2)
"""Seeds of the parameter randomisation."""
_RANDOMISED = 16
"""Images explained at each part and seed of the parameter randomisation."""
_METRICS = ("count", "srg", "srg2", "deletion", "insertion", "road", "better", "random_logit", "seconds")
"""Metrics summed over the images; `srg2` is the square of `srg`."""


@dataclass(frozen=True, eq=False)
class RankingSums:
    """Sums over all ranks."""

    candidates: tuple[Candidate, ...]
    """Methods at layers, then baselines."""
    metrics: Tensor
    """`(candidates, _METRICS)`; NaN where a metric was not measured."""
    focus_sums: Tensor
    """`(methods at layers, 3)`: number of mosaics, sum of the focus, sum of its square."""
    similarity: Tensor
    """`(methods at layers, 2, parts)`: Spearman and SSIM after the randomisation of each part of the model."""

    def mean(self, candidate: Candidate) -> dict[str, float]:
        """Means over the images of the metrics that were measured, and `srg_error`, the standard error of SRG."""
        sums = dict(zip(_METRICS, self.metrics[self.candidates.index(candidate)].tolist(), strict=True))
        means = {name: value / sums["count"] for name, value in sums.items() if not np.isnan(value)}
        return means | {"srg_error": _standard_error(sums["count"], sums["srg"], sums["srg2"])}

    def focus(self, candidate: Candidate) -> tuple[float | None, float | None]:
        """Mean focus and its standard error; None for a baseline or without mosaics."""
        row = self.candidates.index(candidate)
        if row >= len(self.focus_sums) or not self.focus_sums[row, 0]:
            return None, None
        count, total, squares = self.focus_sums[row].tolist()
        return total / count, _standard_error(count, total, squares)

    def randomised(self, candidate: Candidate) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Spearman and SSIM after each part; empty for a baseline."""
        row = self.candidates.index(candidate)
        if row >= len(self.similarity):
            return (), ()
        spearman, ssim = self.similarity[row].tolist()
        return tuple(spearman), tuple(ssim)


def _standard_error(count: float, total: float, squares: float) -> float:
    """Standard error of a mean, from the sums of the values and of their squares; NaN for a single value."""
    if count < 2:
        return float("nan")
    return float(np.sqrt(max(0.0, squares - total**2 / count) / (count - 1) / count))


class RankingMeasurements:
    """The images of a ranking, and the measurements on them.

    Args:
        classifier: the model.
        dataset: source of the images.
        images: number of images to explain; None for all.
        seed: seed of all random choices.
    """

    def __init__(self, classifier: Classifier, dataset: DataSet, images: int | None, seed: int):
        self.classifier, self.dataset, self.seed = classifier, dataset, seed
        order, self.skipped = np.random.default_rng(seed).permutation(len(dataset)), list(dataset.skipped)
        self.order = self._readable(order, len(order) if images is None else images)
        self.parts = tuple(name for name, _ in parts(classifier.model))

    def _readable(self, order: np.ndarray, count: int) -> np.ndarray:
        """Return the first `count` images of `order` that can be read; add those before them to `skipped`.

        Raises:
            DataError: none can be read.
        """
        readable: list[int] = []
        for index in order.tolist():
            if len(readable) == count:
                break
            try:
                self.dataset.image(index, 1)
                readable.append(index)
            except DataError as error:
                self.skipped.append(self.dataset.why_unreadable(index, error))
        if not readable:
            raise DataError(f"no image of {self.dataset.name} can be read.")
        return np.array(readable, np.int64)

    @cached_property
    def scenes(self) -> list[Mosaic]:
        """Mosaics of the data set; none if the model has other classes, or a class has fewer than two images."""
        try:
            return list(mosaics(self.classifier, self.dataset, _MOSAICS, self.seed))
        except DataError:
            return []

    def explained(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        """Images as the model sees them, `(B, C, H, W)`, and their top-1 classes, `(B,)`."""
        views = [self.classifier.view(self.dataset.image(int(index))) for index in indices]
        batch = self.classifier.tensor(np.stack(views))
        with self.classifier.lock, evaluation_mode(self.classifier.model), torch.no_grad():
            return batch, self.classifier.logits_model(batch).argmax(1)

    def run(
        self, grids: dict[Candidate, GridSize], steps: int, quick: bool, ranks: Ranks, progress: Progress | None
    ) -> RankingSums:
        """Measure methods at layers, and the baselines.

        Args:
            grids: the methods at layers, each with the grid of its maps.
            steps: points of a curve after the first.
            quick: skip insertion and ROAD.
            ranks: the processes that share the work.
            progress: called with the number of maps that this rank has computed, and will compute.
        """
        size = (self.classifier.image_size, self.classifier.image_size)
        baselines = {("random", f"{high} x {wide}"): (high, wide) for high, wide in sorted(set(grids.values()))}
        baselines["centred", "input"] = size
        candidates = list(grids)
        mine = self.order[ranks.rank :: ranks.size]
        scenes = self.scenes[ranks.rank :: ranks.size]
        randomised = range(ranks.rank, len(candidates), ranks.size)
        total = len(mine) * (len(candidates) + len(baselines)) + len(scenes) * len(candidates)
        total += len(randomised) * len(_SEEDS) * len(self.parts) * min(_RANDOMISED, len(self.order))
        tick = counter(progress, total)
        metrics = torch.zeros(len(candidates) + len(baselines), len(_METRICS), dtype=torch.float64)
        for start in range(0, len(mine), _BATCH):
            metrics += self._metrics(mine[start : start + _BATCH], grids, baselines, steps, quick, tick)
        focus_sums = self._focus_sums(candidates, scenes, tick)
        similarity = self._similarity(candidates, randomised, tick)
        return RankingSums((*candidates, *baselines), ranks.sum(metrics), ranks.sum(focus_sums), ranks.sum(similarity))

    def _metrics(
        self,
        indices: np.ndarray,
        grids: dict[Candidate, GridSize],
        baselines: dict[Candidate, GridSize],
        steps: int,
        quick: bool,
        tick: Callable[[int], None],
    ) -> Tensor:
        """`RankingSums.metrics` of one batch of images."""
        batch, targets = self.explained(indices)
        probe = Probe(self.classifier, batch, torch.arange(len(batch)), targets)
        gains: dict[Candidate, Tensor] = {}

        def measured(candidate: Candidate, maps: Tensor) -> list[float]:
            result = gain(probe, maps, steps) if quick else measure(probe, maps, steps, self.seed)
            gains[candidate] = result.srg
            tick(len(maps))
            return _sums(result)

        baseline_rows = []
        for candidate, grid in baselines.items():
            maps = random_maps(indices, grid, self.seed).to(batch)
            if candidate[0] == "centred":
                maps = centred_gaussian(grid, batch.device).expand(len(batch), -1, -1)
            baseline_rows.append([*measured(candidate, maps), *[torch.nan] * 3])
        rows = []
        contrast = self._other_classes(indices, targets)
        for candidate, (high, wide) in grids.items():
            start = time.perf_counter()
            maps = attribute(self.classifier, batch, targets, *candidate, signed=True)[:, 0]
            seconds = time.perf_counter() - start
            sums = measured(candidate, maps)
            better, _ = beats(gains[candidate], gains["random", f"{high} x {wide}"][:, None], gains["centred", "input"])
            similarity = float(len(maps))  # if a method does not depend on the class, both maps are equal
            if METHODS[candidate[0]].by_class:
                similarity = float(random_logit(self.classifier, batch, maps, contrast, *candidate).sum())
            rows.append([*sums, float(better.sum()), similarity, seconds])
        return torch.tensor([*rows, *baseline_rows], dtype=torch.float64)

    def _other_classes(self, indices: np.ndarray, targets: Tensor) -> Tensor:
        """A random class other than the target for each image, `(B,)`; the target if there is a single class."""
        classes = self.classifier.num_classes
        draws = [np.random.default_rng((self.seed, int(index))).integers(1, max(2, classes)) for index in indices]
        return (targets + torch.tensor([int(draw) for draw in draws], device=targets.device)) % classes

    def _focus_sums(
        self, candidates: Sequence[Candidate], scenes: Sequence[Mosaic], tick: Callable[[int], None]
    ) -> Tensor:
        """`RankingSums.focus_sums` of some mosaics; an empty map counts as chance."""
        sums = torch.zeros(len(candidates), 3, dtype=torch.float64)
        for start in range(0, len(scenes), _BATCH):
            some = scenes[start : start + _BATCH]
            batch = self.classifier.tensor(np.stack([scene.view for scene in some]))
            targets = torch.tensor([scene.target for scene in some], device=batch.device)
            for row, candidate in enumerate(candidates):
                maps = attribute(self.classifier, batch, targets, *candidate)[:, 0].cpu().numpy()
                shares = [focus(values, scene.cells) for values, scene in zip(maps, some, strict=True)]
                values = np.array([0.5 if share is None else share for share in shares])
                sums[row] += torch.tensor([len(values), values.sum(), (values**2).sum()])
                tick(len(some))
        return sums

    def _similarity(self, candidates: Sequence[Candidate], rows: Sequence[int], tick: Callable[[int], None]) -> Tensor:
        """`RankingSums.similarity` of the methods in some rows; the other rows are zeros."""
        batch, targets = self.explained(self.order[:_RANDOMISED])
        similarity = torch.zeros(len(candidates), 2, len(self.parts), dtype=torch.float64)
        for row in rows:
            result = randomisation(
                self.classifier, batch, targets, *candidates[row], _SEEDS, lambda count: tick(count * len(batch))
            )
            similarity[row] = torch.tensor([result.spearman, result.ssim], dtype=torch.float64)
        return similarity


def _sums(result: Gain) -> list[float]:
    """The first six of `_METRICS`, summed over the maps; NaN for what was not measured."""
    insertion = road = torch.nan
    if isinstance(result, Faithfulness):
        insertion = float(areas(result.shares, result.insertion).sum())
        road = float(result.road.double().sum())
    srg = result.srg
    deletion = float(areas(result.shares, result.deletion).sum())
    return [len(srg), float(srg.sum()), float(srg.square().sum()), deletion, insertion, road]
