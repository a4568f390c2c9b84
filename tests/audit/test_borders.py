"""Which of the candidates that share a region is reported: a border, one of its sides, or another place."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from swin_core.audit import maps, results
from swin_core.audit.bench import Estimate
from swin_core.audit.candidates import Candidate, frame
from swin_core.audit.grouping import reported
from swin_core.audit.interventions import Place, Shift

pytestmark = pytest.mark.usefixtures("one_thread")


def measured(candidate: Candidate, flip: float, effect: float) -> results.Tested:
    share, place = Estimate(flip, flip, flip), candidate.intervention
    assert isinstance(place, Place)
    return results.Tested(
        class_name="blue",
        kind="place",
        region=place.region,
        frame=place.is_frame,
        relevance=candidate.relevance,
        pairs=300,
        flip=share,
        flip_control=Estimate(flip - effect, flip - effect, flip - effect),
        effect=Estimate(effect, effect - 0.05, effect + 0.05),
        of_images=100,
    )


def window(rows: slice, columns: slice, relevance: float) -> Candidate:
    mask = np.zeros((maps.GRID, maps.GRID), bool)
    mask[rows, columns] = True
    return Candidate(0, np.arange(100), relevance, Place(mask))


def test_candidates_that_share_a_region_are_one_finding() -> None:
    whole, tight, other = (
        window(slice(11, 16), slice(12, 16), 10.0),
        window(slice(13, 16), slice(13, 16), 25.0),
        window(slice(0, 2), slice(0, 2), 5.0),
    )
    tested = [
        (whole, measured(whole, 1.0, 0.95)),
        (tight, measured(tight, 0.97, 0.9)),
        (other, measured(other, 0.5, 0.4)),
    ]
    assert [candidate for candidate, _ in reported(tested)] == [tight, other]


def test_the_sides_of_a_frame_are_one_finding_if_the_border_turns_more_images() -> None:
    sides = [window(slice(None), slice(15, 16), 2.5), window(slice(None), slice(0, 2), 1.8)]
    border = Candidate(0, np.arange(100), 2.0, Place(frame()))
    tested = [(side, measured(side, 0.6 - 0.1 * number, 0.5 - 0.1 * number)) for number, side in enumerate(sides)]
    for flip, expected in ((0.95, [border]), (0.62, sides)):
        found = reported([*tested, (border, measured(border, flip, 0.45))])
        assert [candidate for candidate, _ in found] == expected


def test_a_side_of_a_frame_is_the_border_if_only_removing_the_border_matters() -> None:
    side = window(slice(None), slice(14, 16), 2.5)
    border = Candidate(0, np.arange(100), 2.0, Place(frame()))
    none, much = Estimate(0.04, 0.02, 0.06), Estimate(0.8, 0.75, 0.85)
    for side_falls, border_falls, flip, expected in (
        (none, much, 0.85, border),
        (none, much, 0.6, side),  # the border turns fewer images: it is only larger
        (much, much, 0.85, side),
        (none, none, 0.85, side),
    ):
        found = reported(
            [
                (side, replace(measured(side, 0.87, 0.8), drop=side_falls)),
                (border, replace(measured(border, flip, 0.4), drop=border_falls)),
            ]
        )
        assert [candidate for candidate, _ in found] == [expected]


def test_the_border_is_compared_with_the_side_that_would_be_reported() -> None:
    side = window(slice(None), slice(14, 16), 2.5)
    border = Candidate(0, np.arange(100), 2.0, Place(frame()))
    little, much = Estimate(0.04, 0.02, 0.06), Estimate(0.8, 0.75, 0.85)
    of_side = replace(measured(side, 0.9, 0.76), drop=little)
    of_border = replace(measured(border, 0.95, 0.82), drop=much)  # the strongest, with less relevance than the side
    found = reported([(side, of_side), (border, of_border)])
    assert [candidate for candidate, _ in found] == [border]


@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        (slice(0, 1), slice(5, 11)),  # a piece of a line at the upper edge
        (slice(13, 16), slice(13, 16)),  # a square in a corner
    ],
)
def test_the_border_takes_no_place_that_is_not_a_whole_side(rows: slice, columns: slice) -> None:
    place = window(rows, columns, 9.0)
    border = Candidate(0, np.arange(100), 2.0, Place(frame()))
    little, much = Estimate(0.1, 0.08, 0.12), Estimate(0.7, 0.65, 0.75)
    of_place = replace(measured(place, 0.9, 0.8), drop=little)
    of_border = replace(measured(border, 0.88, 0.5), drop=much)
    found = reported([(place, of_place), (border, of_border)])
    assert [candidate for candidate, _ in found] == [place]


def test_a_frame_comes_before_its_colour_and_takes_its_sides_along() -> None:
    side = window(slice(None), slice(14, 16), 2.5)
    border = Candidate(0, np.arange(100), 2.0, Place(frame()))
    colour = Candidate(0, np.arange(100), 1.0, Shift("border", (-0.2, -0.2, -0.2)))
    much, none = Estimate(0.8, 0.75, 0.85), Estimate(0.0, -0.1, 0.1)
    of_colour = replace(
        measured(border, 0.94, 0.76), kind="global", statistic="border", region=None, drop=much, drop_control=none
    )
    tested = [(side, measured(side, 0.62, 0.58)), (colour, of_colour)]
    for flip, expected in ((0.95, [border]), (0.7, [colour, side])):
        found = reported([*tested, (border, replace(measured(border, flip, 0.4), drop=much))])
        assert [candidate for candidate, _ in found] == expected


def test_a_statistic_that_can_be_undone_without_an_effect_is_no_finding() -> None:
    tested = measured(window(slice(0, 2), slice(0, 2), 1.0), 0.9, 0.9)
    shift = replace(tested, kind="global", region=None, statistic="contrast", by=(-0.2,))
    clear, none = Estimate(0.3, 0.2, 0.4), Estimate(0.0, -0.1, 0.1)
    assert replace(shift, drop=clear, drop_control=none).passes
    assert not replace(shift, drop=none, drop_control=none).passes
    assert not shift.passes
    assert tested.passes
