"""Every method behind the one `explain` call: no trace, batches, threads, contrast, fusing, one line a fault."""

from __future__ import annotations

import copy
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import Tensor, nn

import swin_core
from swin_core.attribution import pytorch_grad_cam as wrapped
from swin_core.attribution.dispatch import attribute
from swin_core.attribution.explain import explain
from swin_core.attribution.layers import default_layer, stage_layers
from swin_core.attribution.methods import METHODS, NOT_OFFERED
from swin_core.attribution.targets import RUNNER_UP
from swin_core.errors import ConfigError, ImageError, LayerError, TargetError
from swin_core.figures.grid import Cell
from tests.fixtures.grad_cam import grad_cam

pytestmark = pytest.mark.usefixtures("one_thread", "few_masks")

Watch = Callable[[nn.Module], Callable[[], int]]
LABELS = ("daisy", "dandelion", "roses", "sunflowers", "tulips")
LAYERS = [name for name, method in METHODS.items() if method.kind == "layer"]


def tiny_classifier() -> swin_core.Classifier:
    """A Swin of random weights with two stages, 32 x 32 pixels: every method runs in a moment."""
    torch.manual_seed(0)
    model = swin_core.build("swin_nano", num_classes=5, embed_dim=24, depths=(2, 2), num_heads=(2, 4))
    nn.init.normal_(model.head.weight, std=0.5)
    return swin_core.Classifier(model, LABELS, (0.5,) * 3, (0.5,) * 3, 32, name="tiny")


def noise_image() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8))


@cache
def explained(method: str) -> swin_core.Explanation:
    """What a method says of class 1 of that image by that model."""
    return explain(tiny_classifier(), noise_image(), 1, method)


@pytest.fixture
def tiny() -> swin_core.Classifier:
    return tiny_classifier()


@pytest.fixture
def noise() -> Image.Image:
    return noise_image()


@pytest.fixture
def batch(tiny: swin_core.Classifier) -> Tensor:
    views = np.random.default_rng(1).integers(0, 256, (16, 32, 32, 3), np.uint8)
    return tiny.tensor(views)


def test_facts_are_complete() -> None:
    assert len({method.title for method in METHODS.values()}) == len(METHODS)
    assert not set(METHODS) & set(NOT_OFFERED)
    for name, method in METHODS.items():
        assert method.name == name
        assert method.summary.endswith(".")
        assert "\n" not in method.summary


