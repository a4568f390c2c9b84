"""Candidates of the audit, and those of them that are places where a model looks in many images of one class."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans

from swin_core.audit.interventions import Content, Place, Shift
from swin_core.audit.maps import GRID, RelevanceMaps

LARGEST_WINDOW = 20 / 256
"""Largest share of the image that a window covers: larger ones hold the object itself."""
MOST = 3
"""Windows of one mean map by each of the two rankings."""
OVERLAP = 0.3
"""Intersection over union above which two windows are the same place."""

_SIDES = (1, 2, 3, 4, 5, 6)
_STRIPS = (1, 2)
_CLUSTERS = (2, 3, 4)
_LEAST_CLUSTER = 10
"""Images that a cluster needs."""
_CLUSTERED = 1000
"""Images of a class that are clustered, drawn at random."""
_SEPARATE = 0.15
"""Mean silhouette from which clusters are told apart."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """Something on which a model may rely for one class."""

    group: int
    """The class, by the model's index."""
    members: np.ndarray = field(repr=False)
    """Indices of the images in which it was seen, `(n,)` int64."""
    relevance: float
    """Mean relevance in the region, over that of the whole map."""
    intervention: Place | Content | Shift


def place_candidates(maps: RelevanceMaps, seed: int = 0) -> Iterator[Candidate]:
    """Yield the places where the maps of a class, or of a cluster of its images, have the most relevance.

    Windows of several sizes, strips along a side and the border are ranked by `(mean - 1) * sqrt(cells)` on the mean
    map, once as it is and once less the mean map of the other classes. Of windows that overlap, the best stays.
    """
    present = np.unique(maps.groups[maps.groups >= 0])
    means = {group: _mean(maps, maps.members(group)) for group in present.tolist()}
    counts = {group: len(maps.members(group)) for group in means}
    total = sum(counts[group] * means[group] for group in means)
    for group, mean in means.items():
        members = maps.members(group)
        rest = sum(counts.values()) - counts[group]
        others = (total - counts[group] * mean) / rest if rest else np.ones_like(mean)
        chosen = _best(mean, mean - 1) + _best(mean, mean - others) + [frame()]
        for mask in _distinct(chosen):
            yield Candidate(group, members, float(mean[mask].mean()), Place(mask, seed))
        for cluster in clusters(maps.maps[members], seed):
            part = members[cluster]
            of_part = _mean(maps, part)
            for mask in _distinct(_best(of_part, of_part - mean)):
                yield Candidate(group, part, float(of_part[mask].mean()), Place(mask, seed))


def clusters(maps: np.ndarray, seed: int = 0) -> list[np.ndarray]:
    """Return the indices of the maps in each cluster; nothing if the maps do not fall into clusters.

    Maps are compared on an 8 x 8 grid by their square roots, so that single peaks do not decide alone. The number of
    clusters is that with the largest mean silhouette (Rousseeuw 1987). Small clusters are left out.

    Args:
        maps: `(n, GRID, GRID)`, each with mean 1.
        seed: seed of k-means.
    """
    drawn = np.sort(np.random.default_rng(seed).permutation(len(maps))[:_CLUSTERED])
    if len(drawn) < 2 * _LEAST_CLUSTER:
        return []
    half = maps[drawn].astype(np.float32).reshape(len(drawn), GRID // 2, 2, GRID // 2, 2).mean((2, 4))
    points = np.sqrt(half).reshape(len(drawn), -1)
    distances = cdist(points, points)
    best, labels = _SEPARATE, None
    different = len(np.unique(points, axis=0))
    for count in (count for count in _CLUSTERS if count < different):
        assigned = KMeans(count, n_init=3, random_state=seed % 2**32).fit_predict(points)
        score = silhouette(distances, assigned)
        if score > best:
            best, labels = score, assigned
    if labels is None:
        return []
    parts = (drawn[labels == label] for label in range(labels.max() + 1))
    return [part for part in parts if len(part) >= _LEAST_CLUSTER]


def silhouette(distances: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean silhouette of clusters, from the distances `(n, n)`; a point alone in its cluster counts 0."""
    kinds = np.unique(labels)
    if len(kinds) < 2:
        return 0.0
    sizes = np.array([(labels == kind).sum() for kind in kinds])
    sums = np.stack([distances[:, labels == kind].sum(1) for kind in kinds], 1)
    own = np.searchsorted(kinds, labels)
    rows = np.arange(len(labels))
    inside = sums[rows, own] / np.maximum(sizes[own] - 1, 1)
    means = sums / sizes
    means[rows, own] = np.inf
    outside = means.min(1)
    widths = (outside - inside) / np.maximum(np.maximum(inside, outside), 1e-12)
    return float(np.where(sizes[own] > 1, widths, 0).mean())


@cache
def frame() -> np.ndarray:
    """Return the border of one cell, `(GRID, GRID)` bool, read-only."""
    mask = np.ones((GRID, GRID), bool)
    mask[1:-1, 1:-1] = False
    mask.setflags(write=False)
    return mask


@cache
def shapes() -> list[tuple[int, int]]:
    """Return height and width of each window, in cells."""
    cells = GRID * GRID
    windows = [(height, width) for height in _SIDES for width in _SIDES if height * width <= LARGEST_WINDOW * cells]
    return windows + [(size, GRID) for size in _STRIPS] + [(GRID, size) for size in _STRIPS]


def _mean(maps: RelevanceMaps, rows: np.ndarray) -> np.ndarray:
    return maps.maps[rows].mean(0, dtype=np.float64)


def _best(mean: np.ndarray, excess: np.ndarray) -> list[np.ndarray]:
    """Return the masks of the best windows of `excess` that do not overlap and have more relevance than the average."""
    sums = np.pad(excess.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    found = []
    for height, width in shapes():
        inside = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
        scores = inside / np.sqrt(height * width)
        for index in np.argsort(-scores, axis=None)[: 4 * MOST].tolist():
            row, column = divmod(index, scores.shape[1])
            found.append((float(scores[row, column]), row, column, height, width))
    masks: list[np.ndarray] = []
    for _, row, column, height, width in sorted(found, key=lambda window: (-window[0], *window[1:])):
        mask = np.zeros((GRID, GRID), bool)
        mask[row : row + height, column : column + width] = True
        if mean[mask].mean() > 1 and all(overlap(mask, other) <= OVERLAP for other in masks):
            masks.append(mask)
        if len(masks) == MOST:
            break
    return masks


def _distinct(masks: list[np.ndarray]) -> list[np.ndarray]:
    """Drop each mask that is nearly the same as one before."""
    kept: list[np.ndarray] = []
    for mask in masks:
        if all(overlap(mask, other) <= 2 * OVERLAP for other in kept):
            kept.append(mask)
    return kept


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Return the intersection over union of two masks."""
    return float((first & second).sum() / (first | second).sum())


def shared(first: np.ndarray, second: np.ndarray) -> float:
    """Return the part of the smaller of two masks that the other one covers."""
    return float((first & second).sum() / min(first.sum(), second.sum()))
