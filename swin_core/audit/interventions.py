"""Interventions: what a model predicts after a region was moved between images, or removed, beside matched controls."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import binary_dilation

from swin_core.attribution.occlusion import fill_regions
from swin_core.audit.maps import GRID
from swin_core.data.dataset import DataSet
from swin_core.errors import DataError
from swin_core.evaluation.metrics import batch_size
from swin_core.evaluation.views import read_batches
from swin_core.models.modes import evaluation_mode
from swin_core.system.cache import LRUCache
from swin_core.zoo.classifier import Classifier

FILL = "neighbours"
"""What replaces a region: the weighted mean of its neighbours, which leaves no edge that would be a mark itself."""
RESAMPLES = 10_000
"""Bootstrap samples of an interval."""

_VIEW_BYTES = 256 * 2**20
"""Bytes of views that are held between interventions."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its bootstrap interval."""

    value: float
    low: float
    high: float


class Bench:
    """A classifier and the views of a data set, for interventions on them.

    Args:
        classifier: the model.
        dataset: the images.
    """

    def __init__(self, classifier: Classifier, dataset: DataSet):
        self.classifier, self.dataset = classifier, dataset
        self._views: LRUCache[np.ndarray] = LRUCache(4096, _VIEW_BYTES)

    def views(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the views of some images, `(n, S, S, channels)`; rows may repeat.

        Raises:
            DataError: one of them cannot be read any more.
        """
        wanted = np.unique(rows)
        held = {row: view for row in wanted.tolist() if (view := self._views.peek(row)) is not None}
        missing = np.array([row for row in wanted.tolist() if row not in held], np.int64)
        if len(missing):
            for _, read, views, faults in read_batches(
                self.classifier, self.dataset.subset(missing, self.dataset.split)
            ):
                if faults:
                    raise DataError(f"{faults[0]}: it was readable when the audit began; start the audit again.")
                for row, view in zip(missing[read].tolist(), views, strict=True):
                    held[row] = view
                    self._views.put(row, view)
        return np.stack([held[row] for row in np.asarray(rows).tolist()])

    def probabilities(self, views: np.ndarray) -> np.ndarray:
        """Return the class probabilities of views, `(n, classes)` float32. The lock is held for one batch at a time."""
        rows = []
        step = batch_size(self.classifier.device)
        for start in range(0, len(views), step):
            batch = self.classifier.tensor(views[start : start + step])
            with self.classifier.lock, evaluation_mode(self.classifier.model), torch.no_grad():
                rows.append(self.classifier.probabilities(self.classifier.logits_model(batch)).cpu().numpy())
        return np.concatenate(rows)


def pixel_mask(mask: np.ndarray, side: int) -> np.ndarray:
    """Return a mask of the grid in pixels, `(side, side)` bool; each pixel belongs to the cell of its centre."""
    cells = ((np.arange(side) + 0.5) * GRID / side).astype(int)
    return mask[cells][:, cells]


def elsewhere(mask: np.ndarray, random: np.random.Generator) -> tuple[int, int]:
    """Draw how far to move a region, in cells down and right, so that it keeps away from where it was.

    It keeps a margin of two cells where it can, since a mark may be a little larger than the region. A region that
    leaves the grid comes back on the other side. That is avoided where the region can move without it.
    """
    wide = binary_dilation(mask, np.ones((5, 5)))
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    costs = np.empty((GRID, GRID))
    for down in range(GRID):
        for right in range(GRID):
            moved = np.roll(mask, (down, right), (0, 1))
            wraps = any(
                low + move < GRID <= high + move
                for low, high, move in ((rows[0], rows[-1], down), (columns[0], columns[-1], right))
            )
            costs[down, right] = GRID * (moved & mask).sum() + (moved & wide).sum() + 0.5 * wraps
    down, right = divmod(int(random.choice(np.flatnonzero(costs == costs.min()))), GRID)
    return down, right


def transplant(
    recipients: np.ndarray, donors: np.ndarray, mask: np.ndarray, move: tuple[int, int] = (0, 0)
) -> np.ndarray:
    """Paste a region of each donor into its recipient.

    Args:
        recipients, donors: views, `(n, S, S, channels)`.
        mask: the region of the recipients in pixels, `(S, S)` bool.
        move: where in the donors the content is, in cells down and right from the region; it wraps around.
    """
    shift = tuple(-round(cells * len(mask) / GRID) for cells in move)
    return np.where(mask[None, :, :, None], np.roll(donors, shift, (1, 2)), recipients)


def without(views: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return views with a region replaced by its neighbours, in the type of the views."""
    pixels = torch.from_numpy(np.ascontiguousarray(np.moveaxis(views, 3, 1))).float()
    masks = torch.from_numpy(np.ascontiguousarray(mask))[None].expand(len(views), -1, -1)
    filled = np.moveaxis(fill_regions(pixels, masks, FILL).numpy(), 1, 3)
    return filled.clip(0, 255).round().astype(np.uint8) if views.dtype == np.uint8 else filled.astype(views.dtype)


def flips(
    bench: Bench,
    donors: np.ndarray,
    recipients: np.ndarray,
    group: int,
    mask: np.ndarray,
    move: tuple[int, int] = (0, 0),
) -> np.ndarray:
    """Paste a region of donors into recipients; return which of them become the class, `(n,)` bool.

    Args:
        bench: model and images.
        donors, recipients: indices of images, `(n,)` each.
        group: the class.
        mask: the region on the grid.
        move: as for `transplant`.
    """
    pixels = pixel_mask(mask, bench.classifier.image_size)
    becomes = []
    for part in _parts(bench, len(donors)):
        pasted = transplant(bench.views(recipients[part]), bench.views(donors[part]), pixels, move)
        becomes.append(bench.probabilities(pasted).argmax(1) == group)
    return np.concatenate(becomes)


def drops(bench: Bench, rows: np.ndarray, group: int, mask: np.ndarray) -> np.ndarray:
    """Remove a region from images; return how far p(class) falls, `(n,)` float64.

    Args:
        bench: model and images.
        rows: indices of images, `(n,)`.
        group: the class.
        mask: the region on the grid.
    """
    pixels = pixel_mask(mask, bench.classifier.image_size)
    falls = []
    for part in _parts(bench, len(rows)):
        views = bench.views(rows[part])
        before, after = (bench.probabilities(each)[:, group] for each in (views, without(views, pixels)))
        falls.append(before.astype(np.float64) - after)
    return np.concatenate(falls)


def _parts(bench: Bench, count: int) -> Iterator[slice]:
    step = batch_size(bench.classifier.device)
    return (slice(start, start + step) for start in range(0, count, step))


def bootstrap(values: np.ndarray, error: float = 0.05, seed: int = 0) -> Estimate:
    """Return the mean of `(n,)` values with its percentile interval; `error` is the chance to miss the true mean."""
    values = np.asarray(values, np.float64)
    random = np.random.default_rng(seed)
    means = np.concatenate(
        [values[random.integers(0, len(values), (1000, len(values)))].mean(1) for _ in range(RESAMPLES // 1000)]
    )
    low, high = np.quantile(means, [error / 2, 1 - error / 2])
    return Estimate(float(values.mean()), float(low), float(high))
