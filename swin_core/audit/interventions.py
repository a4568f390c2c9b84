"""Interventions: a region, a content or a statistic is put into images, or removed, beside a matched control."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Protocol

import numpy as np
import torch
from scipy.ndimage import binary_dilation

from swin_core.attribution.occlusion import fill_regions
from swin_core.attribution.regions import Region
from swin_core.audit.maps import GRID, WINDOW, patch_slices
from swin_core.images.preprocessing import to_float
from swin_core.images.statistics import shifted

FILL = "neighbours"
"""What replaces a region: the weighted mean of its neighbours, which leaves no edge that would be a mark itself."""

TIMES = 2
"""A statistic of other images is shifted by this many times the difference of the medians. A mark may add more than
that difference, since classes differ without a mark too."""


class Intervention(Protocol):
    """A change of images that a candidate stands for. Views are `(n, S, S, channels)`, rows are indices of images."""

    @property
    def kind(self) -> str:
        """ "place", "content" or "global"."""

    def insert(
        self, donor_views: np.ndarray, views: np.ndarray, donors: np.ndarray, rows: np.ndarray, control: bool
    ) -> np.ndarray:
        """Return views of images of other classes with what the donors have, or with its matched control."""

    def remove(self, views: np.ndarray, rows: np.ndarray, control: bool) -> np.ndarray:
        """Return views of the class's images without it, or without its matched control."""


@dataclass(frozen=True, eq=False)
class Place:
    """One region in all images. The control is content of equal area from elsewhere in the same image."""

    mask: np.ndarray = field(repr=False)
    """The region, `(n, n)` bool; n is a multiple of `GRID`."""
    seed: int = 0
    kind: ClassVar[str] = "place"

    @property
    def region(self) -> Region:
        """The rectangle around the region, as fractions: left, top, right, bottom."""
        rows, columns = np.flatnonzero(self.mask.any(1)), np.flatnonzero(self.mask.any(0))
        edges = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        left, top, right, bottom = (float(edge / len(self.mask)) for edge in edges)
        return left, top, right, bottom

    @cached_property
    def cells(self) -> np.ndarray:
        """The cells of the common grid that the region touches, `(GRID, GRID)` bool."""
        size = len(self.mask) // GRID
        return np.asarray(self.mask.reshape(GRID, size, GRID, size).any((1, 3)))

    @property
    def is_frame(self) -> bool:
        """Whether the region is the border of the image and not a rectangle."""
        return bool(self.cells[0].all() and not self.cells[1:-1, 1:-1].any() and self.cells[:, 0].all())

    @cached_property
    def move(self) -> tuple[int, int]:
        """How far away the control's content is, in cells down and right."""
        return elsewhere(self.cells, np.random.default_rng(self.seed))

    def insert(
        self, donor_views: np.ndarray, views: np.ndarray, donors: np.ndarray, rows: np.ndarray, control: bool
    ) -> np.ndarray:
        """Paste the region of each donor into its recipient, at the same place."""
        return transplant(views, donor_views, pixel_mask(self.mask, views.shape[1]), self.move if control else (0, 0))

    def remove(self, views: np.ndarray, rows: np.ndarray, control: bool) -> np.ndarray:
        """Replace the region by its neighbours."""
        step = len(self.mask) // GRID
        mask = np.roll(self.mask, [step * cells for cells in self.move], (0, 1)) if control else self.mask
        return without(views, pixel_mask(mask, views.shape[1]))


