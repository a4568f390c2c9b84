"""Linear layers on oneDNN against PyTorch's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_core.models.linear import Linear, linear_gelu
from swin_core.models.swin import Mlp


@pytest.mark.parametrize(("tokens", "bias"), [((5,), True), ((2, 7), False), ((2, 3, 4), True), ((0,), True)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_linear_equals_torch(tokens: tuple[int, ...], bias: bool, dtype: torch.dtype) -> None:
    ours, theirs = Linear(9, 6, bias=bias).to(dtype), nn.Linear(9, 6, bias=bias).to(dtype)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(*tokens, 9, dtype=dtype)
    results = []
    for layer in (ours, theirs):
        inputs = x.clone().requires_grad_()
        y = layer(inputs)
        (y.sin() * torch.arange(6)).sum().backward()
        results.append([y.detach(), inputs.grad, *(parameter.grad for parameter in layer.parameters())])
    for mine, other in zip(*results, strict=True):
        torch.testing.assert_close(mine, other)


def test_linear_takes_tokens_in_any_memory_order() -> None:
    layer = Linear(8, 8)
    x = torch.randn(8, 3, 5, 4).transpose(0, -1)  # (4, 3, 5, 8), not contiguous
    torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias))


@pytest.mark.parametrize("tokens", [(0,), (1,), (2, 7), (1100,), (3, 700), (1601,)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_with_gelu_equals_torch(tokens: tuple[int, ...], bias: bool) -> None:
    layer = nn.Linear(9, 12, bias=bias)
    x = 3 * torch.randn(*tokens, 9)
    expected = F.gelu(F.linear(x.double(), layer.weight.double(), layer.bias.double() if bias else None)).float()
    with torch.inference_mode():
        torch.testing.assert_close(linear_gelu(x, layer.weight, layer.bias), expected, rtol=1e-5, atol=1e-6)
    inputs = x.clone().requires_grad_()
    linear_gelu(inputs, layer.weight, layer.bias).sum().backward()
    assert inputs.grad is not None
    again = x.clone().requires_grad_()
    F.gelu(layer(again)).sum().backward()
    torch.testing.assert_close(inputs.grad, again.grad)


def test_layers_of_an_mlp_with_hooks_or_replaced_are_called() -> None:
    mlp, x = Mlp(4, 8), torch.randn(2, 3, 4)
    seen: list[Tensor] = []
    with torch.inference_mode():
        expected = mlp(x)
        for part in (mlp.fc1, mlp.act):
            with part.register_forward_hook(lambda module, inputs, output: seen.append(output)):
                torch.testing.assert_close(mlp(x), expected)
            with part.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0])):
                mlp(x)
        torch.testing.assert_close(seen[2], F.gelu(seen[0]))
        assert len(seen) == 4
        mlp.act = nn.Identity()
        torch.testing.assert_close(mlp(x), mlp.fc2(mlp.fc1(x)))
