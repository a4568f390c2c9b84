"""What can be drawn of a model: windows, shift, mask, bias tables, feature maps, and the attention of its tokens."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import Tensor, nn

import swin_core
from swin_core.anatomy.internals import (
    block_attention,
    principal_colours,
    read_internals,
    relevance_of_stages,
    token_rollout,
)
from swin_core.anatomy.structure import PADDING, WindowPositions, anatomy, bias_maps
from swin_core.errors import LayerError
from swin_core.models.windows import shift_mask, window_partition
from swin_core.weights.key_layouts import convert
from tests.attribution.test_rollout import merging
from tests.fixtures.attention import softmaxes, timm_swin, timm_swin_v2, token_numbers, vit, whole
from tests.fixtures.reference import randomise, relative_error, small

pytestmark = pytest.mark.usefixtures("one_thread")

Watch = Callable[[nn.Module], Callable[[], int]]
HALF = (0.5, 0.5, 0.5)


def classifier(model: nn.Module, size: int = 32) -> swin_core.Classifier:
    return swin_core.Classifier(model.float(), [f"class {n}" for n in range(7)], HALF, HALF, size)


def photo(size: int = 32) -> Image.Image:
    return Image.effect_mandelbrot((size, size), (-2, -1, 1, 1), 30).convert("RGB")


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


# -- windows, shift and mask


@pytest.mark.parametrize("size", [32, 30, 18, 6])
@pytest.mark.parametrize("shift", [True, False])
def test_places_equal_a_loop_over_tokens(size: int, shift: bool) -> None:
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
def test_masks_equal_swin_cores_and_a_loop_over_pairs(size: int) -> None:
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


def test_a_masked_pair_has_no_attention_and_every_other_has(no_hooks_left: Watch) -> None:
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
def test_a_swin_mlp_is_cut_by_padding_at_the_top_and_left(window: int) -> None:
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


def test_what_is_no_transformer_of_ours_has_stages_only() -> None:
    resnet = swin_core.Classifier.from_timm(timm.create_model("resnet18", num_classes=7).eval())
    parts = anatomy(resnet)
    assert (parts.kind, parts.blocks, parts.patch) == ("ResNet", (), None)
    assert parts.stages == ("layer1", "layer2", "layer3", "layer4")
    found = read_internals(resnet, photo(64))
    assert [one.magnitude.shape for one in found.stages] == [(56, 56), (28, 28), (14, 14), (7, 7)]
    assert found.transitions == ()


# -- bias tables


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


# -- attention


@pytest.mark.parametrize(("make", "size"), [(small, 32), (small, 28), (timm_swin, 28), (timm_swin_v2, 32), (vit, 32)])
def test_the_attention_of_a_token_sums_to_one(make: Callable[..., nn.Module], size: int) -> None:
    subject = classifier(make() if make is small else make(img_size=size), size)
    view = subject.view(photo())
    for block in anatomy(subject).blocks:
        found = block_attention(subject, view, block.name)
        for token in [(0, 0), (block.grid[0] - 1, block.grid[1] // 2)]:
            maps = found.of(token)
            within = found.within_window(token).sum((1, 2))
            if block.windowed:
                np.testing.assert_allclose(within, 1, atol=1e-5)
            padded = block.windows.padded != block.windows.grid
            if block.windowed and not padded:
                np.testing.assert_allclose(maps.sum((1, 2)), 1, atol=1e-5)
            assert (maps.sum((1, 2)) < 1 + 1e-5).all()


def explicit(model: nn.Module, x: Tensor, block: int, token: int, head: int | None) -> Tensor:
    """The product of N x N matrices from one token of a block back to the patches, for a Swin with window 4."""
    seen = softmaxes(model, x)
    fine = (x.shape[2] // 2, x.shape[3] // 2)
    coarse = (-(-fine[0] // 2), -(-fine[1] // 2))
    row = torch.zeros(1, (fine[0] * fine[1]) if block < 2 else coarse[0] * coarse[1], dtype=x.dtype)
    row[0, token] = 1
    for number in range(block, -1, -1):
        grid = fine if number < 2 else coarse
        own = seen[number][0]
        matrices = own[:, head] if number == block and head is not None else own.mean(1)
        matrix = whole(matrices, token_numbers(grid, 4, 2 * (number % 2), rolls_first=False), grid[0] * grid[1])
        row = row / 2 + row @ (matrix / matrix.sum(-1, keepdim=True)) / 2
        if number == 2:
            row = row @ merging(fine).to(x.dtype)
    return row.view(fine)


@pytest.mark.parametrize("size", [32, 28])
@pytest.mark.parametrize("head", [None, 1])
def test_rolling_out_a_token_equals_the_explicit_product(size: int, head: int | None) -> None:
    subject = classifier(small(), size)
    found = read_internals(subject, photo())
    x = subject.tensor(found.view)
    for number, block in enumerate(anatomy(subject).blocks):
        token = (block.grid[0] - 1, 2)
        attention = block_attention(subject, found.view, block.name)
        rolled = token_rollout(found.transitions[:number], attention, token, head)
        assert rolled.shape == (size // 2, size // 2)
        assert float(rolled.sum()) == pytest.approx(1, abs=1e-5)
        expected = explicit(subject.model, x, number, token[0] * block.grid[1] + token[1], head)
        assert relative_error(torch.from_numpy(rolled), expected) < 1e-5


def test_a_vits_token_draws_on_the_product_of_its_matrices() -> None:
    model = vit(reg_tokens=4)
    subject = classifier(model)
    found = read_internals(subject, photo())
    seen = softmaxes(model, subject.tensor(found.view))
    row = torch.zeros(1, 5 + 16)
    row[0, 5 + 6] = 1
    for number in (2, 1, 0):
        matrix = seen[number][0][0, 1] if number == 2 else seen[number][0][0].mean(0)
        row = row / 2 + row @ matrix / 2
    attention = block_attention(subject, found.view, "blocks.2")
    rolled = token_rollout(found.transitions[:2], attention, (1, 2), 1)
    assert relative_error(torch.from_numpy(rolled), row[0, 5:].view(4, 4)) < 1e-5


def test_faults_are_named() -> None:
    subject = classifier(small())
    view = subject.view(photo())
    with pytest.raises(LayerError, match="no block 'norm' with attention"):
        block_attention(subject, view, "norm")
    attention = block_attention(subject, view, "layers.1.blocks.0")
    for call in (attention.of, attention.within_window, lambda token: token_rollout([], attention, token)):
        with pytest.raises(LayerError, match=r"token \(8, 0\) is outside the 8 x 8 tokens"):
            call((8, 0))


# -- feature maps and relevance


def test_stage_maps_are_the_mean_size_of_the_stages_outputs() -> None:
    model = small()
    subject = classifier(model)
    found = read_internals(subject, photo())
    maps = model.pyramid(subject.tensor(found.view))
    np.testing.assert_allclose(found.logits, model(subject.tensor(found.view))[0].detach().numpy(), rtol=1e-4)
    for one, values in zip(found.stages, maps.values(), strict=True):
        expected = values[0].detach()
        assert one.channels == len(expected)
        np.testing.assert_allclose(one.magnitude, expected.abs().mean(0).numpy(), rtol=1e-4)
        assert one.colours.shape == (*expected.shape[1:], 3)


@pytest.mark.parametrize("grid", [(9, 7), (3, 2)])
def test_principal_colours_are_those_of_the_covariances_eigenvectors(grid: tuple[int, int]) -> None:
    values = np.random.default_rng(0).normal(size=(12, *grid)) * np.arange(1, 13)[:, None, None]
    colours, explained = principal_colours(values)
    cells = values.reshape(12, -1)
    eigenvalues, vectors = np.linalg.eigh(np.cov(cells))
    assert explained == pytest.approx(eigenvalues[-3:].sum() / eigenvalues.sum())
    for place in range(3):
        vector = vectors[:, -1 - place]
        vector = vector * np.sign(vector[np.abs(vector).argmax()])
        score = vector @ cells
        expected = 255 * (score - score.min()) / (score.max() - score.min())
        np.testing.assert_allclose(colours[..., place].ravel(), expected, atol=0.51)


def test_a_constant_map_is_grey() -> None:
    colours, explained = principal_colours(np.ones((5, 4, 4)))
    assert explained == 0
    assert set(colours.ravel().tolist()) == {128}


def test_the_sums_of_relevance_stand_beside_the_logit() -> None:
    model = small()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".bias"):
                parameter.zero_()
    subject = classifier(model)
    view = subject.view(photo())
    found = relevance_of_stages(subject, view, 3)
    assert found.label == "class 3"
    assert found.logit == pytest.approx(float(model(subject.tensor(view))[0, 3].detach()), rel=1e-4)
    assert len(found.maps) == len(found.sums) == 3
    for values, total in zip(found.maps, found.sums, strict=True):
        assert float(values.sum()) == pytest.approx(total, rel=1e-3, abs=1e-4)
        assert total == pytest.approx(found.logit, rel=1e-3)


# -- several at once


def test_four_threads_see_what_one_sees_and_leave_no_hook(no_hooks_left: Watch) -> None:
    model = small()
    randomise(model, 3)
    added = no_hooks_left(model)
    subject = classifier(model)
    pictures = [photo(), Image.radial_gradient("L").convert("RGB"), Image.linear_gradient("L").convert("RGB")]
    pictures.append(pictures[0].transpose(Image.Transpose.ROTATE_90))
    names = [block.name for block in anatomy(subject).blocks]

    def work(place: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        found = read_internals(subject, pictures[place])
        attention = block_attention(subject, found.view, names[place])
        rolled = token_rollout(found.transitions[:place], attention, (1, 2))
        return found.stages[1].magnitude, attention.of((1, 2)), rolled

    alone = [work(place) for place in range(4)]
    start = threading.Barrier(4)

    def together(place: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        start.wait()
        return [work(place) for _ in range(3)]

    with ThreadPoolExecutor(4) as pool:
        for place, results in enumerate(pool.map(together, range(4))):
            for result in results:
                for found, expected in zip(result, alone[place], strict=True):
                    assert np.array_equal(found, expected)
    assert added() == 0


def test_hooks_are_removed_when_the_model_fails(no_hooks_left: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small()
    subject = classifier(model)
    anatomy(subject)
    no_hooks_left(model)
    monkeypatch.setattr(model.head, "forward", lambda x: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        read_internals(subject, photo())
    with pytest.raises(ZeroDivisionError):
        block_attention(subject, subject.view(photo()), "layers.0.blocks.0")


def test_places_put_values_back_on_the_map() -> None:
    positions: WindowPositions = anatomy(classifier(small(), 30)).blocks[1].positions()
    numbers = torch.from_numpy(positions.tokens)[None, :, :, None]
    cut = window_partition(numbers, positions.window)[..., 0]
    assert cut.shape == (16, 16)
    assert np.array_equal(positions.on_map(positions.tokens), np.arange(15 * 15).reshape(15, 15))
