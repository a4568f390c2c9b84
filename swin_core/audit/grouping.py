"""Which of the candidates that pass are reported: of those that stand for the same, one."""

from collections.abc import Sequence

import numpy as np

from swin_core.audit.candidates import Candidate, shared
from swin_core.audit.interventions import Content, Place, Shift
from swin_core.audit.maps import window_mask
from swin_core.audit.results import Tested

SAME = 0.1
"""Part of the smaller region that two places of a class share if they are one finding."""
NEARLY = 0.1
"""Effects that differ by less are about equal."""
WHOLE_SIDE = 0.75
"""Part of an edge of the image from which a region along it is a whole side of the border."""


def reported(results: Sequence[tuple[Candidate, Tested]]) -> list[tuple[Candidate, Tested]]:
    """Return the candidates that pass, strongest first; of those that stand for the same, one.

    Of places that are nearly as strong as the strongest, it is the one with the highest relevance, which has the mark
    and the least beside it. A place says more than content that lies there, so it comes first if it is about as strong.

    If that is a whole side of the border, or the border's colour, and the border says more, it is the border: the other
    sides of a frame carry on without one of them. Any other place stays, since the border only overlaps it: a piece of
    a line at an edge, a mark in a corner. So does content.
    """
    passing = sorted((pair for pair in results if pair[1].passes), key=lambda pair: -pair[1].strength)
    findings = []
    while passing:
        first, strongest = passing[0]
        same = [pair for pair in passing if stand_for_the_same(pair[0], first)]
        near = [pair for pair in same if pair[1].strength >= strongest.strength - NEARLY]
        places = [pair for pair in near if isinstance(pair[0].intervention, Place)]
        found = max(places, key=lambda pair: pair[1].relevance) if places else passing[0]
        if _is_part_of_border(found[0]):
            borders = (pair for pair in same if _is_border(pair[0]) and _is_more(pair[1], found[1]))
            found = next(borders, found)
        if _is_border(found[0]):
            same = [pair for pair in passing if stand_for_the_same(pair[0], found[0])]
        findings.append(found)
        passing = [pair for pair in passing if pair not in same and pair is not found]
    return findings


def _is_border(candidate: Candidate) -> bool:
    """Return whether a candidate is the border of the image."""
    return isinstance(candidate.intervention, Place) and candidate.intervention.is_frame


def _is_part_of_border(candidate: Candidate) -> bool:
    """Return whether a candidate is a whole side of the border, or the border's colour."""
    part = candidate.intervention
    if isinstance(part, Shift):
        return part.statistic == "border"
    if not isinstance(part, Place) or part.is_frame:
        return False
    left, top, right, bottom = part.region
    upright = (left == 0 or right == 1) and bottom - top >= WHOLE_SIDE
    level = (top == 0 or bottom == 1) and right - left >= WHOLE_SIDE
    return upright or level


def _is_more(border: Tested, other: Tested) -> bool:
    """Return whether the border stands for more than one of its sides, or than its colour.

    It turns clearly more images than a side, or about as many and removing it does clearly more. It says more than its
    colour if it turns about as many.
    """
    turns = border.flip.value - other.flip.value
    if turns >= NEARLY:
        return True
    falls = border.drop is not None and other.drop is not None and border.drop.low > other.drop.high + NEARLY
    return turns >= -NEARLY and (other.kind == "global" or falls)


def stand_for_the_same(one: Candidate, other: Candidate) -> bool:
    """Return whether two candidates stand for the same.

    Of one class: regions that share a part, or the same patches. Of two classes: opposite shifts of a statistic, since
    images that lose the mark of one class become the others.
    """
    first, second = one.intervention, other.intervention
    if isinstance(first, Shift) and isinstance(second, Shift) and first.statistic == second.statistic:
        return one.group == other.group or float(np.dot(first.by, second.by)) < 0
    if one.group != other.group:
        return False
    if isinstance(first, Content) and isinstance(second, Content):
        return len(first.corners.keys() & second.corners.keys()) > len(min(first.corners, second.corners, key=len)) / 2
    if isinstance(first, Place) and isinstance(second, Place):
        return shared(first.cells, second.cells) > SAME
    if isinstance(first, Content) and isinstance(second, Place):
        there = [shared(window_mask(corner), second.cells) > SAME for corner in first.corners.values()]
        return sum(there) > len(there) / 2
    if isinstance(first, Shift) and isinstance(second, Place):
        return first.statistic == "border" and second.is_frame
    return stand_for_the_same(other, one) if isinstance(first, Place) else one is other
