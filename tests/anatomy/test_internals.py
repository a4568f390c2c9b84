"""What can be drawn of a model: windows, shift, mask, bias tables, feature maps, and the attention of its tokens."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from swin_core.anatomy.internals import (
    block_attention,
    principal_colours,
    read_internals,
    relevance_of_stages,
    token_rollout,
)
from swin_core.anatomy.structure import anatomy
from swin_core.errors import LayerError
from tests.attribution.test_rollout import merging
from tests.fixtures.anatomy import classifier, photo
from tests.fixtures.attention import softmaxes, timm_swin, timm_swin_v2, token_numbers, vit, whole
from tests.fixtures.reference import randomise, relative_error, small

pytestmark = pytest.mark.usefixtures("one_thread")

Watch = Callable[[nn.Module], Callable[[], int]]


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


def test_rollout_of_a_vits_token_is_a_product_of_matrices() -> None:
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


def test_relevance_sums_to_the_logit_minus_biases() -> None:
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


def test_four_threads_get_the_results_of_one_and_leave_no_hook(no_hooks_left: Watch) -> None:
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
