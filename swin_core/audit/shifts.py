"""Global candidates: statistics of the whole image that differ between a class and the others."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.stats import rankdata

from swin_core.audit.candidates import Candidate
from swin_core.audit.interventions import Shift
from swin_core.audit.maps import RelevanceMaps, measured_columns
from swin_core.data.dataset import DataSet

DIFFERENT = 0.65
"""Chance that an image of the class lies further along the shift than one of the others, from which it is tested."""
LARGER = 1.25
"""Ratio of median file sizes from which a difference is told."""
_ROTATED = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""


class FileFacts(NamedTuple):
    """What the files of a data set tell without their pixels; NaN where unknown."""

    aspect: np.ndarray
    """Logarithm of width over height, `(N,)`."""
    size: np.ndarray
    """Bytes, `(N,)`."""


def file_facts(dataset: DataSet) -> FileFacts:
    """Read sizes of files, and of images from their headers."""
    aspect, size = np.full(len(dataset), np.nan), np.full(len(dataset), np.nan)
    for row, source in enumerate(dataset.sources):
        if not isinstance(source, bytes | Path):
            continue
        try:
            size[row] = len(source) if isinstance(source, bytes) else source.stat().st_size
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
                ratio = np.log(image.width / image.height)
                aspect[row] = -ratio if image.getexif().get(0x0112) in _ROTATED else ratio
        except (OSError, ValueError, Image.DecompressionBombError):
            continue  # what cannot be read is named elsewhere
    return FileFacts(aspect, size)


def shift_candidates(maps: RelevanceMaps, facts: FileFacts, squashed: bool) -> Iterator[Candidate]:
    """Yield the statistics whose medians differ between a class and the others, and that can reach the model.

    Args:
        maps: what was measured of each image.
        facts: what the files tell.
        squashed: whether preprocessing squashes images to a square, so that their aspect ratio reaches the model.
    """
    tables = {name: maps.values(name) for name in measured_columns() if maps.statistics.size}
    if squashed:
        tables["aspect"] = facts.aspect[:, None]
    for group in np.unique(maps.groups[maps.groups >= 0]).tolist():
        for name, values in tables.items():
            known = np.isfinite(values).all(1) & (maps.groups >= 0)
            own, others = values[known & (maps.groups == group)], values[known & (maps.groups != group)]
            if not len(own) or not len(others):
                continue
            by = np.median(own, 0) - np.median(others, 0)
            if by.any() and _above(own @ by, others @ by) >= DIFFERENT:
                yield Candidate(group, maps.members(group), 1.0, Shift(name, tuple(by.tolist())))


def carriers(maps: RelevanceMaps, rows: np.ndarray, shift: Shift) -> np.ndarray:
    """Return which images lie nearer to their class's median than to that of the others, `(n,)` bool."""
    if shift.statistic == "aspect":
        return np.ones(len(rows), bool)
    by = np.array(shift.by)
    values = maps.values(shift.statistic)
    own = np.median(values[rows], 0)
    return (values[rows] - own) @ by > -0.5 * float(by @ by)


def size_differences(maps: RelevanceMaps, facts: FileFacts) -> Iterator[tuple[int, float, float]]:
    """Yield class, median file size and that of the others, in bytes, where they clearly differ."""
    for group in np.unique(maps.groups[maps.groups >= 0]).tolist():
        known = np.isfinite(facts.size) & (maps.groups >= 0)
        own, others = facts.size[known & (maps.groups == group)], facts.size[known & (maps.groups != group)]
        if len(own) and len(others):
            above, medians = _above(own, others), sorted([np.median(own), np.median(others)])
            if max(above, 1 - above) >= DIFFERENT and medians[1] >= LARGER * medians[0]:
                yield group, float(np.median(own)), float(np.median(others))


def _above(own: np.ndarray, others: np.ndarray) -> float:
    """Return the chance that one of `own` is larger than one of `others`; ties count half (area under the ROC)."""
    ranks = rankdata(np.concatenate([own, others]))[: len(own)]
    return float((ranks.sum() - len(own) * (len(own) + 1) / 2) / (len(own) * len(others)))
