"""Windows, shift, mask and relative positions against slow, independent code."""

from __future__ import annotations

import itertools

import pytest
import torch
from timm.models.swin_transformer import get_relative_position_index

from swin_core.models.windows import (
    Pair,
    fit_window,
    from_windows,
    pad_to_windows,
    relative_position_index,
    shift_mask,
    to_windows,
    window_partition,
    window_reverse,
)

GRIDS = [
    ((8, 12), (4, 4)),
    ((4, 4), (4, 4)),
    ((6, 15), (3, 5)),
    ((7, 14), (7, 7)),
    ((1, 6), (1, 3)),
    ((5, 3), (1, 1)),
]


@pytest.mark.parametrize(("grid", "window"), GRIDS)
def test_partition_and_reverse_are_inverse(grid: Pair, window: Pair) -> None:
    x = torch.randn(3, *grid, 5)
    windows = window_partition(x, window)
    assert torch.equal(window_reverse(windows, window, grid), x)
    assert torch.equal(window_partition(window_reverse(windows, window, grid), window), windows)


@pytest.mark.parametrize(("grid", "window"), GRIDS)
def test_partition_puts_each_token_where_a_loop_does(grid: Pair, window: Pair) -> None:
    x = torch.arange(2 * grid[0] * grid[1]).view(2, *grid, 1)
    expected = [
        [
            int(x[image, top + row, left + column])
            for row, column in itertools.product(range(window[0]), range(window[1]))
        ]
        for image in range(2)
        for top in range(0, grid[0], window[0])
        for left in range(0, grid[1], window[1])
    ]
    assert window_partition(x, window).squeeze(-1).tolist() == expected


@pytest.mark.parametrize("grid", [(8, 12), (7, 9), (1, 1), (3, 17)])
@pytest.mark.parametrize("window", [(4, 4), (3, 5)])
def test_padding_is_the_least_that_divides_and_zero(grid: Pair, window: Pair) -> None:
    x = torch.randn(2, *grid, 3)
    padded = pad_to_windows(x, window)
    for size, full, side in zip(grid, padded.shape[1:3], window, strict=True):
        assert full % side == 0
        assert size <= full < size + side
    assert torch.equal(padded[:, : grid[0], : grid[1]], x)
    assert padded.count_nonzero() == x.count_nonzero()


def test_window_shrinks_and_shift_ends_along_each_axis_alone() -> None:
    assert fit_window((14, 14), 7, 3) == ((7, 7), (3, 3))
    assert fit_window((7, 7), 7, 3) == ((7, 7), (0, 0))
    assert fit_window((4, 20), 7, 3) == ((4, 7), (0, 3))
    assert fit_window((8, 1), 7, 3) == ((7, 1), (3, 0))


def neighbours_by_pixel(grid: Pair, window: Pair, shift: Pair) -> torch.Tensor:
    """For each window and pair of its tokens: whether their offset on the map equals that in the window."""
    windows = []
    for top, left in itertools.product(range(0, grid[0], window[0]), range(0, grid[1], window[1])):
        inside = list(itertools.product(range(window[0]), range(window[1])))
        # Where each token of the shifted map was before the shift.
        before = [((top + r + shift[0]) % grid[0], (left + c + shift[1]) % grid[1]) for r, c in inside]
        windows.append(
            [
                [
                    all(before[i][axis] - before[j][axis] == inside[i][axis] - inside[j][axis] for axis in range(2))
                    for j in range(len(inside))
                ]
                for i in range(len(inside))
            ]
        )
    return torch.tensor(windows)


@pytest.mark.parametrize(
    ("grid", "window", "shift"),
    [
        ((8, 8), (4, 4), (2, 2)),
        ((14, 14), (7, 7), (3, 3)),
        ((9, 6), (3, 3), (1, 1)),
        ((4, 12), (4, 4), (0, 2)),
        ((12, 3), (4, 3), (2, 0)),
        ((6, 10), (2, 5), (1, 2)),
    ],
)
def test_mask_blocks_exactly_the_pairs_that_the_shift_joined(grid: Pair, window: Pair, shift: Pair) -> None:
    mask = shift_mask(grid, window, shift)
    assert mask is not None
    allowed = neighbours_by_pixel(grid, window, shift)
    assert torch.equal(mask == 0, allowed)
    assert torch.equal(mask == float("-inf"), ~allowed)
    assert allowed.any()
    assert not allowed.all()


def test_no_shift_needs_no_mask() -> None:
    assert shift_mask((8, 8), (4, 4), (0, 0)) is None
    assert neighbours_by_pixel((8, 8), (4, 4), (0, 0)).all()


@pytest.mark.parametrize("window", [1, 2, 4, 7, 12])
def test_relative_positions_are_those_of_the_published_code(window: int) -> None:
    expected = get_relative_position_index(window, window)
    assert torch.equal(relative_position_index((window, window), window), expected)


@pytest.mark.parametrize("window", [(4, 4), (2, 4), (3, 1), (1, 1)])
def test_a_smaller_window_reads_the_rows_of_its_own_offsets(window: Pair) -> None:
    made_for = 4
    index = relative_position_index(window, made_for)
    offsets = list(itertools.product(range(1 - made_for, made_for), repeat=2))  # the table, row by row
    tokens = list(itertools.product(range(window[0]), range(window[1])))
    for (i, query), (j, key) in itertools.product(enumerate(tokens), repeat=2):
        assert offsets[index[i, j]] == (query[0] - key[0], query[1] - key[1])


@pytest.mark.parametrize(("size", "window", "shift"), [((8, 12), (4, 4), (2, 2)), ((7, 5), (4, 3), (2, 0))])
def test_to_windows_pads_rolls_and_cuts_in_one_step(size: Pair, window: Pair, shift: Pair) -> None:
    x = torch.randn(2, *size, 3, dtype=torch.float64, requires_grad=True)
    padded = pad_to_windows(x, window)
    expected = window_partition(torch.roll(padded, (-shift[0], -shift[1]), (1, 2)), window)
    windows = to_windows(x, window, shift)
    assert torch.equal(windows, expected)
    assert torch.equal(from_windows(windows, size, window, shift), x)
    weights = torch.randn_like(expected)
    (slow,) = torch.autograd.grad((expected * weights).sum(), x)
    assert torch.equal(torch.autograd.grad((windows * weights).sum(), x)[0], slow)
    assert torch.autograd.gradgradcheck(
        lambda x: from_windows(to_windows(x, window, shift) ** 3, size, window, shift), x
    )
    each = torch.func.vmap(lambda image: to_windows(image[None], window, shift))(x)
    assert torch.equal(each.flatten(0, 1), expected)
