"""Candidates of content anywhere: patches that look alike in many images of one class, wherever they lie."""

from collections.abc import Iterator

import numpy as np
from scipy.spatial.distance import cdist

from swin_core.audit.candidates import Candidate
from swin_core.audit.interventions import Content
from swin_core.audit.maps import RelevanceMaps, top_windows, window_relevance

FOREIGN = 0.02
"""Share of the other classes' patches that may look as much alike as those of a candidate."""
LEAST_SHARE = 0.1
"""Share of a class whose patches must look alike."""
_LEAST_MEMBERS = 8
_COMPARED = 500
"""Most images of a class, and of the others, that are compared, drawn at random."""


def content_candidates(maps: RelevanceMaps, seed: int = 0) -> Iterator[Candidate]:
    """Yield, for each class, the patches that look alike in most of its images and in few of the others.

    Only the most relevant patch of each image counts. Patches are compared as pixels, and by the first stage's output,
    which forgives a patch that is not cut at the same place.
    """
    random = np.random.default_rng(seed)
    present = np.unique(maps.groups[maps.groups >= 0]).tolist()
    corners = top_windows(maps.maps)
    relevance = window_relevance(maps.maps, corners)
    for group in present:
        own = np.sort(random.permutation(maps.members(group))[:_COMPARED])
        others = np.flatnonzero((maps.groups >= 0) & (maps.groups != group))
        others = np.sort(random.permutation(others)[:_COMPARED])
        before: set[int] = set()
        for table in (maps.patches, maps.features):
            if not table.size or not len(others):
                continue
            members = own[alike(table[own].astype(np.float64), table[others].astype(np.float64))]
            if len(members) < max(_LEAST_MEMBERS, LEAST_SHARE * len(own)) or set(members.tolist()) == before:
                continue
            before = set(members.tolist())
            places = {row: (int(corners[row, 0]), int(corners[row, 1])) for row in members.tolist()}
            yield Candidate(group, members, float(relevance[members].mean()), Content(places, seed))


def alike(own: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the indices of the rows of `own` around the one that most of them are near, and few of `others`.

    Args:
        own: descriptors of a class's patches, `(n, d)`.
        others: those of other classes, `(m, d)`.
    """
    radius = np.quantile(cdist(own, others), FOREIGN, axis=1, keepdims=True)
    near = cdist(own, own) <= radius
    return np.flatnonzero(near[near.sum(1).argmax()])