@pytest.mark.parametrize("method", METHODS)
def test_every_method_explains_and_leaves_no_trace(
    tiny: swin_core.Classifier,
    noise: Image.Image,
    method: str,
    no_hooks_left: Watch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Modes, hooks, gradients, parameters and modules are as before, and nothing is printed."""
    model = tiny.model
    model.train()
    model.layers[0].eval()
    model.head.bias.requires_grad = False
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    added = no_hooks_left(model)
    modules = dict(model.named_modules())
    before = {name: (p, p.requires_grad, p.detach().clone()) for name, p in model.named_parameters()}
    modes = {name: module.training for name, module in modules.items()}
    found = explain(tiny, noise, ["roses", 4], method)
    kind = METHODS[method].kind
    assert found.layers == (("input",) if kind == "pixels" else (default_layer(tiny),))
    assert found.maps.shape[:2] == (2, 1)
    assert found.maps.dtype == np.float32
    assert np.isfinite(found.maps).all()
    assert found.maps.max() > 0
    assert METHODS[method].signed or found.maps.min() >= 0
    assert METHODS[method].signed == (found.maps.min() < 0)
    assert np.array_equal(found.maps[0], found.maps[1]) != METHODS[method].by_class
    assert added() == 0
    assert dict(model.named_modules()) == modules
    assert {name: module.training for name, module in modules.items()} == modes
    for name, parameter in model.named_parameters():
        same, learned, value = before[name]
        assert parameter is same
        assert parameter.requires_grad == learned
        assert (parameter.grad == 1).all()
        assert torch.equal(parameter.detach(), value)
    assert torch.is_grad_enabled()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_gives_what_each_image_gives_alone(tiny: swin_core.Classifier, batch: Tensor, method: str) -> None:
    pictures = batch if METHODS[method].cost == "one pass" else batch[:3]
    targets = torch.arange(len(pictures)) % 5
    whole = attribute(tiny, pictures, targets, method)
    assert whole.shape[:2] == (len(pictures), 1)
    assert whole.dtype == torch.float32
    assert not whole.requires_grad
    assert float(whole.min()) >= 0
    for place in (0, 2, len(pictures) - 1):
        alone = attribute(tiny, pictures[place : place + 1], targets[place : place + 1], method)
        torch.testing.assert_close(whole[place], alone[0], rtol=1e-3, atol=1e-4 * float(alone.max()))


@pytest.mark.parametrize("method", METHODS)
def test_the_batch_and_the_image_agree(tiny: swin_core.Classifier, noise: Image.Image, method: str) -> None:
    """`attribute` gives the positive part of what `explain` gives, alone or rather than another class."""
    x = tiny.tensor(tiny.view(noise))
    found = explained(method).maps[0]
    mine = attribute(tiny, x, torch.tensor([1]), method)[0]
    np.testing.assert_allclose(mine, np.maximum(found, 0), rtol=1e-3, atol=1e-5 * found.max())
    if METHODS[method].by_class:
        contrast = explain(tiny, noise, 1, method, against=3)
        assert contrast.against == (3,)
        mine = attribute(tiny, x, torch.tensor([1]), method, against=torch.tensor([3]))[0]
        np.testing.assert_allclose(mine, np.maximum(contrast.maps[0], 0), rtol=1e-3, atol=1e-5 * found.max())
        assert not np.allclose(contrast.maps[0], found)


@pytest.mark.parametrize("method", ["hirescam", "integrated", "relevance"])
def test_contrast_is_a_difference_of_scores(tiny: swin_core.Classifier, batch: Tensor, method: str) -> None:
    """Of a model whose last head is the difference of two classes: its only class has the same map."""
    x, head = batch[:1], tiny.model.head
    ours = attribute(tiny, x, torch.tensor([4]), method, against=torch.tensor([2]))
    tiny.model.head = nn.Linear(head.in_features, 2)
    with torch.no_grad():
        tiny.model.head.weight.copy_(torch.stack([head.weight[4] - head.weight[2], head.weight[0]]))
        tiny.model.head.bias.copy_(torch.stack([head.bias[4] - head.bias[2], head.bias[0]]))
    theirs = attribute(tiny, x, torch.tensor([0]), method)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * float(theirs.max()))


def test_runner_up_is_the_likeliest_other_class(tiny: swin_core.Classifier, noise: Image.Image) -> None:
    plain = explain(tiny, noise)
    first, second, *_, last = (int(index) for index in np.argsort(-plain.logits))
    found = explain(tiny, noise, [first, last], against=RUNNER_UP)
    assert found.targets == (first, last)
    assert found.against == (second, first)
    assert plain.against is None
    named = explain(tiny, noise, [first, last], against=[LABELS[second], first])
    assert named.against == found.against
    np.testing.assert_array_equal(named.maps, found.maps)


def test_contrast_at_the_last_norm_adds_up(tiny: swin_core.Classifier, noise: Image.Image) -> None:
    """The identity of completeness holds for the difference of two logits, head's biases included."""
    with torch.no_grad():
        tiny.model.head.bias.normal_()
    for method in ("gradcam", "hirescam", "xgradcam"):
        found = explain(tiny, noise, [0, 1], method, layers="norm", against=3)
        assert found.completeness is not None
        assert found.completeness.max() < 1e-4
    assert explain(tiny, noise, 0, "layercam", layers="norm").completeness is None


def test_integrated_gradients_add_up_to_the_change(tiny: swin_core.Classifier, noise: Image.Image) -> None:
    found = explain(tiny, noise, [2], "integrated", against=0)
    with torch.no_grad():
        grey = tiny.model.eval()(torch.zeros(1, 3, 32, 32))[0]
    change = found.logits[2] - found.logits[0] - float(grey[2] - grey[0])
    assert found.completeness is not None
    assert found.maps.sum() == pytest.approx(change, abs=float(found.completeness[0]) + 1e-4)
    assert found.completeness[0] < 0.02 * abs(change) + 1e-2


def test_fused_maps(tiny: swin_core.Classifier, noise: Image.Image) -> None:
    """Each layer's map over its own mean, then their mean or maximum: scaling one layer's map changes nothing."""
    layers = list(stage_layers(tiny))
    apart = explain(tiny, noise, [0, 1], layers=layers)
    assert apart.maps.shape[:2] == (2, len(layers))
    assert apart.fused == ""
    scaled = apart.maps / apart.maps.mean((2, 3), keepdims=True)
    for fuse, expected in (("mean", scaled.mean(1)), ("max", scaled.max(1))):
        found = explain(tiny, noise, [0, 1], layers=layers, fuse=fuse)
        np.testing.assert_allclose(found.maps[:, 0], expected, rtol=1e-5)
        assert (found.layers, found.fused) == ((" + ".join(layers),), fuse)
    assert found.maps.mean() > 0.9


def test_an_empty_map_fuses_to_an_empty_one(tiny: swin_core.Classifier, noise: Image.Image) -> None:
    with torch.no_grad():
        tiny.model.head.weight.zero_()
    found = explain(tiny, noise, 0, layers=["norm", "layers.0"], fuse="mean")
    assert found.maps.max() == 0


def test_several_layers_of_a_batch(tiny: swin_core.Classifier, batch: Tensor) -> None:
    layers = list(stage_layers(tiny))
    found = attribute(tiny, batch[:2], torch.tensor([0, 1]), layers=layers)
    one = grad_cam(tiny.model, batch[1:2], [1], layers)
    assert found.shape == (2, 2, *one.maps[0][0].shape)
    torch.testing.assert_close(found[1, 0], one.maps[0][0])


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("resnet10t", ("layer1", "layer2", "layer3", "layer4")),
        ("convnext_atto", ("stages.0", "stages.1", "stages.2", "stages.3")),
        ("swin_tiny_patch4_window7_224", ("layers.0", "layers.1", "layers.2", "layers.3")),
        ("vit_tiny_patch16_224", ("blocks.2.norm1", "blocks.5.norm1", "blocks.8.norm1", "blocks.11.norm1")),
    ],
)
def test_stage_layers(name: str, layers: tuple[str, ...]) -> None:
    size = 224 if name.startswith("vit") else 64
    kinds = {"img_size": 64, "embed_dim": 24, "window_size": 2} if name.startswith("swin") else {}
    model = timm.create_model(name, num_classes=2, **kinds)
    peer = swin_core.Classifier(model, "ab", (0.5,) * 3, (0.5,) * 3, size, name=name)
    assert stage_layers(peer) == layers
    assert np.isfinite(explain(peer, Image.effect_noise((64, 64), 50), 0, layers=layers).maps).all()


