"""Candidates on made-up maps with known answers."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from swin_core.audit.candidates import clusters, frame, overlap, place_candidates, shared, silhouette
from swin_core.audit.maps import GRID, RelevanceMaps


def noise(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.5, 1.5, (count, GRID, GRID))


def known(values: np.ndarray, groups: np.ndarray) -> RelevanceMaps:
    normalised = values / values.mean((1, 2), keepdims=True)
    return RelevanceMaps(groups, groups, normalised.astype(np.float16))


@pytest.mark.parametrize("place", [(0, 3, 0, 4), (13, 16, 12, 16), (5, 6, 0, 16), (0, 16, 7, 9), (4, 8, 9, 13)])
def test_the_first_candidate_is_the_place_that_stands_out(place: tuple[int, int, int, int]) -> None:
    top, bottom, left, right = place
    values, groups = noise(60), np.repeat([0, 1], 30)
    values[:30, top:bottom, left:right] += 8
    first = next(iter(place_candidates(known(values, groups))))
    assert first.group == 0
    assert first.region == (left / GRID, top / GRID, right / GRID, bottom / GRID)
    assert not first.is_frame


def test_a_place_that_all_classes_share_does_not_hide_the_one_that_they_do_not() -> None:
    values, groups = noise(60), np.repeat([0, 1], 30)
    values[:, 6:10, 6:10] += 20
    values[:30, 0:2, 0:2] += 4
    regions = [candidate.region for candidate in place_candidates(known(values, groups)) if candidate.group == 0]
    assert (0.0, 0.0, 2 / GRID, 2 / GRID) in regions


def test_the_border_is_always_a_candidate() -> None:
    found = list(place_candidates(known(noise(20), np.zeros(20, int))))
    (border,) = [candidate for candidate in found if candidate.is_frame]
    assert border.region == (0.0, 0.0, 1.0, 1.0)
    assert (border.mask == frame()).all()


def test_a_class_whose_images_have_marks_at_two_places_falls_into_two_clusters() -> None:
    values = noise(60)
    values[::2, :3, :3] += 30
    values[1::2, -3:, -3:] += 30
    normalised = known(values, np.zeros(60, int))
    parts = [set(part.tolist()) for part in clusters(normalised.maps)]
    assert sorted(parts, key=min) == [set(range(0, 60, 2)), set(range(1, 60, 2))]
    of_parts = [candidate for candidate in place_candidates(normalised) if len(candidate.members) == 30]
    assert {(0.0, 0.0, 3 / GRID, 3 / GRID), (13 / GRID, 13 / GRID, 1.0, 1.0)} <= {each.region for each in of_parts}
    assert clusters(known(noise(60), np.zeros(60, int)).maps) == []
    assert clusters(normalised.maps[:19]) == []  # too few for two clusters


def test_the_silhouette_is_that_of_scikit_learn() -> None:
    draw = np.random.default_rng(0)
    points = draw.normal(size=(40, 3))
    distances = np.sqrt(((points[:, None] - points[None]) ** 2).sum(-1))
    for kinds in (2, 3, 5):
        labels = draw.integers(0, kinds, 40)
        expected = silhouette_score(distances, labels, metric="precomputed")
        assert silhouette(distances, labels) == pytest.approx(expected)
    assert silhouette(distances, np.zeros(40, int)) == 0


def test_overlap_is_over_the_union_and_shared_over_the_smaller() -> None:
    first, second = np.zeros((2, GRID, GRID), bool)
    first[:4, :4] = second[2:4, :8] = True
    assert overlap(first, second) == 8 / 24
    assert shared(first, second) == 8 / 16
