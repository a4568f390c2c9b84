"""Swin-MLP: its mixing of windows against a loop and the authors' grouped convolution."""

from __future__ import annotations

import pytest
import torch

from swin_core.models.swin_mlp import WindowMLP
from tests.fixtures.reference import (
    authors_window_mlp,
    naive_window_mlp,
    randomise,
    relative_error,
    small,
)


@pytest.mark.parametrize("grid", [(8, 8), (9, 13), (4, 11), (3, 10), (1, 1)])
@pytest.mark.parametrize("shift", [0, 2, 1])
def test_window_mlp_equals_a_loop(grid: tuple[int, int], shift: int) -> None:
    module = WindowMLP(3, 4, shift).double()
    randomise(module)
    x = torch.randn(*grid, 6, dtype=torch.float64)
    assert relative_error(module(x[None])[0].detach(), torch.from_numpy(naive_window_mlp(module, x.numpy()))) < 1e-12


@pytest.mark.parametrize("shift", [0, 3])
def test_window_mlp_equals_the_authors_grouped_convolution(shift: int) -> None:
    module = WindowMLP(3, 7, shift).double()
    randomise(module)
    x = torch.randn(2, 14, 21, 12, dtype=torch.float64)
    with torch.no_grad():
        assert relative_error(module(x), authors_window_mlp(module, x)) < 1e-12


def test_swin_mlp_gives_logits_and_gradients() -> None:
    model = small(mixer="mlp")
    logits = model(torch.randn(2, 3, 30, 38))
    assert logits.shape == (2, 7)
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