def test_stages_go_from_fine_to_coarse() -> None:
    model = swin_core.build("swin_micro", num_classes=2)
    classifier = swin_core.Classifier(model, "ab", (0.5,) * 3, (0.5,) * 3, 64)
    assert stage_layers(classifier) == ("layers.0", "layers.1", "layers.2")


def test_four_threads_at_once(tiny: swin_core.Classifier, noise: Image.Image, no_hooks_left: Watch) -> None:
    """Methods of every kind on one model at once, and second-order ones on two models: as one after the other."""
    other = swin_core.Classifier(swin_core.build("swin_nano", num_classes=5), LABELS, (0.5,) * 3, (0.5,) * 3, 32)
    for classifier in (tiny, other):
        no_hooks_left(classifier.model)
    calls = [(tiny, "gradcam"), (tiny, "ablationcam"), (tiny, "shapleycam"), (tiny, "smoothgrad")]
    calls += [(other, "shapleycam"), (other, "relevance"), (tiny, "gradrollout"), (tiny, "integrated")]
    alone = [explain(classifier, noise, 1, method).maps for classifier, method in calls]
    gate = threading.Barrier(4)

    def session(start: int) -> list[tuple[int, np.ndarray]]:
        gate.wait()
        order = [(start + step) % len(calls) for step in range(len(calls))]
        return [(place, explain(calls[place][0], noise, 1, calls[place][1]).maps) for place in order]

    with ThreadPoolExecutor(4) as pool:
        for results in pool.map(session, range(0, 8, 2)):
            for place, maps in results:
                np.testing.assert_allclose(maps, alone[place], rtol=1e-3, atol=1e-5 * alone[place].max())
    kinds = ("flash", "mem_efficient", "math")
    assert all(getattr(torch.backends.cuda, f"{kind}_sdp_enabled")() for kind in kinds)


