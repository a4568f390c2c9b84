"""Candidates on made-up maps with known answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import silhouette_score

from swin_core.audit.candidates import Candidate, clusters, frame, overlap, place_candidates, shared, silhouette
from swin_core.audit.content import content_candidates
from swin_core.audit.interventions import Content, Place, Shift
from swin_core.audit.maps import GRID, WINDOW, RelevanceMaps, measured_columns
from swin_core.audit.shifts import FileFacts, carriers, file_facts, shift_candidates, size_differences
from swin_core.data.folders import image_folder


def noise(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.5, 1.5, (count, GRID, GRID))


def known(values: np.ndarray, groups: np.ndarray) -> RelevanceMaps:
    normalised = values / values.mean((1, 2), keepdims=True)
    return RelevanceMaps(groups, groups, normalised.astype(np.float16))


def place_of(candidate: Candidate) -> Place:
    assert isinstance(candidate.intervention, Place)
    return candidate.intervention


@pytest.mark.parametrize("place", [(0, 3, 0, 4), (13, 16, 12, 16), (5, 6, 0, 16), (0, 16, 7, 9), (4, 8, 9, 13)])
def test_the_first_candidate_is_the_place_that_stands_out(place: tuple[int, int, int, int]) -> None:
    top, bottom, left, right = place
    values, groups = noise(60), np.repeat([0, 1], 30)
    values[:30, top:bottom, left:right] += 8
    first = next(iter(place_candidates(known(values, groups))))
    assert first.group == 0
    assert place_of(first).region == (left / GRID, top / GRID, right / GRID, bottom / GRID)
    assert not place_of(first).is_frame


def test_a_place_that_all_classes_share_does_not_hide_the_one_that_they_do_not() -> None:
    values, groups = noise(60), np.repeat([0, 1], 30)
    values[:, 6:10, 6:10] += 20
    values[:30, 0:2, 0:2] += 4
    found = [candidate for candidate in place_candidates(known(values, groups)) if candidate.group == 0]
    assert (0.0, 0.0, 2 / GRID, 2 / GRID) in [place_of(candidate).region for candidate in found]


def test_the_border_is_always_a_candidate() -> None:
    found = list(place_candidates(known(noise(20), np.zeros(20, int))))
    (border,) = [candidate for candidate in found if place_of(candidate).is_frame]
    assert place_of(border).region == (0.0, 0.0, 1.0, 1.0)
    assert (place_of(border).mask == frame()).all()


def test_a_class_whose_images_have_marks_at_two_places_falls_into_two_clusters() -> None:
    values = noise(60)
    values[::2, :3, :3] += 30
    values[1::2, -3:, -3:] += 30
    normalised = known(values, np.zeros(60, int))
    parts = [set(part.tolist()) for part in clusters(normalised.maps)]
    assert sorted(parts, key=min) == [set(range(0, 60, 2)), set(range(1, 60, 2))]
    of_parts = [candidate for candidate in place_candidates(normalised) if len(candidate.members) == 30]
    assert {(0.0, 0.0, 3 / GRID, 3 / GRID), (13 / GRID, 13 / GRID, 1.0, 1.0)} <= {
        place_of(each).region for each in of_parts
    }
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


def test_patches_that_look_alike_are_one_candidate_wherever_they_lie() -> None:
    draw = np.random.default_rng(0)
    values, groups = noise(80), np.repeat([0, 1], 40)
    patches = draw.integers(0, 256, (80, 192), np.uint8)
    sticker = draw.integers(0, 256, 192)
    corners = draw.integers(0, GRID - WINDOW + 1, (80, 2))
    for number, (row, column) in enumerate(corners.tolist()):
        values[number, row : row + WINDOW, column : column + WINDOW] += 30
    for number in range(0, 40, 2):  # half of the first class
        patches[number] = (sticker + draw.integers(-10, 11, 192)).clip(0, 255)
    maps = replace(known(values, groups), patches=patches)
    first = next(candidate for candidate in content_candidates(maps) if candidate.group == 0)
    assert isinstance(first.intervention, Content)
    members = set(first.members.tolist())
    assert members >= set(range(0, 40, 2))
    assert len(members) <= 24  # a few of the others look as much alike by chance
    assert first.intervention.corners == {row: tuple(corners[row].tolist()) for row in members}
    assert first.relevance == pytest.approx(maps.maps[0].astype(float).max(), rel=0.1)


@pytest.mark.parametrize(("share", "found"), [(1.0, True), (0.6, True), (0.0, False)])
def test_a_statistic_that_differs_by_class_is_a_candidate(share: float, found: bool) -> None:
    draw = np.random.default_rng(0)
    groups = np.repeat([0, 1, 2], 60)
    columns = measured_columns()
    statistics = draw.normal(0, 0.1, (180, max(part.stop for part in columns.values())))
    marked = draw.random(60) < share
    statistics[:60, columns["colour"]] += np.where(marked[:, None], (0.4, -0.3), 0)
    maps = replace(known(noise(180), groups), statistics=statistics.astype(np.float32))
    facts = FileFacts(np.repeat([0.5, 0.0, 0.0], 60), np.full(180, np.nan))
    of_first = [each.intervention for each in shift_candidates(maps, facts, False) if each.group == 0]
    shifts = [each for each in of_first if isinstance(each, Shift) and each.statistic == "colour"]
    assert len(shifts) == found
    if found:
        others = statistics[60:, columns["colour"]]
        assert shifts[0].by == pytest.approx(np.median(statistics[:60, columns["colour"]], 0) - np.median(others, 0))
        carried = carriers(maps, maps.members(0), shifts[0])
        assert (carried == marked).mean() > 0.8
    squashed = [each.intervention for each in shift_candidates(maps, facts, True) if each.group == 0]
    assert [each.by for each in squashed if isinstance(each, Shift) and each.statistic == "aspect"] == [(0.5,)]


def test_file_sizes_and_sides_are_those_of_the_files(tmp_path: Path) -> None:
    for name, width in (("tall", 20), ("wide", 80)):
        (tmp_path / name).mkdir()
        for number in range(3):
            pixels = np.random.default_rng(number).integers(0, 256, (40, width, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "wide" / "2.png", exif=turned)
    dataset = image_folder(tmp_path)
    facts = file_facts(dataset)
    assert facts.aspect == pytest.approx(np.log([0.5, 0.5, 0.5, 2, 2, 0.5]))
    assert facts.size.tolist() == [(tmp_path / name).stat().st_size for name in dataset.names]
    (first, second) = size_differences(known(noise(6), np.repeat([0, 1], 3)), facts)
    assert first == (0, *np.median(facts.size.reshape(2, 3), 1))
    assert second == (1, *np.median(facts.size.reshape(2, 3), 1)[::-1])
