"""torch.compile: the whole model in one graph, few compilations, and the results of the model itself."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn.parallel import DistributedDataParallel

from swin_core.models.config import SwinConfig
from swin_core.models.swin import Swin

SHAPE: dict[str, Any] = {
    "embed_dim": 8,
    "depths": (2, 2),
    "num_heads": (2, 4),
    "window_size": 4,
    "image_size": 40,
    "num_classes": 3,
}
FORMS: dict[str, dict[str, Any]] = {
    "v1": {},
    "v2": {"version": 2},
    "absolute": {"absolute_embedding": True},
    "mlp": {"mixer": "mlp", "relative_position_bias": False},
}


@pytest.fixture(autouse=True)
def fresh_compiler() -> Any:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def model_of(form: str, depths: tuple[int, ...] = (2,)) -> Swin:
    torch.manual_seed(0)
    model = Swin(SwinConfig(**SHAPE | FORMS[form] | {"depths": depths, "num_heads": (2, 4)[: len(depths)]}))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def compiled(model: Swin, **options: Any) -> tuple[Any, CompileCounterWithBackend]:
    counter = CompileCounterWithBackend("eager")
    return torch.compile(model, backend=counter, fullgraph=True, **options), counter


@pytest.mark.parametrize(
    ("form", "mode"),
    [("v1", torch.inference_mode), ("v2", torch.no_grad), ("absolute", torch.no_grad), ("mlp", torch.inference_mode)],
)
def test_batches_take_two_compilations(form: str, mode: type[AbstractContextManager[None]]) -> None:
    model = model_of(form, (2, 1) if form == "v1" else (2,))
    fast, counter = compiled(model)
    with mode():
        model(torch.randn(2, 3, 40, 40))  # what an eager pass keeps must not break the graph
        for batch in (2, 3, 7, 2, 5):
            x = torch.randn(batch, 3, 40, 40)
            torch.testing.assert_close(fast(x), model(x))
    assert counter.frame_count <= 2


def test_sizes_take_two_compilations() -> None:
    model = model_of("absolute")
    fast, counter = compiled(model, dynamic=True)
    with torch.no_grad():
        for batch, *size in ((2, 40, 40), (3, 50, 37), (2, 64, 24), (5, 31, 70), (2, 40, 40)):
            x = torch.randn(batch, 3, *size)
            torch.testing.assert_close(fast(x), model(x))
    assert counter.frame_count <= 2


@pytest.mark.parametrize("size", [(12, 40), (7, 9)])
def test_maps_smaller_than_the_window(size: tuple[int, int]) -> None:
    model = model_of("v1")
    x = torch.randn(2, 3, *size)
    with torch.no_grad():
        torch.testing.assert_close(compiled(model)[0](x), model(x))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients(checkpointing: bool) -> None:
    model = model_of("v1").train()
    model.set_checkpointing(checkpointing)
    fast, counter = compiled(model)
    for batch in (2, 3, 4):
        x = torch.randn(batch, 3, 38, 40)
        torch.testing.assert_close(gradients(model, fast, x), gradients(model, model, x), rtol=1e-4, atol=1e-5)
    assert counter.frame_count <= 2


def test_gradients_under_data_parallel() -> None:
    model = model_of("v1").train()
    fast, counter = compiled(model)
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        parallel = DistributedDataParallel(fast, gradient_as_bucket_view=True)
        for batch in (2, 3):
            x = torch.randn(batch, 3, 40, 40)
            torch.testing.assert_close(gradients(model, parallel, x), gradients(model, model, x), rtol=1e-4, atol=1e-5)
    finally:
        torch.distributed.destroy_process_group()
    assert counter.frame_count <= 2


def gradients(model: Swin, call: Callable[[Tensor], Tensor], x: Tensor) -> list[Tensor]:
    """Return the gradients of a model that runs compiled or wrapped."""
    model.zero_grad()
    call(x).square().sum().backward()
    return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


def test_after_compiled_training_the_model_looks_at_the_new_position_bias() -> None:
    """A fused optimizer changes parameters without counting their version."""
    model = model_of("v1")
    x = torch.randn(2, 3, 40, 40)
    with torch.no_grad():
        model(x)
    compiled(model)[0](x).square().sum().backward()
    torch.optim.AdamW(model.parameters(), lr=0.1, fused=True).step()
    again = model_of("v1")
    again.load_state_dict(model.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(model(x), again(x))


def test_inductor_with_frozen_weights() -> None:
    import torch._inductor.config as inductor

    model = model_of("v1")
    x = torch.randn(2, 3, 40, 40)
    # Each set of vector instructions would be tried by a compilation of its own, but the processor says what it has.
    with torch.no_grad(), inductor.patch({"freezing": True, "cpp.vec_isa_ok": True}):
        torch.testing.assert_close(torch.compile(model, fullgraph=True)(x), model(x), rtol=1e-4, atol=1e-5)