@pytest.mark.parametrize("method", METHODS)
def test_the_callers_mode_changes_nothing(tiny: swin_core.Classifier, noise: Image.Image, method: str) -> None:
    plain = explained(method).maps
    for mode in (torch.inference_mode(), torch.autocast("cpu", torch.bfloat16)):
        with mode:
            inside = explain(tiny, noise, 1, method).maps
        np.testing.assert_allclose(inside, plain, rtol=1e-4, atol=1e-6 * plain.max(), err_msg=str(mode))


@pytest.mark.parametrize(
    ("method", "passes"),
    [
        ("ablationcam", 2),  # its own hook is set
        ("ablationcam", 3),  # the layer is replaced
        ("scorecam", 2),
        ("shapleycam", 1),
        ("finercam", 0),
        ("kpcacam", 0),
        ("sess", 2),
        ("gradient", 1),
    ],
)
def test_a_failure_midway_leaves_no_trace(
    tiny: swin_core.Classifier, noise: Image.Image, method: str, passes: int, no_hooks_left: Watch
) -> None:
    """The model fails after some passes, when hooks are set and layers may be replaced."""
    added = no_hooks_left(tiny.model)
    modules = dict(tiny.model.named_modules())
    runs = []

    def fails(module: nn.Module, inputs: object) -> None:
        runs.append(1)
        if len(runs) > passes:
            raise RuntimeError("broken")

    hook = tiny.model.head.register_forward_pre_hook(fails)
    try:
        with pytest.raises(RuntimeError, match="broken"):
            explain(tiny, noise, 0, method, None if method == "gradient" else "norm")
    finally:
        hook.remove()
    assert added() == 0
    assert dict(tiny.model.named_modules()) == modules
    assert all(parameter.requires_grad for parameter in tiny.model.parameters())


@pytest.mark.parametrize("method", METHODS)
def test_a_model_of_any_precision_is_explained(tiny: swin_core.Classifier, noise: Image.Image, method: str) -> None:
    expected, probabilities = explained(method).maps, tiny.predict([noise])
    for dtype, tolerance in ((torch.float16, 0.03), (torch.bfloat16, 0.3), (torch.float64, 1e-4)):
        model = copy.deepcopy(tiny.model).to(dtype)
        other = swin_core.Classifier(model, LABELS, (0.5,) * 3, (0.5,) * 3, 32)
        found = explain(other, noise, 1, method)
        assert found.maps.dtype == found.logits.dtype == np.float32
        limit = tolerance * np.abs(expected).max()
        np.testing.assert_allclose(found.maps, expected, atol=limit, rtol=0, err_msg=str(dtype))
        np.testing.assert_allclose(other.predict([noise]), probabilities, atol=0.03)
        assert {parameter.dtype for parameter in model.parameters()} == {dtype}


def test_ablation_refuses_a_layout_that_is_a_copy(tiny: swin_core.Classifier, noise: Image.Image) -> None:
    with pytest.raises(LayerError, match="must return a view"):
        explain(tiny, noise, 0, "ablationcam", "norm", lambda output: output.permute(0, 3, 1, 2).clone())


def test_magnitude_is_the_largest_absolute_value(tiny: swin_core.Classifier, noise: Image.Image) -> None:
    found = explain(tiny, noise, 0, "relevance")
    found = replace(found, maps=-np.abs(found.maps))
    expected = float(np.abs(found.maps).max())
    assert found.magnitude(0) == Cell(found).magnitude == expected > 0
    assert Cell(None).magnitude == 0


def test_second_order_takes_turns(tiny: swin_core.Classifier, noise: Image.Image) -> None:
    """The choice of attention kernels is the whole process's: two models must not restore each other's."""
    seen = []
    hook = tiny.model.head.register_forward_pre_hook(lambda module, inputs: seen.append(wrapped._second_order.locked()))
    explain(tiny, noise, 0, "shapleycam")
    hook.remove()
    assert seen[-1]
    assert not wrapped._second_order.locked()