@dataclass(frozen=True, eq=False)
class Content:
    """A patch of each image, wherever it lies, pasted at random places. The control is another patch of the image."""

    corners: Mapping[int, tuple[int, int]] = field(repr=False)
    """Upper left cell of the patch in each image that has one, row and column."""
    seed: int = 0
    kind: ClassVar[str] = "content"

    def control_corner(self, row: int) -> tuple[int, int]:
        """Return another patch of an image, apart from its own where there is room."""
        random = np.random.default_rng((self.seed, row))
        own = np.array(self.corners[row])
        corners = np.stack(np.unravel_index(np.arange((GRID - WINDOW + 1) ** 2), (GRID - WINDOW + 1,) * 2), 1)
        apart = corners[np.abs(corners - own).max(1) > WINDOW]
        top, left = random.choice(apart).tolist()
        return top, left

    def insert(
        self, donor_views: np.ndarray, views: np.ndarray, donors: np.ndarray, rows: np.ndarray, control: bool
    ) -> np.ndarray:
        """Paste the patch of each donor into its recipient, at a place that depends on the pair and the seed."""
        result = views.copy()
        side = views.shape[1]
        for image, giver, donor, row in zip(result, donor_views, donors.tolist(), rows.tolist(), strict=True):
            patch = giver[patch_slices(self.control_corner(donor) if control else self.corners[donor], side)]
            top, left = np.random.default_rng((self.seed, donor, row)).integers(0, side - len(patch) + 1, 2)
            image[top : top + len(patch), left : left + len(patch)] = patch
        return result

    def remove(self, views: np.ndarray, rows: np.ndarray, control: bool) -> np.ndarray:
        """Replace the patch of each image by its neighbours."""
        masks = np.zeros(views.shape[:3], bool)
        for mask, row in zip(masks, rows.tolist(), strict=True):
            mask[patch_slices(self.control_corner(row) if control else self.corners[row], len(mask))] = True
        return without(views, masks)


@dataclass(frozen=True, eq=False)
class Shift:
    """A shift of a statistic of the whole image. The control is the same shift in the other direction."""

    statistic: str
    """A key of `swin_core.images.statistics.STATISTICS`."""
    by: tuple[float, ...]
    """Median of the class less that of the other classes."""
    kind: ClassVar[str] = "global"

    def insert(
        self, donor_views: np.ndarray, views: np.ndarray, donors: np.ndarray, rows: np.ndarray, control: bool
    ) -> np.ndarray:
        """Shift the recipients towards the class, by `TIMES` the shift; the donors play no part."""
        return shift_views(views, self.statistic, self.by, -TIMES if control else TIMES)

    def remove(self, views: np.ndarray, rows: np.ndarray, control: bool) -> np.ndarray:
        """Shift images of the class towards the other classes."""
        return shift_views(views, self.statistic, self.by, 1 if control else -1)


@dataclass(frozen=True, eq=False)
class Faded:
    """Another intervention at less than its full strength: each pixel goes a part of the way to its changed value."""

    full: Intervention
    strength: float
    """0 for no change, 1 for all of it."""

    @property
    def kind(self) -> str:
        """The kind of the full intervention."""
        return self.full.kind

    def insert(
        self, donor_views: np.ndarray, views: np.ndarray, donors: np.ndarray, rows: np.ndarray, control: bool
    ) -> np.ndarray:
        """Insert at this strength."""
        return self._part_of(views, self.full.insert(donor_views, views, donors, rows, control))

    def remove(self, views: np.ndarray, rows: np.ndarray, control: bool) -> np.ndarray:
        """Remove at this strength."""
        return self._part_of(views, self.full.remove(views, rows, control))

    def _part_of(self, views: np.ndarray, changed: np.ndarray) -> np.ndarray:
        part = views.astype(np.float32) * (1 - self.strength) + changed.astype(np.float32) * self.strength
        return (part.round() if np.issubdtype(views.dtype, np.integer) else part).astype(views.dtype)


def shift_views(views: np.ndarray, statistic: str, by: tuple[float, ...], times: float) -> np.ndarray:
    """Shift a statistic of views `(n, S, S, 3)` uint8 by `times` a vector."""
    images = to_float(torch.from_numpy(np.ascontiguousarray(views)))
    changed = shifted(images, statistic, times * torch.tensor(by).expand(len(views), -1))
    return (255 * changed).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def pixel_mask(mask: np.ndarray, side: int) -> np.ndarray:
    """Return a mask `(n, n)` in pixels, `(side, side)` bool; each pixel belongs to the cell of its centre."""
    cells = ((np.arange(side) + 0.5) * len(mask) / side).astype(int)
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
    """Return views with a region replaced by its neighbours, in the type of the views.

    Args:
        views: `(n, S, S, channels)`.
        mask: the region in pixels, `(S, S)` or for each view its own, `(n, S, S)` bool.
    """
    pixels = torch.from_numpy(np.ascontiguousarray(np.moveaxis(views, 3, 1))).float()
    masks = torch.from_numpy(np.broadcast_to(mask, views.shape[:3]).copy())
    filled = np.moveaxis(fill_regions(pixels, masks, FILL).numpy(), 1, 3)
    return filled.clip(0, 255).round().astype(np.uint8) if views.dtype == np.uint8 else filled.astype(views.dtype)
