"""Relevance propagation: sums against the logit, the gamma rule against loops, constants against a changed model."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import Tensor, nn

import swin_core
from swin_core.attribution import lrp as module
from swin_core.attribution.dispatch import attribute
from swin_core.attribution.lrp import relevance, relevance_layers, relevance_maps
from swin_core.attribution.targets import batch_targets
from swin_core.errors import ConfigError, LayerError, TargetError
from swin_core.models.swin import Swin
from swin_core.models.window_attention import WindowAttention
from tests.fixtures.reference import randomise, relative_error, small

pytestmark = pytest.mark.usefixtures("one_thread")

Watch = Callable[[nn.Module], Callable[[], int]]
TARGETS = torch.tensor([1, 3])
SIZES = [(32, 32), (30, 38), (21, 18), (6, 50), (1, 1)]


def without_biases(model: Swin) -> Swin:
    """The same model with every bias zero, the position embedding included."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "pos_embed" in name:
                parameter.zero_()
    return model


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "changes", [{}, {"mixer": "mlp"}, {"qkv_bias": False}, {"absolute_embedding": True}, {"version": 2}]
)
def test_sums_at_every_stage_equal_the_logit_without_biases(size: tuple[int, int], changes: dict[str, Any]) -> None:
    model = without_biases(small(**changes).double())
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    found = relevance(model, x, TARGETS)
    logits = model(x).gather(1, TARGETS[:, None])[:, 0]
    torch.testing.assert_close(found.logits, logits, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found.sums, found.logits[:, None].expand(-1, 3), rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(found.sums[:, 0], found.pixels.sum((1, 2)))
    assert found.pixels.shape == (2, *size)
    fine = (-(-size[0] // 2), -(-size[1] // 2))
    assert [tuple(one.shape[1:]) for one in found.stages] == [fine, (-(-fine[0] // 2), -(-fine[1] // 2))]
    if size != (1, 1):
        assert float(found.pixels.min()) < 0 < float(found.pixels.max())


@pytest.mark.parametrize(
    "changes", [{}, {"mixer": "mlp"}, {"absolute_embedding": True}, {"shift": False}, {"version": 2}]
)
def test_it_runs_the_model_as_it_is(changes: dict[str, Any]) -> None:
    model = small(**changes)
    for size in SIZES:
        x = torch.randn(2, 3, *size)
        found = relevance_maps(model, x, batch_targets(TARGETS))
        assert relative_error(found.logits, model(x)) < 1e-5
    assert relevance(model, x, TARGETS).sums.shape == (2, 3)


def test_the_last_stage_keeps_all_but_the_biases_behind_it() -> None:
    """Behind the last stage come a norm, the pooling and the head, all linear: their biases are what is missing."""
    model = small().double()
    found = relevance(model, torch.randn(2, 3, 32, 32, dtype=torch.float64), TARGETS)
    kept = model.head.weight[TARGETS] @ model.norm.bias + model.head.bias[TARGETS]
    torch.testing.assert_close(found.logits - found.sums[:, -1], kept, rtol=1e-9, atol=1e-12)


def slow_gamma(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, above: np.ndarray, gamma: float) -> np.ndarray:
    """The gamma rule for one token, contribution by contribution; `above` and the result are relevance."""
    below = np.zeros(len(x))
    for j in range(len(weight)):
        parts = [*(x[i] * weight[j, i] for i in range(len(x))), bias[j]]
        total = sum(parts)
        favoured = [part * (1 + gamma) if part * total > 0 else part for part in parts]
        for i in range(len(x)):
            below[i] += favoured[i] / sum(favoured) * above[j]
    return below


@pytest.mark.parametrize("gamma", [0.0, 0.25, 3.0])
@pytest.mark.parametrize("biased", [True, False])
def test_gamma_rule_equals_a_loop(gamma: float, biased: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GAMMA", gamma)
    x = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 5, dtype=torch.float64)
    bias = torch.randn(4, dtype=torch.float64) if biased else None
    z = module._Gamma.apply(x, weight, bias)
    pulled = torch.randn_like(z)
    below = (x * torch.autograd.grad(z, x, pulled)[0]).detach().numpy()
    above = (z * pulled).detach().numpy()
    for place in np.ndindex(2, 3):
        expected = slow_gamma(
            x.detach().numpy()[place],
            weight.numpy(),
            np.zeros(4) if bias is None else bias.numpy(),
            above[place],
            gamma,
        )
        np.testing.assert_allclose(below[place], expected, rtol=1e-10, atol=1e-12)
        if not biased:
            np.testing.assert_allclose(expected.sum(), above[place].sum(), rtol=1e-10)


def test_gamma_rule_of_zeros_is_zero() -> None:
    x = torch.zeros(1, 3, requires_grad=True)
    z = module._Gamma.apply(x, torch.randn(2, 3), None)
    assert torch.equal(x * torch.autograd.grad(z.sum(), x)[0], torch.zeros(1, 3))


class ConstantNorm(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            deviation = (x.var(-1, unbiased=False, keepdim=True) + self.eps).sqrt()
        return (x - x.mean(-1, keepdim=True)) / deviation * self.weight + self.bias


class ConstantGate(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * (0.5 * (1 + torch.erf(x / 2**0.5))).detach()


class ConstantAttention(WindowAttention):
    def _attend(self, q: Tensor, k: Tensor, v: Tensor, *others: Any) -> Tensor:
        with torch.no_grad():
            rows = [super(ConstantAttention, self)._attend(q, k, one.expand_as(v), *others) for one in self._ones(v)]
        return torch.stack([row[..., 0] for row in rows], -1) @ v

    @staticmethod
    def _ones(v: Tensor) -> Tensor:
        """For each token values that are 1 there and 0 elsewhere: what they are mixed to is a column of the matrix."""
        return torch.eye(v.shape[-2], dtype=v.dtype)[:, None, None, :, None]


@pytest.mark.parametrize("size", [(32, 32), (30, 38)])
@pytest.mark.parametrize("version", [1, 2])
def test_without_gamma_it_is_gradient_times_input_with_constants(
    size: tuple[int, int], version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_GAMMA", 0.0)
    model = small(version=version).double()
    changed = copy.deepcopy(model)
    for part in changed.modules():
        if isinstance(part, nn.LayerNorm):
            part.__class__ = ConstantNorm
        elif isinstance(part, WindowAttention):
            part.__class__ = type("Constant", (ConstantAttention, type(part)), {})
        elif hasattr(part, "act"):
            part.act = ConstantGate()
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    logits = changed(x)
    assert relative_error(logits, model(x)) < 1e-12
    gradient = torch.autograd.grad(logits.gather(1, TARGETS[:, None]).sum(), x)[0]
    found = relevance(model, x, TARGETS)
    assert not found.pixels.requires_grad
    assert relative_error(found.pixels, (x * gradient).sum(1)) < 1e-9


def test_gamma_keeps_the_sum_and_quiets_the_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    model = without_biases(small(depths=(2, 6)).double())
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    sizes = []
    for gamma in (0.0, 0.25, 1.0):
        monkeypatch.setattr(module, "_GAMMA", gamma)
        found = relevance(model, x, TARGETS)
        torch.testing.assert_close(found.sums, found.logits[:, None].expand(-1, 3))
        sizes.append(float(found.pixels.abs().sum()))
    assert sizes[0] > 1.5 * sizes[1] > 1.5 * sizes[2]


def test_pixels_of_the_mean_colour_have_none() -> None:
    x = torch.randn(1, 3, 32, 32)
    x[:, :, 8:16, 4:28] = 0
    found = relevance(small(), x, TARGETS[:1])
    assert float(found.pixels[:, 8:16, 4:28].abs().max()) == 0
    assert float(found.pixels[:, :8].abs().min()) > 0


def test_contrast_is_the_relevance_of_a_difference() -> None:
    model = small()
    x = torch.randn(2, 3, 32, 32)
    found = relevance(model, x, TARGETS, TARGETS + 2)
    one, other = relevance(model, x, TARGETS), relevance(model, x, TARGETS + 2)
    torch.testing.assert_close(found.logits, one.logits - other.logits)
    torch.testing.assert_close(found.pixels, one.pixels - other.pixels, rtol=1e-3, atol=1e-5)
    both = relevance_maps(
        model, x, lambda logits: [*batch_targets(TARGETS)(logits), *batch_targets(TARGETS + 2)(logits)]
    )
    torch.testing.assert_close(both.maps[0][0], one.pixels)
    torch.testing.assert_close(both.maps[1][0], other.pixels)


def test_a_batch_gives_what_each_image_gives_alone() -> None:
    model = small()
    x = torch.randn(2, 3, 30, 38)
    found = relevance(model, x, TARGETS)
    alone = [relevance(model, x[i : i + 1], TARGETS[i : i + 1]) for i in range(2)]
    assert relative_error(found.pixels, torch.cat([one.pixels for one in alone])) < 1e-4
    for stage in range(2):
        assert relative_error(found.stages[stage], torch.cat([one.stages[stage] for one in alone])) < 1e-4


def test_nothing_stays_behind(no_hooks_left: Watch) -> None:
    model = small().train()
    before = copy.deepcopy(model.state_dict())
    no_hooks_left(model)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        found = relevance(model, torch.randn(2, 3, 32, 32), TARGETS.clone())
        assert torch.is_inference_mode_enabled()
    assert found.pixels.dtype == torch.float32
    assert not found.logits.requires_grad
    assert all(part.training for part in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


def test_threads_need_no_lock() -> None:
    """Four threads explain one model while four run it, and train mode comes and goes."""
    model = small(drop_path=0.0)
    pictures = torch.randn(4, 1, 3, 32, 32)
    expected = [(relevance(model, x, TARGETS[:1]).pixels, model(x).detach()) for x in pictures]
    gate = threading.Barrier(8)

    def work(place: int) -> None:
        gate.wait()
        picture, runs = pictures[place % 4], place >= 4
        for _ in range(3):
            if runs:
                with torch.inference_mode():
                    assert relative_error(model(picture), expected[place % 4][1]) < 1e-5
                model.train(place % 2 == 0)
            else:
                assert relative_error(relevance(model, picture, TARGETS[:1]).pixels, expected[place][0]) < 1e-5

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


def test_faults_are_named_in_one_line() -> None:
    model = small()
    x = torch.randn(1, 3, 32, 32)
    with pytest.raises(LayerError, match=r"^relevance propagation knows .* our own Swin, not those of ResNet; .*\.$"):
        relevance(timm.create_model("resnet10t"), x, TARGETS[:1])
    with pytest.raises(TargetError, match="class 7 is outside the model's 7 classes"):
        relevance(model, x, torch.tensor([7]))
    with pytest.raises(TargetError, match="1 images need as many classes"):
        relevance(model, x, TARGETS)
    with pytest.raises(ConfigError, match=r"the model takes \(B, 3, height, width\)"):
        relevance(model, torch.randn(1, 4, 32, 32), TARGETS[:1])
    with pytest.raises(TargetError, match="class 12 is outside"):
        relevance(swin_core.build("swin_nano", num_classes=12), x, torch.tensor([12]))


def test_explain_offers_it(small_classifier: swin_core.Classifier) -> None:
    randomise(small_classifier.model)
    views = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    batch = small_classifier.tensor(views)
    found = attribute(small_classifier, batch, TARGETS, "relevance")
    expected = relevance(small_classifier.model, batch, TARGETS).pixels
    assert torch.equal(found[:, 0], expected.relu())
    assert torch.equal(attribute(small_classifier, batch, TARGETS, "relevance", signed=True)[:, 0], expected)


def test_patches_are_credited_with_what_speaks_for_the_class(small_classifier: swin_core.Classifier) -> None:
    picture = Image.fromarray(np.random.default_rng(3).integers(0, 256, (40, 40, 3), np.uint8))
    for against in (None, 2):
        found = swin_core.explain(small_classifier, picture, [0, 1], "patchrelevance", against=against)
        signed = swin_core.explain(small_classifier, picture, [0, 1], "relevance", "layers.0", against=against)
        np.testing.assert_array_equal(found.maps, np.maximum(signed.maps, 0))
        assert signed.maps.min() < 0 < found.maps.max()


def test_stages_are_its_layers(small_classifier: swin_core.Classifier) -> None:
    """One value for each token of a stage's output: what this token's channels are handed, all together."""
    model = randomise(small_classifier.model)
    view = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    batch = small_classifier.tensor(view)
    found = relevance(model, batch, TARGETS[:1])
    outputs: dict[str, Tensor] = {}
    hooks = [
        layer.register_forward_hook(lambda layer, given, output, name=name: outputs.update({name: output}))
        for name, layer in model.named_modules()
    ]
    model(batch)
    for hook in hooks:
        hook.remove()
    assert relevance_layers(model) == ("input", "layers.0", "layers.1", "layers.2")
    picture = Image.fromarray(view)
    for name, expected in zip(relevance_layers(model), (found.pixels, *found.stages), strict=True):
        if name != "input":
            assert expected.shape == outputs[name].shape[:3]
        maps = attribute(small_classifier, batch, TARGETS[:1], "relevance", name, signed=True)
        assert torch.equal(maps[:, 0], expected)
        explained = swin_core.explain(small_classifier, picture, int(TARGETS[0]), "relevance", name)
        assert explained.layers == (name,)
        np.testing.assert_allclose(explained.maps[0, 0], expected[0], rtol=1e-4, atol=1e-6)
    both = swin_core.explain(small_classifier, picture, 1, "relevance", ["layers.1", "layers.0"], against=2)
    contrast = relevance(model, batch, TARGETS[:1], torch.tensor([2]))
    np.testing.assert_allclose(both.maps[0, 1], contrast.stages[0][0], rtol=1e-4, atol=1e-6)


def test_layers_without_relevance_are_named(small_classifier: swin_core.Classifier) -> None:
    picture = Image.new("RGB", (64, 64))
    picture.putpixel((0, 0), (255, 0, 0))
    for name in ("norm", "layers.3", "layers.0.blocks.1", ""):
        with pytest.raises(LayerError, match=r"has maps at input, layers\.0, layers\.1, layers\.2, not at"):
            swin_core.explain(small_classifier, picture, method="relevance", layers=name)
    with pytest.raises(LayerError, match="at least one"):
        swin_core.explain(small_classifier, picture, method="relevance", layers=[])
    other = swin_core.Classifier(timm.create_model("resnet10t", num_classes=2), "ab", (0.5,) * 3, (0.5,) * 3, 64)
    with pytest.raises(LayerError, match="our own Swin"):
        swin_core.explain(other, picture, method="relevance", layers="layer1")
    assert relevance_layers(other.model) == ("input",)