@pytest.mark.parametrize(
    ("call", "error", "line"),
    [
        ({"method": "guess"}, ConfigError, "unknown method 'guess'; known are eigengradcam"),
        ({"method": "guidedbackprop"}, ConfigError, "has no ReLU"),
        ({"method": "fullgrad"}, ConfigError, "biases"),
        ({"fuse": "median"}, ConfigError, "mean or max"),
        ({"method": "eigencam", "against": 1}, ConfigError, "same for every class"),
        ({"method": "gradient", "layers": "norm"}, LayerError, "Input gradient takes no layer; leave it out"),
        ({"method": "patchrelevance", "layers": "norm"}, LayerError, "Relevance of patches takes no layer"),
        ({"method": "hirescam", "layers": "nrm"}, LayerError, "did you mean norm"),
        ({"layers": "xyz"}, LayerError, "it has patch_embed, patch_embed.proj, .* and 3 more"),
        *(({"method": name}, ConfigError, re.escape(reason)) for name, reason in NOT_OFFERED.items()),
        ({"method": "scorecam", "layers": "head"}, LayerError, "before the pooling"),
        ({"method": "smoothgrad", "targets": [5]}, TargetError, "class 5 is outside"),
        ({"method": "ablationcam", "targets": [-1]}, TargetError, "class -1 is outside"),
        ({"against": 9}, TargetError, "class 9 is outside"),
        ({"against": "orchid"}, TargetError, "no class 'orchid'"),
        ({"targets": 2, "against": "roses"}, TargetError, "'roses' cannot be contrasted with itself"),
        ({"targets": [0, 1, 2], "against": [3, 4]}, TargetError, "2 contrast classes for 3 targets"),
    ],
)
def test_faults_get_one_line(
    tiny: swin_core.Classifier, noise: Image.Image, call: dict, error: type[Exception], line: str
) -> None:
    with pytest.raises(error, match=line) as caught:
        explain(tiny, noise, **call)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [(1, 1), (64, 48)])
def test_an_image_of_one_colour_gets_one_line(tiny: swin_core.Classifier, size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match="single colour"):
        explain(tiny, Image.new("RGB", size, (10, 200, 30)))


@pytest.mark.parametrize("method", METHODS)
def test_a_constant_batch_is_finite(tiny: swin_core.Classifier, method: str) -> None:
    """What a blurred or emptied image gives: no NaN, whatever divides by a spread or a sum."""
    found = attribute(tiny, torch.zeros(2, 3, 32, 32), torch.tensor([0, 1]), method)
    assert torch.isfinite(found).all()


@pytest.mark.parametrize(
    ("targets", "against", "line"),
    [
        (torch.tensor([0]), None, "2 images need as many classes"),
        (torch.tensor([0, 5]), None, "class 5 is outside"),
        (torch.tensor([0, 1]), torch.tensor([2, 1]), "contrasted with itself"),
    ],
)
def test_faults_of_a_batch_get_one_line(
    tiny: swin_core.Classifier, batch: Tensor, targets: Tensor, against: Tensor | None, line: str
) -> None:
    with pytest.raises(TargetError, match=line):
        attribute(tiny, batch[:2], targets, against=against)


def test_an_ambiguous_layout_gets_one_line_from_every_method(noise: Image.Image) -> None:
    """Eight channels on a grid of 8 x 8: which axis is which cannot be told, unless the user says so."""

    class Square(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 4, 4)
            self.mix = nn.Identity()
            self.head = nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.mix(self.conv(x)).mean((2, 3)))

    square = swin_core.Classifier(Square(), "abc", (0.5,) * 3, (0.5,) * 3, 32)
    for method in LAYERS:
        with pytest.raises(LayerError, match="both fit"):
            explain(square, noise, 0, method, "mix")
        assert explain(square, noise, 0, method, "mix", lambda output: output).maps.shape[0] == 1


def test_a_model_with_one_class_has_no_other(noise: Image.Image) -> None:
    model = swin_core.build("swin_nano", num_classes=1)
    single = swin_core.Classifier(model, "a", (0.5,) * 3, (0.5,) * 3, 32, activation="none")
    with pytest.raises(TargetError, match="single class"):
        explain(single, noise, against=RUNNER_UP)
    with pytest.raises(TargetError, match="single one"):
        explain(single, noise, method="finercam")
