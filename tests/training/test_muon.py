"""Muon equals PyTorch's with bfloat16, and approximates it more exactly in float32."""

import copy

import pytest
import torch
from torch import Tensor

from swin_core.training import muon
from swin_core.training.muon import Muon, orthogonalized

SHAPES = [(6, 6), (12, 5), (4, 20)]


def matrices() -> list[Tensor]:
    made = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=made)) for shape in SHAPES]


def walk(optimizer: torch.optim.Optimizer, values: list[Tensor]) -> None:
    made = torch.Generator().manual_seed(1)
    for _ in range(4):
        for value in values:
            value.grad = torch.randn(value.shape, generator=made)
        optimizer.step()


def test_in_bfloat16_it_equals_pytorchs_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(muon, "has_bfloat16", lambda _device: True)
    ours, theirs = matrices(), matrices()
    groups = [{"params": ours[:1], "lr": 0.02, "weight_decay": 0.3}, {"params": ours[1:], "lr": 0.01}]
    walk(Muon(groups), ours)
    groups = [{**group, "params": theirs[:1] if number == 0 else theirs[1:]} for number, group in enumerate(groups)]
    walk(torch.optim.Muon(groups, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"), theirs)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_without_bfloat16_it_takes_the_same_way_more_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = {}
    for able in (True, False):
        monkeypatch.setattr(muon, "has_bfloat16", lambda _device, able=able: able)
        values = matrices()
        walk(Muon([{"params": values, "lr": 0.02, "weight_decay": 0.1}]), values)
        ends[able] = values
    for narrow, wide, start in zip(ends[True], ends[False], matrices(), strict=True):
        assert not torch.equal(narrow, wide)
        assert (narrow - wide).norm() < 0.02 * (wide - start).norm()


@pytest.mark.parametrize("shape", SHAPES)
def test_the_steps_are_those_of_the_singular_values(shape: tuple[int, int]) -> None:
    """The iteration acts on each singular value alone: here by the polynomial on their diagonal, in float64."""
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    values = values / matrix.norm()
    a, b, c = 3.4445, -4.7750, 2.0315
    for _ in range(5):
        values = a * values + b * values**3 + c * values**5
    expected = left @ values.diag() @ right
    torch.testing.assert_close(orthogonalized(matrix, torch.float64), expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(orthogonalized(matrix, torch.float32).double(), expected, rtol=1e-4, atol=1e-4)


def test_a_matrix_keeps_its_values_while_it_is_made_orthogonal() -> None:
    matrix = torch.randn(3, 7)
    before = matrix.clone()
    orthogonalized(matrix, torch.float32)
    assert torch.equal(matrix, before)


def test_a_checkpoint_of_pytorchs_muon_is_taken_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(muon, "has_bfloat16", lambda _device: True)
    ours, theirs = matrices(), matrices()
    first = torch.optim.Muon(theirs, lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    walk(first, theirs)
    second = Muon(ours)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for one, other in zip(ours, theirs, strict=True):
        one.data.copy_(other)
    walk(first, theirs)
    walk(second, ours)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_a_matrix_without_a_gradient_stays() -> None:
    values = matrices()
    before = values[0].clone()
    values[1].grad = torch.ones(SHAPES[1])
    Muon([{"params": values, "lr": 0.1, "weight_decay": 0.5}]).step()
    assert torch.equal(values[0], before)
