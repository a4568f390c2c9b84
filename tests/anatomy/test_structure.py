"""The structure of models: windows, shifts, masks and bias tables against loops over tokens and timm's tables."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import timm
import torch
from torch import nn

import swin_core
from swin_core.anatomy.internals import (
    block_attention,
    read_internals,
)
from swin_core.anatomy.structure import PADDING, WindowPositions, anatomy, bias_maps
from swin_core.models.windows import shift_mask, window_partition
from swin_core.weights.key_layouts import convert
from tests.fixtures.anatomy import classifier, photo
from tests.fixtures.attention import timm_swin, timm_swin_v2, token_numbers, vit
from tests.fixtures.reference import small

pytestmark = pytest.mark.usefixtures("one_thread")

Watch = Callable[[nn.Module], Callable[[], int]]


def agrees(mask: np.ndarray, tokens: list[int], width: int, window: tuple[int, int]) -> bool:
    """Whether pairs may attend exactly if they stand to each other on the map as in the window, pair by pair.

    Where padded tokens stand on the map nobody asks.
    """
    for (n, one), (m, other) in product(enumerate(tokens), repeat=2):
        if PADDING not in (one, other):
            apart = (one // width - other // width, one % width - other % width)
            together = apart == (n // window[1] - m // window[1], n % window[1] - m % window[1])
            if together != bool(mask[n, m]):
                return False
    return True


@pytest.mark.parametrize("size", [32, 30, 18, 6])
@pytest.mark.parametrize("shift", [True, False])
def test_positions_equal_a_loop_over_tokens(size: int, shift: bool) -> None:
    parts = anatomy(classifier(small(shift=shift), size))
    assert [block.title for block in parts.blocks] == [f"Stage {s} block {b}" for s in (1, 2) for b in (1, 2)]
    for block in parts.blocks:
        grid = block.grid
        assert grid == (-(-size // 2 // block.stage),) * 2
        step = 2 if shift and block.number == 2 else 0
        expected = token_numbers(grid, 4, step, rolls_first=False)
        positions = block.positions()
        for number, tokens in enumerate(expected):
            found = positions.tokens[positions.windows == number]
            assert [PADDING if token is None else token for token in tokens] == found.tolist()
        on_map = positions.on_map(positions.windows)
        for number, tokens in enumerate(expected):
            for token in tokens:
                if token is not None:
                    row, column = divmod(token, grid[1])
                    assert on_map[row, column] == number
                    assert positions.tokens[positions.position_of((row, column))] == token
                    assert positions.tokens[positions.window_of((row, column))].ravel().tolist() == [
                        PADDING if one is None else one for one in tokens
                    ]


@pytest.mark.parametrize("size", [32, 24, 16])
def test_masks_equal_the_models_and_a_loop_over_pairs(size: int) -> None:
    for block in anatomy(classifier(small(), size)).blocks:
        positions = block.positions()
        windows = block.windows
        core = shift_mask(windows.padded, windows.window, windows.shift)
        for row, column in np.ndindex(*block.grid):
            number = positions.on_map(positions.windows)[row, column]
            found = positions.mask((row, column))
            assert np.array_equal(found, np.ones_like(found) if core is None else (core[number] == 0).numpy())
            numbers = positions.tokens[positions.windows == number].tolist()
            assert agrees(found, numbers, block.grid[1], windows.window)
        together = [number for _, numbers in positions.masks() for number in numbers]
        assert sorted(together) == list(range(int(positions.windows.max()) + 1))


def test_exactly_the_masked_pairs_have_no_attention(no_hooks_left: Watch) -> None:
    for model in (small(), small(version=2), timm_swin(), timm_swin_v2()):
        no_hooks_left(model)
        subject = classifier(model)
        view = subject.view(photo())
        for block in anatomy(subject).blocks:
            attention = block_attention(subject, view, block.name).matrix
            positions = block.positions()
            for token in [(0, 0), (block.grid[0] - 1, block.grid[1] - 1), (block.grid[0] // 2, 1)]:
                row, column = positions.position_of(token)
                number = positions.windows[row, column]
                assert np.array_equal((attention[number].mean(0) > 1e-20).numpy(), positions.mask(token))


@pytest.mark.parametrize("window", [4, 5])
def test_swin_mlp_shifts_by_padding_at_the_top_and_left(window: int) -> None:
    model = small(mixer="mlp", window_size=window)
    parts = anatomy(classifier(model))
    assert not parts.has_attention
    assert parts.own
    block = parts.blocks[1]
    positions = block.positions()
    # A token changes what comes out at the tokens of its own window, and nowhere else.
    x = torch.randn(1, *block.grid, block.channels)
    mlp = model.layers[0].blocks[1].spatial_mlp
    numbers = positions.on_map(positions.windows)
    with torch.no_grad():
        before = mlp(x)
        for token in [(0, 0), (1, 9), (15, 15), (2, 2)]:
            changed = x.clone()
            changed[0, token[0], token[1]] += 1
            differs = ((mlp(changed) - before)[0].abs().sum(-1) > 1e-5).numpy()
            assert np.array_equal(differs, numbers == numbers[token])


def test_a_cnn_has_stages_only() -> None:
    resnet = swin_core.Classifier.from_timm(timm.create_model("resnet18", num_classes=7).eval())
    parts = anatomy(resnet)
    assert (parts.kind, parts.blocks, parts.patch) == ("ResNet", (), None)
    assert parts.stages == ("layer1", "layer2", "layer3", "layer4")
    found = read_internals(resnet, photo(64))
    assert [one.magnitude.shape for one in found.stages] == [(56, 56), (28, 28), (14, 14), (7, 7)]
    assert found.transitions == ()


def test_bias_maps_equal_timms_relative_position_bias() -> None:
    theirs = timm_swin().float()
    mine = small()
    for number, block in enumerate(anatomy(classifier(theirs)).blocks):
        attention = block.module.attn
        bias = attention._get_rel_pos_bias()[0].detach().numpy()  # (heads, N, N)
        maps = bias_maps(block)
        assert maps is not None
        assert maps.shape == (block.heads, 7, 7)
        for query, key in np.ndindex(16, 16):
            down, right = key // 4 - query // 4, key % 4 - query % 4
            assert np.array_equal(maps[:, 3 + down, 3 + right], bias[:, query, key])
        stage, index = divmod(number, 2)
        own = mine.layers[stage].blocks[index].attn
        own.relative_position_bias_table.data.copy_(attention.relative_position_bias_table)
    for block, other in zip(anatomy(classifier(mine)).blocks, anatomy(classifier(theirs)).blocks, strict=True):
        found, expected = bias_maps(block), bias_maps(other)
        assert found is not None
        assert expected is not None
        assert np.array_equal(found, expected)


def test_the_bias_of_swin_v2_is_what_its_attention_adds() -> None:
    block = anatomy(classifier(timm_swin_v2())).blocks[0]
    attention = block.module.attn
    maps = bias_maps(block)
    assert maps is not None
    table = 16 * torch.sigmoid(attention.cpb_mlp(attention.relative_coords_table).view(-1, block.heads))
    bias = table[attention.relative_position_index.view(-1)].view(16, 16, -1).permute(2, 0, 1).detach().numpy()
    for query, key in [(0, 15), (15, 0), (5, 6), (7, 7)]:
        down, right = key // 4 - query // 4, key % 4 - query % 4
        np.testing.assert_allclose(maps[:, 3 + down, 3 + right], bias[:, query, key], rtol=1e-6)


def test_ours_and_timms_swin_v2_have_the_same_bias_maps() -> None:
    theirs, ours = timm_swin_v2(), small(version=2)
    ours.load_state_dict(convert(theirs.state_dict())[0])
    blocks = zip(anatomy(classifier(ours)).blocks, anatomy(classifier(theirs)).blocks, strict=True)
    for block, other in blocks:
        found, expected = bias_maps(block), bias_maps(other)
        assert found is not None
        assert expected is not None
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_model_without_a_table_has_no_bias_map() -> None:
    for model in (small(relative_position_bias=False), small(mixer="mlp"), vit()):
        assert bias_maps(anatomy(classifier(model)).blocks[0]) is None


def test_values_of_positions_return_to_the_grid() -> None:
    positions: WindowPositions = anatomy(classifier(small(), 30)).blocks[1].positions()
    numbers = torch.from_numpy(positions.tokens)[None, :, :, None]
    cut = window_partition(numbers, positions.window)[..., 0]
    assert cut.shape == (16, 16)
    assert np.array_equal(positions.on_map(positions.tokens), np.arange(15 * 15).reshape(15, 15))
