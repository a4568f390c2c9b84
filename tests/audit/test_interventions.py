"""Interventions against slow loops over pixels and images, in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binom, norm

from swin_core.attribution.occlusion import fill_regions
from swin_core.audit.bench import Bench, bootstrap, drops, flips
from swin_core.audit.interventions import (
    FILL,
    TIMES,
    Content,
    Faded,
    Place,
    Shift,
    elsewhere,
    pixel_mask,
    transplant,
    without,
)
from swin_core.audit.maps import GRID, WINDOW
from swin_core.data.folders import image_folder
from swin_core.errors import DataError
from tests.fixtures.audit import SIDE, corner_model, write_images

pytestmark = pytest.mark.usefixtures("one_thread")


def rectangle(top: int, bottom: int, left: int, right: int) -> np.ndarray:
    mask = np.zeros((GRID, GRID), bool)
    mask[top:bottom, left:right] = True
    return mask


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    classifier = corner_model()
    classifier.model.double()
    return Bench(classifier, image_folder(write_images(tmp_path / "images", 6)))


@pytest.mark.parametrize("side", [16, 32, 50, 224])
def test_a_pixel_belongs_to_the_cell_of_its_centre(side: int) -> None:
    mask = rectangle(2, 5, 0, 16) ^ rectangle(3, 9, 4, 6)
    pixels = pixel_mask(mask, side)
    for row, column in np.random.default_rng(0).integers(0, side, (200, 2)):
        assert pixels[row, column] == mask[int((row + 0.5) / side * GRID), int((column + 0.5) / side * GRID)]


@pytest.mark.parametrize("mask", [rectangle(10, 13, 11, 16), ~rectangle(1, 15, 1, 15)])
def test_a_place_on_a_finer_grid_does_the_same(mask: np.ndarray) -> None:
    views, donors = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64, 3)).astype(np.uint8)
    rows = np.arange(3)
    place = Place(mask, seed=1)
    for steps in (2, 3, 4):
        finer = Place(mask.repeat(steps, 0).repeat(steps, 1), seed=1)
        assert (finer.region, finer.is_frame, finer.move) == (place.region, place.is_frame, place.move)
        for control in (False, True):
            inserted = [each.insert(donors, views, rows, rows, control) for each in (place, finer)]
            removed = [each.remove(views, rows, control) for each in (place, finer)]
            assert (inserted[0] == inserted[1]).all()
            assert (removed[0] == removed[1]).all()


def test_a_thin_place_is_pasted_and_removed_as_it_is() -> None:
    mask = np.zeros((64, 64), bool)
    mask[19:22] = True
    place, rows = Place(mask), np.arange(3)
    views, donors = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64, 3)).astype(np.uint8)
    assert place.region == (0.0, 19 / 64, 1.0, 22 / 64)
    assert np.flatnonzero(place.cells.any(1)).tolist() == [4, 5]
    expected = views.copy()
    expected[:, 19:22] = donors[:, 19:22]
    assert (place.insert(donors, views, rows, rows, False) == expected).all()
    down, right = (4 * cells for cells in place.move)
    for row in range(19, 22):
        for column in range(64):
            expected[:, row, column] = donors[:, (row + down) % 64, (column + right) % 64]
    assert (place.insert(donors, views, rows, rows, True) == expected).all()
    changed = (place.remove(views, rows, True) != views).any((0, 2, 3))
    assert set(np.flatnonzero(changed)) <= {(row + down) % 64 for row in range(19, 22)}


def test_a_transplant_copies_pixel_by_pixel() -> None:
    recipients, donors = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32, 3)).astype(np.uint8)
    mask = pixel_mask(rectangle(10, 13, 11, 16), 32)
    for down, right in ((0, 0), (5, 4), (0, 9)):
        expected = recipients.copy()
        for row, column in np.argwhere(mask):
            expected[:, row, column] = donors[:, (row + 2 * down) % 32, (column + 2 * right) % 32]
        assert (transplant(recipients, donors, mask, (down, right)) == expected).all()


@pytest.mark.parametrize("mask", [rectangle(13, 16, 13, 16), rectangle(0, 2, 4, 9), rectangle(6, 9, 6, 10)])
def test_the_control_of_a_window_lies_apart_and_is_not_torn(mask: np.ndarray) -> None:
    for seed in range(40):
        down, right = elsewhere(mask, np.random.default_rng(seed))
        rows, columns = np.nonzero(mask)
        rows, columns = (rows + down) % GRID, (columns + right) % GRID
        assert np.ptp(rows) < mask.any(1).sum()
        assert np.ptp(columns) < mask.any(0).sum()
        gaps = np.maximum(abs(rows[:, None] - np.nonzero(mask)[0]), abs(columns[:, None] - np.nonzero(mask)[1]))
        assert gaps.min() > 2


def test_the_control_of_the_border_lies_inside() -> None:
    mask = ~rectangle(1, 15, 1, 15)
    down, right = elsewhere(mask, np.random.default_rng(0))
    assert (np.roll(mask, (down, right), (0, 1)) & mask).sum() == 8  # two lines of two cells that cross the border


def test_flips_are_those_of_one_image_at_a_time(bench: Bench) -> None:
    donors, recipients = np.array([17, 12, 3, 14, 17]), np.array([0, 7, 8, 15, 1])
    place = Place(rectangle(14, 16, 14, 16))
    for control, move in ((False, (0, 0)), (True, place.move)):
        expected = []
        for donor, recipient in zip(donors, recipients, strict=True):
            view = np.array(bench.dataset.image(int(recipient)))
            given = np.array(bench.dataset.image(int(donor)))
            for row in range(28, 32):
                for column in range(28, 32):
                    view[row, column] = given[(row + 2 * move[0]) % 32, (column + 2 * move[1]) % 32]
            x = torch.from_numpy(view / 255).permute(2, 0, 1)[None]
            expected.append(int(bench.classifier.model(x).argmax()) == 2)
        assert flips(bench, donors, recipients, 2, place, control).tolist() == expected
    assert flips(bench, np.array([17]), np.array([0]), 2, place).all()
    assert not flips(bench, np.array([3]), np.array([0]), 2, place).any()


def test_drops_are_those_of_one_image_at_a_time(bench: Bench) -> None:
    rows, mask = np.array([12, 17, 13]), rectangle(13, 16, 12, 16)
    expected = []
    for row in rows.tolist():
        view = np.array(bench.dataset.image(row))
        pixels = torch.from_numpy(view).permute(2, 0, 1)[None].float()
        filled = fill_regions(pixels, torch.from_numpy(pixel_mask(mask, SIDE))[None], FILL).round()
        before, after = (
            bench.classifier.model(each.double() / 255).softmax(1)[0, 2].item() for each in (pixels, filled)
        )
        expected.append(before - after)
    assert drops(bench, rows, 2, Place(mask)) == pytest.approx(expected, abs=1e-6)
    assert min(expected) > 0.5


def test_content_is_pasted_and_removed_pixel_by_pixel(bench: Bench) -> None:
    donors, recipients = np.array([17, 12, 14]), np.array([0, 7, 1])
    content = Content({17: (12, 12), 12: (0, 3), 14: (5, 9)}, seed=3)
    given, views = bench.views(donors), bench.views(recipients)
    length = WINDOW * SIDE // GRID
    for control in (False, True):
        pasted = content.insert(given, views, donors, recipients, control)
        removed = content.remove(given, donors, control)
        for number, (donor, row) in enumerate(zip(donors.tolist(), recipients.tolist(), strict=True)):
            corner = content.control_corner(donor) if control else content.corners[donor]
            top, left = (cell * SIDE // GRID for cell in corner)
            down, right = np.random.default_rng((3, donor, row)).integers(0, SIDE - length + 1, 2)
            expected, mask = views[number].copy(), np.zeros((SIDE, SIDE), bool)
            for y in range(length):
                for x in range(length):
                    expected[down + y, right + x] = given[number, top + y, left + x]
                    mask[top + y, left + x] = True
            assert (pasted[number] == expected).all()
            assert (removed[number] == without(given[number : number + 1], mask)[0]).all()
            if control:
                assert max(abs(a - b) for a, b in zip(corner, content.corners[donor], strict=True)) > WINDOW


def test_a_shift_is_undone_and_applied_to_one_image_at_a_time(bench: Bench) -> None:
    views = bench.views([3, 9])
    shift = Shift("brightness", (0.1,))
    rows = np.array([3, 9])
    for changed, sign in (
        (shift.insert(views, views, rows, rows, False), TIMES),
        (shift.insert(views, views, rows, rows, True), -TIMES),
        (shift.remove(views, rows, False), -1),
        (shift.remove(views, rows, True), 1),
    ):
        for before, after in zip(views, changed, strict=True):
            expected = (255 * (before / 255 + sign * 0.1).clip(0, 1)).round()
            assert np.abs(after - expected).max() <= 1


def test_removal_keeps_the_rest_and_the_type() -> None:
    views = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    mask = pixel_mask(rectangle(3, 6, 3, 6), 32)
    for given in (views, views.astype(np.float32)):
        result = without(given, mask)
        assert result.dtype == given.dtype
        assert (result[:, ~mask] == given[:, ~mask]).all()
        assert (result[:, mask] != given[:, mask]).any()


def test_an_image_that_vanishes_is_named(bench: Bench) -> None:
    source = bench.dataset.sources[4]
    assert isinstance(source, Path)
    source.write_bytes(b"")
    with pytest.raises(DataError, match=r"blue/04.png .*: it was readable when the audit began"):
        bench.views([4])


@pytest.mark.parametrize(("count", "share", "error"), [(40, 0.3, 0.05), (100, 0.9, 0.005)])
def test_the_interval_of_a_share_is_that_of_the_binomial_distribution(count: int, share: float, error: float) -> None:
    values = np.arange(count) < share * count
    estimate = bootstrap(values, error)
    assert estimate.value == pytest.approx(share)
    # A bootstrap sample of ones and zeros holds a binomial number of ones.
    assert estimate.low == pytest.approx(binom.ppf(error / 2, count, share) / count, abs=1.5 / count)
    assert estimate.high == pytest.approx(binom.ppf(1 - error / 2, count, share) / count, abs=1.5 / count)
    assert bootstrap(values, error) == estimate


def test_an_interval_beyond_the_samples_is_that_of_the_normal_distribution() -> None:
    values = np.arange(100) < 40
    error = 0.05 / 10_000
    estimate = bootstrap(values, error)
    margin = norm.ppf(1 - error / 2) * (0.4 * 0.6 / 100) ** 0.5
    assert estimate.low == pytest.approx(0.4 - margin, abs=0.01)
    assert estimate.low < binom.ppf(error / 2, 100, 0.4) / 100


def test_a_faded_change_goes_a_part_of_the_way() -> None:
    random = np.random.default_rng(0)
    rows = np.arange(3)
    place = Place(rectangle(2, 7, 3, 9))
    for draw in (
        lambda: random.integers(0, 256, (3, 32, 32, 3)).astype(np.uint8),
        lambda: random.random((3, 32, 32, 2)).astype(np.float32),
    ):
        views, donors = draw(), draw()
        for control in (False, True):
            inserted = place.insert(donors, views, rows, rows, control)
            removed = place.remove(views, rows, control)
            for strength in (0.0, 0.25, 1.0):
                faded = Faded(place, strength)
                for changed, result in (
                    (inserted, faded.insert(donors, views, rows, rows, control)),
                    (removed, faded.remove(views, rows, control)),
                ):
                    part = views + strength * (changed.astype(np.float64) - views)
                    assert result.dtype == views.dtype
                    np.testing.assert_allclose(result, part, atol=0.51 if views.dtype == np.uint8 else 1e-6)
