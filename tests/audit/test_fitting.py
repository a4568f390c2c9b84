"""Rectangles fitted to marks whose effect is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from swin_core.audit.fitting import DENSE, FINEST, fitted_mask, rectangle
from swin_core.audit.interventions import Place, pixel_mask
from swin_core.audit.maps import GRID
from swin_core.audit.repair import region_mask


def window(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    return rectangle((left, top, right, bottom), GRID)


def covering(mark: np.ndarray, slope: float) -> Callable[[np.ndarray], float]:
    """The fall of a mark that counts once it is covered by more than a half, beside an object all over the image."""

    def fall(mask: np.ndarray) -> float:
        covered = (mask & mark).sum() / mark.sum()
        return float(max(0.0, 2 * covered - 1) + slope * mask.mean())

    return fall


@pytest.mark.parametrize(
    ("mark", "start"),
    [
        ((54, 54, 64, 64), (12, 13, 16, 16)),  # a square in a corner
        ((2, 2, 14, 14), (0, 1, 3, 2)),  # a logo of which a part was found
        ((32, 55, 63, 63), (11, 13, 16, 16)),  # a date stamp of which the right half was found
        ((0, 19, 64, 22), (4, 4, 10, 6)),  # a line across the image of which a piece was found
        ((0, 0, 64, 3), (0, 0, 16, 2)),
    ],
)
@pytest.mark.parametrize("slope", [0.0, 1.0])
def test_a_rectangle_becomes_the_mark(
    mark: tuple[int, int, int, int], start: tuple[int, int, int, int], slope: float
) -> None:
    fitted = fitted_mask(window(*start), 64, covering(rectangle(mark, 64), slope))
    assert Place(fitted).region == tuple(edge / 64 for edge in mark)


@pytest.mark.parametrize("slope", [0.1, 0.3, 1.0])
def test_a_rectangle_that_first_grows_over_the_object_only_becomes_the_mark(slope: float) -> None:
    mark = (0, 19, 64, 22)
    fitted = fitted_mask(window(6, 4, 8, 6), 64, covering(rectangle(mark, 64), slope))
    assert Place(fitted).region == tuple(edge / 64 for edge in mark)


@pytest.mark.parametrize(("side", "count"), [(20, 16), (32, 32), (63, 48), (64, 64), (224, 64)])
def test_no_step_is_smaller_than_a_pixel(side: int, count: int) -> None:
    sizes: set[int] = set()

    def fall(mask: np.ndarray) -> float:
        sizes.add(len(mask))
        pixels = pixel_mask(mask, side)
        assert pixels.any(0).sum() >= mask.any(0).sum()
        return float(mask[: count // 2].mean())

    assert len(fitted_mask(window(2, 2, 5, 5), side, fall)) == count
    assert sizes == {count}
    assert count <= GRID * FINEST


def test_a_rectangle_whose_removal_lowers_nothing_stays() -> None:
    mask = window(3, 4, 6, 8)
    assert (fitted_mask(mask, 64, lambda tried: -float(tried.mean())) == mask).all()


def test_nothing_is_better_than_its_neighbours() -> None:
    """The result against all rectangles that differ in one edge by one step."""
    draw = np.random.default_rng(0)
    density = draw.uniform(0, 1, (64, 64)) ** 8
    density[20:30, 34:50] += 2
    density /= density.sum()

    tried: list[float] = []  # the falls of all rectangles

    def fall(mask: np.ndarray) -> float:
        tried.append(float(density[mask].sum()))
        return tried[-1]

    start = window(8, 5, 12, 7)
    left, top, right, bottom = (round(64 * edge) for edge in Place(fitted_mask(start, 64, fall)).region)
    most = max(tried)

    def worth(*edges: int) -> float:
        mask = rectangle((edges[0], edges[1], edges[2], edges[3]), 64)
        return fall(mask) - DENSE * most * mask.mean()

    best = worth(left, top, right, bottom)
    for edge in range(4):
        for by in (-1, 1):
            moved = [left, top, right, bottom]
            moved[edge] += by
            assert worth(*moved) <= best


def test_a_fitted_region_is_the_same_in_the_repair() -> None:
    draw = np.random.default_rng(0)
    for steps in range(1, FINEST + 1):
        for side in (64, 100, 224):
            count = GRID * steps
            left, top = draw.integers(0, count - 1, 2).tolist()
            right, bottom = int(draw.integers(left + 1, count + 1)), int(draw.integers(top + 1, count + 1))
            place = Place(rectangle((left, top, right, bottom), count))
            again = region_mask(place.region, False)
            assert (pixel_mask(again, side) == pixel_mask(place.mask, side)).all()
            assert Place(again).region == pytest.approx(place.region)
