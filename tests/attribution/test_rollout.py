"""Attention rollout against the explicit product of N x N matrices.

The matrices come from the model's own softmax; see `fixtures_attention`.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import swin_core
from swin_core.attribution import rollout as module
from swin_core.attribution.rollout import gradient_rollout, plain_rollout
from swin_core.attribution.targets import batch_targets
from swin_core.errors import LayerError, TargetError
from tests.fixtures.attention import softmaxes, timm_swin, timm_swin_v2, token_numbers, vit, whole
from tests.fixtures.reference import relative_error, small

pytestmark = pytest.mark.usefixtures("one_thread")

Watch = Callable[[nn.Module], Callable[[], int]]
TARGETS = torch.tensor([1, 3])


def merging(fine: tuple[int, int]) -> Tensor:
    """`(coarse tokens, fine tokens)`: how a merged token's share falls to those that it was merged from."""
    coarse = (-(-fine[0] // 2), -(-fine[1] // 2))
    out = torch.zeros(coarse[0] * coarse[1], fine[0] * fine[1], dtype=torch.float64)
    for row in range(fine[0]):
        for column in range(fine[1]):
            out[row // 2 * coarse[1] + column // 2, row * fine[1] + column] = 1
    return out / out.sum(1, keepdim=True)


def rollout(model: nn.Module, x: Tensor, targets: Tensor | None = None, against: Tensor | None = None) -> Tensor:
    """The map of each image of a batch, weighted by the gradient of a class if one is given."""
    if targets is None:
        return plain_rollout(model, x, lambda logits: []).maps[0][0]
    return gradient_rollout(model, x, batch_targets(targets, against)).maps[0][0]


def explicit_rollout(model: nn.Module, x: Tensor, targets: Tensor | None, rolls_first: bool = False) -> Tensor:
    """Rollout of a Swin with window 4 and patch 2 as a product of N x N matrices, `(B, h, w)`."""
    seen = iter(softmaxes(model, x, targets))
    fine = (-(-x.shape[2] // 2), -(-x.shape[3] // 2))
    grid = fine
    product = torch.eye(grid[0] * grid[1], dtype=torch.float64).expand(len(x), -1, -1)  # from the newest to the first
    still = product
    for number, stage in enumerate(model.layers):
        if number:
            merged = merging(grid)
            product, still = merged @ product, merged @ still
            grid = (-(-grid[0] // 2), -(-grid[1] // 2))
        for index in range(len(stage.blocks)):
            windows = token_numbers(grid, 4, 2 * (index % 2), rolls_first)
            attention, gradient = (None if one is None else one.unflatten(0, (len(x), -1)) for one in next(seen))
            assert attention is not None
            weights = attention if gradient is None else attention * gradient
            tokens = grid[0] * grid[1]
            matrix = torch.stack([whole(one, windows, tokens) for one in weights.mean(2)])
            identity = torch.eye(tokens, dtype=torch.float64)
            if gradient is None:
                step = identity / 2 + matrix / matrix.sum(-1, keepdim=True) / 2
            else:
                step = (identity + matrix.relu()) / (1 + matrix.relu().sum(-1, keepdim=True))
            product = step @ product
    assert torch.allclose(product.sum(-1), torch.ones(1, dtype=torch.float64))
    if targets is not None:
        product = (product - still).mean(1).relu()
    return (product if targets is not None else product.mean(1)).view(len(x), *fine)


# Without padding; padded and shifted; an odd side to merge; a side no longer than the window; a single token.
SIZES = [(32, 32), (30, 38), (22, 18), (6, 50), (2, 2)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("targets", [None, TARGETS])
def test_rollout_equals_the_explicit_product(size: tuple[int, int], targets: Tensor | None) -> None:
    model = small().double()
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    expected = explicit_rollout(model, x, targets)
    found = rollout(model, x, targets)
    assert found.shape == (2, -(-size[0] // 2), -(-size[1] // 2))
    if size == (2, 2) and targets is not None:
        assert float(found.abs().max()) == 0  # one token has nothing to gain
    else:
        assert relative_error(found, expected) < 1e-9


def test_rollout_follows_the_config() -> None:
    x = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    model = small().double()
    unbiased = small(relative_position_bias=False).double()
    unbiased.load_state_dict(model.state_dict(), strict=False)
    unshifted = small(shift=False).double()
    unshifted.load_state_dict(model.state_dict())
    for part in (model, unshifted):
        assert relative_error(rollout(part, x), rollout(unbiased, x)) > 1e-3
    assert relative_error(rollout(unshifted, x), rollout(model, x)) > 1e-3
    with torch.no_grad():
        for name, table in model.named_parameters():
            if "bias_table" in name:
                table.zero_()
    assert relative_error(rollout(unbiased, x), rollout(model, x)) < 1e-12


@pytest.mark.parametrize("size", [(32, 32), (28, 36), (22, 18)])
@pytest.mark.parametrize("targets", [None, TARGETS])
@pytest.mark.parametrize("make", [timm_swin, timm_swin_v2])
def test_rollout_of_timms_swin_equals_the_explicit_product(
    make: Callable[..., nn.Module], size: tuple[int, int], targets: Tensor | None
) -> None:
    model = make(img_size=size)
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    assert relative_error(rollout(model, x, targets), explicit_rollout(model, x, targets, rolls_first=True)) < 1e-9


def test_timms_swin_takes_other_sizes_than_its_own() -> None:
    model = timm_swin(strict_img_size=False)
    x = torch.randn(1, 3, 36, 28, dtype=torch.float64)
    assert relative_error(rollout(model, x), explicit_rollout(model, x, None, rolls_first=True)) < 1e-9


@pytest.mark.parametrize("version", [1, 2])
def test_ours_and_timms_agree_with_the_same_weights(version: int) -> None:
    theirs = timm_swin_v2() if version == 2 else timm_swin()
    ours = small(version=version).double()
    ours.load_state_dict(swin_core.weights.key_layouts.convert(theirs.state_dict())[0])
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    for targets in (None, TARGETS):
        assert relative_error(rollout(ours, x, targets), rollout(theirs, x, targets)) < 1e-5  # they mask by -100


@pytest.mark.parametrize(
    ("changes", "start"),
    [
        ({}, [0]),
        ({"reg_tokens": 4}, [0]),
        ({"qk_norm": True, "init_values": 0.5}, [0]),
        ({"scale_attn_norm": True}, [0]),
        ({"global_pool": "avg"}, list(range(1, 17))),
        ({"global_pool": "avg", "class_token": False}, list(range(16))),
        ({"global_pool": "avg", "pool_include_prefix": True}, list(range(17))),
    ],
)
def test_rollout_of_a_vit_is_the_classical_product(changes: dict[str, Any], start: list[int]) -> None:
    model = vit(**changes)
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    prefix = model.num_prefix_tokens
    for targets in (None, TARGETS):
        seen = softmaxes(model, x, targets)
        identity = torch.eye(seen[0][0].shape[-1], dtype=torch.float64)
        product = identity.expand(2, -1, -1)
        for attention, gradient in seen:
            if gradient is None:
                step = (attention.mean(1) + identity) / 2
            else:
                step = identity + (attention * gradient).mean(1).clamp(min=0)
                step = step / step.sum(-1, keepdim=True)
            product = step @ product
        if targets is not None:
            product = product - identity
        expected = product[:, start].mean(1)[:, prefix:].view(2, 4, 4)
        expected = expected if targets is None else expected.relu()
        assert relative_error(rollout(model, x, targets), expected) < 1e-9


def test_a_distilled_vit_starts_from_both_of_its_tokens() -> None:
    model = timm.create_model("deit_tiny_distilled_patch16_224", img_size=32).double().eval()
    x = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    product = torch.eye(6, dtype=torch.float64)
    for attention, _ in softmaxes(model, x):
        product = (attention[0].mean(0) + torch.eye(6)) / 2 @ product
    assert relative_error(rollout(model, x)[0], product[:2].mean(0)[2:].view(2, 2)) < 1e-9


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("targets", [None, TARGETS])
def test_mass_is_one_at_every_step(
    size: tuple[int, int], targets: Tensor | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[module.Shares] = []
    walk = module.walk_back

    def watched(*arguments: Any) -> Any:
        for shares in walk(*arguments):
            steps.append(shares)
            yield shares

    monkeypatch.setattr(module, "walk_back", watched)
    rollout(small(), torch.randn(2, 3, *size), targets)
    assert len(steps) == 1 + 4 + (size != (2, 2))  # the start, four blocks, and the merging where there is one
    for shares in steps:
        held = shares.residual + shares.delta
        assert torch.allclose(held.sum((1, 2, 3)), torch.ones(2), atol=1e-5)
        assert torch.allclose(shares.residual.sum((1, 2, 3)), torch.ones(2), atol=1e-5)
        assert float(held.min()) >= 0


@pytest.mark.parametrize("make", [small, partial(small, version=2), timm_swin, timm_swin_v2, vit])
def test_attention_step_by_step_gives_the_models_logits(make: Callable[[], nn.Module]) -> None:
    model = make().double().requires_grad_(False)
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    for found in (plain_rollout(model, x, batch_targets(TARGETS)), gradient_rollout(model, x, batch_targets(TARGETS))):
        assert relative_error(found.logits, model(x)) < 1e-12


def test_contrast_and_questions_come_from_one_forward_pass() -> None:
    model = small()
    runs: list[int] = []
    model.register_forward_hook(lambda *_: runs.append(1))
    x = torch.randn(2, 3, 32, 32)
    found = gradient_rollout(
        model, x, lambda logits: [*batch_targets(TARGETS)(logits), *batch_targets(TARGETS, TARGETS + 1)(logits)]
    )
    assert len(runs) == 1
    assert relative_error(found.maps[0][0], rollout(model, x, TARGETS)) < 1e-6
    assert relative_error(found.maps[1][0], rollout(model, x, TARGETS, TARGETS + 1)) < 1e-6
    assert relative_error(found.maps[1][0], found.maps[0][0]) > 1e-2


def test_a_batch_gives_what_each_image_gives_alone() -> None:
    model = small()
    x = torch.randn(2, 3, 30, 38)
    for targets in (None, TARGETS):
        alone = [rollout(model, x[i : i + 1], None if targets is None else targets[i : i + 1]) for i in range(2)]
        assert relative_error(rollout(model, x, targets), torch.cat(alone)) < 1e-4


class Largest(TorchDispatchMode):
    """The number of elements in the largest tensor that any operation gives."""

    elements = 0

    def __torch_dispatch__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = call(*args, **(kwargs or {}))
        for one in result if isinstance(result, tuple | list) else [result]:
            if isinstance(one, Tensor) and one.is_contiguous():
                self.elements = max(self.elements, one.numel())
        return result


@pytest.mark.parametrize("targets", [None, TARGETS[:1]])
def test_memory_is_linear_in_the_pixels(targets: Tensor | None) -> None:
    model = small()
    largest = []
    for side in (32, 64, 128):
        with Largest() as mode:
            rollout(model, torch.randn(1, 3, side, side), targets)
        largest.append(mode.elements)
    tokens = 64 * 64
    assert largest[2] < tokens * tokens / 50
    assert largest[1] == 4 * largest[0]
    assert largest[2] == 4 * largest[1]


# No trace, threads, faults


@pytest.mark.parametrize("make", [small, vit])
def test_nothing_stays_behind(make: Callable[[], nn.Module], no_hooks_left: Watch) -> None:
    model = make().float().train()
    before = copy.deepcopy(model.state_dict())
    no_hooks_left(model)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        x, targets = torch.randn(2, 3, 32, 32), TARGETS.clone()
        for chosen in (None, targets):
            assert rollout(model, x, chosen).dtype == torch.float32
            assert torch.is_inference_mode_enabled()
    assert not rollout(model, x.clone(), TARGETS).requires_grad
    assert torch.is_grad_enabled()
    assert all(part.training for part in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


def test_hooks_go_when_the_model_fails(no_hooks_left: Watch) -> None:
    model = small()
    no_hooks_left(model)
    with pytest.raises(swin_core.errors.ConfigError, match="the model takes"):
        rollout(model, torch.randn(1, 4, 32, 32))


def test_threads_that_share_a_model_get_their_own_maps() -> None:
    model = small()
    classifier = swin_core.Classifier(model, "abcdefg", (0.5,) * 3, (0.5,) * 3, 32)
    pictures = torch.randn(4, 1, 3, 32, 32)
    expected = [(rollout(model, x), rollout(model, x, TARGETS[:1])) for x in pictures]
    gate = threading.Barrier(4)

    def work(place: int) -> None:
        gate.wait()
        for _ in range(3):
            with classifier.lock:
                found = rollout(model, pictures[place]), rollout(model, pictures[place], TARGETS[:1])
            for mine, theirs in zip(found, expected[place], strict=True):
                assert relative_error(mine, theirs) < 1e-5

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))


def test_a_forward_pass_of_another_thread_is_not_looked_at() -> None:
    model = small()
    x = torch.randn(1, 3, 32, 32)
    expected = rollout(model, x, TARGETS[:1])
    started: list[int] = []

    def interrupt(*_: object) -> None:
        if not started:
            started.append(1)
            thread = threading.Thread(target=lambda: model(torch.randn(2, 3, 32, 32)))
            thread.start()
            thread.join()

    model.layers[0].blocks[0].attn.qkv.register_forward_hook(interrupt)
    assert relative_error(rollout(model, x, TARGETS[:1]), expected) < 1e-5
    assert started


@pytest.mark.parametrize(
    "name", ["swinv2_cr_tiny_224", "convnext_atto", "deit3_small_patch16_224", "beit_base_patch16_224"]
)
def test_other_models_are_refused_in_one_line(name: str) -> None:
    model = timm.create_model(name, img_size=224, depth=1) if name.startswith("beit") else timm.create_model(name)
    if name.startswith("deit3"):  # a plain ViT with layer scale
        assert rollout(model.eval(), torch.randn(1, 3, 224, 224)).shape == (1, 14, 14)
        return
    with pytest.raises(LayerError, match=r"^the attention of \w+ cannot be read: .*gradcam\.$"):
        rollout(model, torch.randn(1, 3, 224, 224))


def test_faults_are_named_in_one_line() -> None:
    x = torch.randn(1, 3, 32, 32)
    model = small()
    with pytest.raises(LayerError, match="has no attention, which cannot be read"):
        rollout(small(mixer="mlp"), x)
    with pytest.raises(LayerError, match="pools by 'max'"):
        rollout(vit(global_pool="max").float(), x)
    with pytest.raises(TargetError, match="class 7 is outside the model's 7 classes"):
        rollout(model, x, torch.tensor([7]))
    with pytest.raises(TargetError, match="1 images need as many classes"):
        rollout(model, x, TARGETS)
