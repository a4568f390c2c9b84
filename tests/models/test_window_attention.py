"""Window attention and Swin-MLP's mixer against slow loops, and the fused kernel against plain products."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from swin_core.models.swin import PatchMerging, Swin
from swin_core.models.window_attention import WindowAttention
from tests.fixtures.reference import (
    naive_attention,
    randomise,
    relative_error,
    small,
)

GRIDS = [(8, 8), (9, 13), (4, 4), (4, 11), (3, 10), (5, 2), (1, 1), (1, 6)]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("shift", [0, 2])
@pytest.mark.parametrize("position_bias", [True, False])
def test_window_attention_equals_a_loop(
    grid: tuple[int, int], shift: int, position_bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = WindowAttention(6, 2, 4, shift, qkv_bias=True, position_bias=position_bias).double()
    randomise(module)
    x = torch.randn(2, *grid, 6, dtype=torch.float64)
    expected = torch.stack([torch.from_numpy(naive_attention(module, image.numpy())) for image in x])
    for most in (2**21, 0):  # by plain products, then by the fused kernel
        monkeypatch.setattr("swin_core.models.window_attention._FEW_SCORES", most)
        with torch.inference_mode():
            assert relative_error(module(x), expected) < 1e-12
    assert relative_error(module(x).detach(), expected) < 1e-12  # the path that training takes


def test_window_attention_without_qkv_bias_equals_a_loop() -> None:
    module = WindowAttention(6, 2, 3, 1, qkv_bias=False, position_bias=True).double()
    randomise(module)
    x = torch.randn(1, 7, 5, 6, dtype=torch.float64)
    assert relative_error(module(x)[0].detach(), torch.from_numpy(naive_attention(module, x[0].numpy()))) < 1e-12


def test_images_of_a_batch_do_not_mix() -> None:
    model = small()
    x = torch.randn(5, 3, 30, 38)
    with torch.inference_mode():
        alone = torch.cat([model(image[None]) for image in x])
        assert relative_error(model(x), alone) < 1e-5
        assert relative_error(model(x[:3]), alone[:3]) < 1e-5


def test_patch_merging_joins_neighbours_in_the_published_order() -> None:
    merging = PatchMerging(3)
    randomise(merging)
    x = torch.randn(2, 5, 6, 3)
    padded = F.pad(x, (0, 0, 0, 0, 0, 1))
    joined = [padded[:, row::2, column::2] for row, column in ((0, 0), (1, 0), (0, 1), (1, 1))]
    expected = merging.reduction(merging.norm(torch.cat(joined, -1)))
    assert relative_error(merging(x), expected) < 1e-6


# The fused kernel against plain products


def explicit(model: Swin, x: Tensor) -> Tensor:
    """Logits by plain products with gradients, where no term is cached."""
    with torch.enable_grad():
        return model(x).detach()


@pytest.mark.parametrize("size", [(32, 32), (30, 38), (6, 50)])
def test_fused_and_explicit_attention_agree_with_their_gradients(size: tuple[int, int]) -> None:
    training = small().double()
    fused = copy.deepcopy(training)
    for name, parameter in fused.named_parameters():
        parameter.requires_grad_("bias_table" not in name)
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    logits = [model(x) for model in (training, fused)]
    assert relative_error(logits[0], logits[1]) < 1e-12
    for value in logits:
        value.square().sum().backward()
    theirs = dict(fused.named_parameters())
    for name, parameter in training.named_parameters():
        assert parameter.grad is not None
        if theirs[name].grad is not None:
            assert relative_error(parameter.grad, theirs[name].grad) < 1e-9, name


def test_bias_table_gradient_equals_finite_differences() -> None:
    module = WindowAttention(4, 2, 2, 1, qkv_bias=True, position_bias=True).double()
    randomise(module)
    x = torch.randn(1, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    table = module.relative_position_bias_table

    def forward(image: Tensor, values: Tensor) -> Tensor:
        return torch.func.functional_call(module, {"relative_position_bias_table": values}, (image,))

    assert torch.autograd.gradcheck(forward, (x, table), eps=1e-6, atol=1e-6)


def in_place(model: Swin) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "bias_table" in name:
                parameter.mul_(-1)


def by_loading(model: Swin) -> None:
    model.load_state_dict(small(window_size=4).state_dict() | {"head.bias": torch.ones(7)})
    state = {key: value.flip(0) for key, value in model.state_dict().items() if "bias_table" in key}
    model.load_state_dict(state, strict=False)


def by_optimiser(model: Swin) -> None:
    optimiser = torch.optim.SGD(model.parameters(), lr=1.0)
    model(torch.randn(2, 3, 32, 32)).square().sum().backward()
    optimiser.step()


def by_fused_optimiser(model: Swin) -> None:
    """A fused optimizer does not count the versions of the tensors that it changes."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.5, fused=True)
    model(torch.randn(2, 3, 32, 32)).square().sum().backward()
    optimiser.step()


@pytest.mark.parametrize("change", [in_place, by_loading, by_optimiser, by_fused_optimiser])
def test_cached_term_follows_the_table(change: Any) -> None:
    model = small()
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        before = model(x)
        assert relative_error(before, explicit(copy.deepcopy(model), x)) < 1e-5
    change(model)
    with torch.inference_mode():
        after = model(x)
    assert relative_error(after, before) > 1e-3
    assert relative_error(after, explicit(model, x)) < 1e-5


def test_cached_term_follows_type_size_and_batch() -> None:
    model = small()
    cases = [(1, 32), (3, 32), (3, 44), (1, 44), (1, 32)]
    with torch.inference_mode():
        for dtype, limit in ((torch.float32, 1e-5), (torch.float64, 1e-12), (torch.bfloat16, 0.1)):
            model.to(dtype)
            for batch, size in cases:
                x = torch.randn(batch, 3, size, size, dtype=dtype)
                logits = model(x)
                assert logits.dtype == dtype
                assert relative_error(logits.double(), explicit(model, x).double()) < limit


def test_gradients_flow_after_a_call_in_inference_mode() -> None:
    model = small()
    model.requires_grad_(False)
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        model(x)
    x.requires_grad_()
    model(x).square().sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


def test_a_model_built_in_inference_mode_works() -> None:
    with torch.inference_mode():
        model = small()
        assert torch.isfinite(model(torch.randn(1, 3, 32, 32))).all()


def test_autocast_runs_with_and_without_gradients() -> None:
    model = small()
    x = torch.randn(2, 3, 32, 32)
    exact = explicit(model, x)
    with torch.autocast("cpu", torch.bfloat16):
        assert relative_error(model(x).detach().float(), exact) < 0.1
        with torch.inference_mode():
            assert relative_error(model(x).float(), exact) < 0.1
