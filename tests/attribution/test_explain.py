"""The Grad-CAM engine: equal to pytorch-grad-cam, exact where theory says so, and gone without a trace."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

import swin_core
from swin_core.attribution.explain import explain
from swin_core.attribution.gradcam import resize_maps
from swin_core.attribution.layers import Layout, default_layer, find_layout, layer_arrangement, offered_layers
from swin_core.attribution.regions import common_parts
from swin_core.attribution.targets import check_targets
from swin_core.errors import ConfigError, ImageError, LayerError, ModelError, TargetError
from swin_core.trust.similarity import agreement
from tests.fixtures.grad_cam import grad_cam

Watch = Callable[[nn.Module], Callable[[], int]]
TIMM = {
    "swin_tiny_patch4_window7_224": ["layers.3.blocks.1.norm1", "norm", "layers.3.blocks.1.norm2", "layers.2"],
    "resnet50": ["layer4", "layer3"],
    "vit_tiny_patch16_224": ["blocks.11.norm1", "blocks.10.norm1"],
}


@pytest.fixture
def cat(samples: dict[str, Path]) -> Image.Image:
    return swin_core.read_image(samples["cat"])


@pytest.fixture(scope="module", params=TIMM)
def peer(request: pytest.FixtureRequest) -> swin_core.Classifier:
    """A timm classifier of random weights, larger than timm's own so that its logits differ between classes."""
    torch.manual_seed(1)
    model = timm.create_model(request.param, num_classes=10)
    nn.init.normal_(model.get_classifier().weight, std=0.1)
    return swin_core.Classifier.from_timm(model.eval(), request.param)


def by_hand(output: Tensor) -> Tensor:
    """A reshape_transform as users of pytorch-grad-cam write it for 224 pixels, without our own layouts."""
    if output.dim() == 4:
        return output.permute(0, 3, 1, 2)
    side = {49: 7, 197: 14}[output.shape[1]]
    return output[:, output.shape[1] - side * side :].reshape(len(output), side, side, -1).permute(0, 3, 1, 2)


def theirs(classifier: swin_core.Classifier, x: Tensor, layer: str, target: int) -> np.ndarray:
    """pytorch-grad-cam's map before its scaling and resizing, `(h, w)`."""
    module = dict(classifier.model.named_modules())[layer]
    transform = None if "resnet" in classifier.name else by_hand
    with GradCAM(classifier.model, [module], transform) as cam:
        cam.compute_input_gradient = False
        output = cam.activations_and_grads(x)
        classifier.model.zero_grad()
        ClassifierOutputTarget(target)(output[0]).backward()
        activations = cam.activations_and_grads.activations[0].numpy()
        gradients = cam.activations_and_grads.gradients[0].numpy()
        image = cam.get_cam_image(x, module, None, activations, gradients, False)
    classifier.model.zero_grad(set_to_none=True)
    return np.maximum(image[0], 0)


def test_equals_pytorch_grad_cam(peer: swin_core.Classifier, cat: Image.Image) -> None:
    x = peer.tensor(peer.view(cat))
    layers = TIMM[peer.name]
    targets = [2, 7]
    ours = grad_cam(peer.model, x, targets, layers)
    compared = 0
    for row, target in zip(ours.maps, targets, strict=True):
        for mine, layer in zip(row, layers, strict=True):
            other = theirs(peer, x, layer, target)
            assert mine.shape == other.shape
            if other.max() == 0:  # a class that nothing speaks for: both maps are empty
                assert float(mine.max()) <= 1e-6
                continue
            assert np.corrcoef(mine.numpy().ravel(), other.ravel())[0, 1] > 0.9999
            np.testing.assert_allclose(mine.numpy(), other, rtol=1e-3, atol=1e-5 * other.max())
            compared += 1
    assert compared >= len(layers), "too many empty maps to compare"


@pytest.mark.parametrize("size", [64, 50])
def test_gradients_equal_a_full_backward_pass(size: int) -> None:
    """The shortcut of starting the graph late gives the gradients that a whole graph gives."""
    torch.manual_seed(0)
    model = swin_core.build("swin_micro", num_classes=6).eval()
    x = torch.randn(1, 3, size, size)
    names = ["layers.1.blocks.1.norm2", "norm"]
    ours = grad_cam(model, x, [4], names)
    kept: dict[str, Tensor] = {}
    modules = dict(model.named_modules())
    hooks = [modules[n].register_forward_hook(lambda m, i, o, n=n: kept.update({n: o})) for n in names]
    gradients = torch.autograd.grad(model(x)[0, 4], [kept[name] for name in names])
    for hook in hooks:
        hook.remove()
    for mine, name, gradient in zip(ours.maps[0], names, gradients, strict=True):
        activation = kept[name][0].detach().double()
        weights = gradient[0].double().mean((0, 1))
        slow = torch.zeros(activation.shape[:2], dtype=torch.float64)
        for row in range(activation.shape[0]):
            for column in range(activation.shape[1]):
                slow[row, column] = max(0.0, float((activation[row, column] * weights).sum()))
        torch.testing.assert_close(mine.double(), slow.detach(), rtol=1e-4, atol=1e-7)


def test_completeness_at_the_last_norm(small_classifier: swin_core.Classifier, cat: Image.Image) -> None:
    """Sum of activation x gradient plus bias is the logit, for each class, by hand and as reported."""
    model = small_classifier.model
    with torch.no_grad():
        model.head.bias.normal_()
    x = small_classifier.tensor(small_classifier.view(cat))
    found = grad_cam(model, x, [0, 3], ["norm"])
    assert found.completeness is not None
    assert float(found.completeness.max()) < 1e-5
    features = model.eval().forward_features(x).detach()
    for target in (0, 3):
        signed = torch.einsum("bhwc,c->bhw", features, model.head.weight[target]) / features[0, ..., 0].numel()
        logit = signed.sum() + model.head.bias[target]
        torch.testing.assert_close(logit, found.logits[target], rtol=1e-4, atol=1e-5)
    # One block earlier the rest is not linear, and no such figure is given.
    assert grad_cam(model, x, [0], ["layers.2.blocks.1"]).completeness is None


def test_a_wrong_bias_breaks_completeness(small_classifier: swin_core.Classifier) -> None:
    """The figure reads the head's bias: with another one it is off by just that much."""
    model, x = small_classifier.model, torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        model.head.bias.fill_(0.0)
    hook = model.head.register_forward_hook(lambda m, i, o: o + 0.25)
    try:
        found = grad_cam(model, x, [1], ["norm"])
    finally:
        hook.remove()
    assert found.completeness is not None
    assert float(found.completeness[0]) == pytest.approx(0.25, abs=1e-4)


def test_leaves_no_trace(small_classifier: swin_core.Classifier, cat: Image.Image, no_hooks_left: Watch) -> None:
    model = small_classifier.model
    model.train()
    model.layers[0].eval()  # a user froze this one
    modes = {name: module.training for name, module in model.named_modules()}
    added = no_hooks_left(model)
    for failing in (False, True):
        if failing:
            with pytest.raises(LayerError):
                explain(small_classifier, cat, [0], layers=["norm", "head"])
        else:
            explain(small_classifier, cat, [0, 1], layers=["norm", "layers.1.blocks.0.norm1"])
        assert added() == 0
        assert {name: module.training for name, module in model.named_modules()} == modes
        assert all(p.grad is None and p.requires_grad for p in model.parameters())
        assert torch.is_grad_enabled()


def test_a_model_that_raises_leaves_no_trace(no_hooks_left: Watch) -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            self.norm(x)
            raise RuntimeError("broken")

    model = Broken().train()
    added = no_hooks_left(model)
    with pytest.raises(RuntimeError, match="broken"):
        grad_cam(model, torch.zeros(1, 3, 8, 8), None, ["norm"])
    assert added() == 0
    assert model.training
    assert torch.is_grad_enabled()


def test_the_graph_starts_at_the_earliest_target_layer(small_classifier: swin_core.Classifier) -> None:
    """Nothing before the target layer is kept for a backward pass, and parameters gain no gradient."""
    model = small_classifier.model
    seen: dict[str, bool] = {}
    watched = ["patch_embed", "layers.0", "layers.1", "layers.2.blocks.1.norm2", "norm"]
    modules = dict(model.named_modules())
    hooks = [modules[n].register_forward_hook(lambda m, i, o, n=n: seen.update({n: o.requires_grad})) for n in watched]
    try:
        grad_cam(model, torch.randn(1, 3, 64, 64), [0], ["norm", "layers.2.blocks.1.norm1"])
    finally:
        for hook in hooks:
            hook.remove()
    assert [seen[name] for name in watched] == [False, False, False, True, True]


def test_concurrent_calls_equal_calls_in_turn(
    small_classifier: swin_core.Classifier, cat: Image.Image, no_hooks_left: Watch
) -> None:
    """Four sessions explain different classes on one model while a fifth predicts."""
    no_hooks_left(small_classifier.model)
    alone = [explain(small_classifier, cat, [k]).maps for k in range(4)]
    probabilities = small_classifier.predict([cat])
    gate = threading.Barrier(5)

    def session(k: int) -> list[np.ndarray]:
        gate.wait()
        if k == 4:
            return [small_classifier.predict([cat]) for _ in range(10)]
        return [explain(small_classifier, cat, [k]).maps for _ in range(10)]

    with ThreadPoolExecutor(5) as pool:
        results = list(pool.map(session, range(5)))
    for k in range(4):
        for maps in results[k]:
            np.testing.assert_array_equal(maps, alone[k])
    for predicted in results[4]:
        np.testing.assert_array_equal(predicted, probabilities)


@pytest.mark.parametrize("mode", ["inference", "no_grad", "autocast"])
def test_callers_mode_changes_nothing(small_classifier: swin_core.Classifier, cat: Image.Image, mode: str) -> None:
    plain = explain(small_classifier, cat, [1])
    context = {
        "inference": torch.inference_mode(),
        "no_grad": torch.no_grad(),
        "autocast": torch.autocast("cpu", torch.bfloat16),
    }[mode]
    with context:
        inside = explain(small_classifier, cat, [1])
    np.testing.assert_array_equal(inside.maps, plain.maps)


def test_an_in_place_operation_behind_the_layer_is_harmless() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    x = torch.randn(1, 3, 6, 6)
    found = grad_cam(model, x, [2], ["0"])
    activation = model[0](x).detach()
    gradient = (activation > 0).float() / 36
    weights = torch.zeros(8)
    weights[2] = gradient[0, 2].mean()
    expected = torch.einsum("chw,c->hw", activation[0], weights).relu()
    torch.testing.assert_close(found.maps[0][0], expected)


def test_users_reshape_transform_is_taken(peer: swin_core.Classifier, cat: Image.Image) -> None:
    layer = TIMM[peer.name][0]
    offered = layer_arrangement(peer.model, layer, (peer.image_size, peer.image_size))
    with_own = explain(peer, cat, [1], layers=[layer], reshape_transform=offered)
    np.testing.assert_array_equal(with_own.maps, explain(peer, cat, [1], layers=[layer]).maps)
    with pytest.raises(LayerError, match="reshape_transform gives"):
        explain(peer, cat, [1], layers=[layer], reshape_transform=lambda output: output.flatten(1))


@pytest.mark.parametrize("size", [224, 256])
def test_layouts_are_found_at_any_size(size: int) -> None:
    """No grid is assumed: the same layers work at another input size."""
    model = timm.create_model("swin_tiny_patch4_window7_224", num_classes=3, img_size=size).eval()
    side = -(-size // 32)
    for layer in ("norm", "layers.3.blocks.1.norm2"):
        found = grad_cam(model, torch.randn(1, 3, size, size), [0], [layer])
        assert found.maps[0][0].shape == (side, side)


@pytest.mark.parametrize(
    ("shape", "size", "prefix", "expected"),
    [
        ((1, 7, 7, 768), (224, 224), None, Layout("channels_last", (7, 7))),
        ((1, 768, 7, 7), (224, 224), None, Layout("channels_first", (7, 7))),
        ((1, 49, 768), (224, 224), None, Layout("tokens", (7, 7))),
        ((1, 197, 192), (224, 224), None, Layout("tokens", (14, 14), 1)),
        ((1, 198, 192), (224, 224), 2, Layout("tokens", (14, 14), 2)),
        ((1, 7, 10, 96), (200, 300), None, Layout("channels_last", (7, 10))),
        ((1, 70, 96), (200, 300), None, Layout("tokens", (7, 10))),
    ],
)
def test_find_layout(shape: tuple[int, ...], size: tuple[int, int], prefix: int | None, expected: Layout) -> None:
    output = torch.arange(float(np.prod(shape))).view(shape)
    found = find_layout("layer", nn.Identity(), output, size, prefix=prefix)
    assert found == expected
    arranged = found.channels_first(output)
    assert arranged.shape[2:] == expected.grid
    row, column = expected.grid[0] - 1, 1
    if found.kind == "tokens":
        cell = output[0, expected.prefix + row * expected.grid[1] + column]
    else:
        cell = output[0, row, column] if found.kind == "channels_last" else output[0, :, row, column]
    torch.testing.assert_close(arranged[0, :, row, column], cell)


def test_what_fits_two_ways_is_refused_unless_the_layer_knows() -> None:
    output = torch.zeros(1, 8, 8, 8)
    with pytest.raises(LayerError, match="both fit"):
        find_layout("x", nn.Identity(), output, (64, 64))
    output = torch.zeros(1, 8, 8, 9)
    assert find_layout("x", nn.LayerNorm(9), output, (64, 64)).kind == "channels_last"
    assert find_layout("x", nn.Conv2d(3, 8, 1), output, (64, 72)).kind == "channels_first"


@pytest.mark.parametrize(
    ("call", "error", "line"),
    [
        ({"layers": ["nom"]}, LayerError, "did you mean norm"),
        ({"layers": []}, LayerError, "at least one"),
        ({"layers": ["head"]}, LayerError, "before the pooling"),
        ({"layers": ["layers.0.blocks.0.attn.qkv"]}, LayerError, "one entry per window"),
        ({"layers": ["layers.0.blocks"]}, LayerError, "does not run"),
        ({"targets": [5]}, TargetError, "class 5 is outside"),
        ({"targets": [-1]}, TargetError, "class -1 is outside"),
        ({"targets": []}, TargetError, "at least one"),
        ({"targets": ["orchid"]}, TargetError, "no class 'orchid'"),
        ({"method": "guess"}, ConfigError, "unknown method"),
    ],
)
def test_bad_requests_get_one_line(
    small_classifier: swin_core.Classifier, cat: Image.Image, call: dict, error: type[Exception], line: str
) -> None:
    with pytest.raises(error, match=line) as caught:
        explain(small_classifier, cat, **call)
    assert "\n" not in str(caught.value)


def test_one_class_or_layer_needs_no_list(small_classifier: swin_core.Classifier, cat: Image.Image) -> None:
    listed = explain(small_classifier, cat, ["tulips"], layers=["norm"])
    for target in ("tulips", "Tulip", 4):
        np.testing.assert_array_equal(explain(small_classifier, cat, target, layers="norm").maps, listed.maps)
    grey = cat.convert("L")
    np.testing.assert_array_equal(
        explain(small_classifier, grey).maps, explain(small_classifier, grey.convert("RGB")).maps
    )


def test_wrong_kinds_get_one_line(small_classifier: swin_core.Classifier, cat: Image.Image) -> None:
    with pytest.raises(ImageError, match="not list"):
        explain(small_classifier, [cat])
    with pytest.raises(TargetError, match=r"not by 1\.7"):
        explain(small_classifier, cat, [1.7])
    with pytest.raises(ModelError, match="has 5 classes; 1 labels were given"):
        swin_core.Classifier(small_classifier.model, ["one"], (0.5,) * 3, (0.5,) * 3, 64)


def test_behind_the_last_attention_only_the_class_token_counts(cat: Image.Image) -> None:
    model = timm.create_model("vit_tiny_patch16_224", num_classes=4, depth=2)
    vit = swin_core.Classifier.from_timm(model, "vit")
    for layer in ("norm", "blocks.1"):
        with pytest.raises(LayerError, match="only the class token"):
            explain(vit, cat, [0], layers=[layer])


def test_attention_matrices_are_no_maps(cat: Image.Image) -> None:
    model = timm.create_model("swin_tiny_patch4_window7_224", num_classes=4)
    model.layers[3].blocks[1].attn.fused_attn = False
    with pytest.raises(LayerError, match="returns attention matrices"):
        explain(swin_core.Classifier.from_timm(model), cat, [0], layers=["layers.3.blocks.1.attn.attn_drop"])


def test_offered_layers_depend_on_the_image_size() -> None:
    model = swin_core.build("swin_nano", num_classes=2)
    small, large = (swin_core.Classifier(model, "ab", (0.5,) * 3, (0.5,) * 3, size) for size in (4, 64))
    assert offered_layers(small) != offered_layers(large)
    alone = swin_core.Classifier(swin_core.build("swin_nano", num_classes=2), "ab", (0.5,) * 3, (0.5,) * 3, 64)
    assert offered_layers(large) == offered_layers(alone)


def test_a_picture_of_one_patch_is_explained(cat: Image.Image) -> None:
    model = swin_core.build("swin_nano", num_classes=2)
    assert explain(swin_core.Classifier(model, "ab", (0.5,) * 3, (0.5,) * 3, 2), cat).maps.shape == (1, 1, 1, 1)


def test_explanation_holds_what_the_model_saw(small_classifier: swin_core.Classifier, cat: Image.Image) -> None:
    found = explain(small_classifier, cat, ["ROSES", 0], layers=["norm", "layers.1"])
    assert found.targets == (2, 0)
    assert found.maps.shape == (2, 2, 16, 16)  # the coarser map is brought to the finer one's grid
    assert found.maps.dtype == np.float32
    assert found.maps.min() >= 0
    np.testing.assert_array_equal(found.view, small_classifier.view(cat))
    np.testing.assert_allclose(found.probabilities, small_classifier.predict([cat])[0], rtol=1e-5)
    np.testing.assert_allclose(found.probabilities.sum(), 1, rtol=1e-5)
    assert max(found.image.shape) <= 512
    assert found.weights_hash == small_classifier.weights_hash
    assert explain(small_classifier, cat).targets == (int(found.logits.argmax()),)


def test_the_callers_picture_is_left_alone(cat: Image.Image) -> None:
    model = swin_core.build("swin_nano", num_classes=2)
    squashing = swin_core.Classifier(model, "ab", (0.5,) * 3, (0.5,) * 3, 32, squash=True)
    large = cat.resize((900, 600))
    before = large.tobytes()
    assert explain(squashing, large).image.shape[1] == 512
    assert (large.size, large.tobytes()) == ((900, 600), before)


def test_agreement_is_taken_where_both_models_see_the_picture() -> None:
    """Maps that are one function of the place in the image agree, however the models crop it."""
    wide, close = (0, 0, 160, 160), (40, 40, 120, 120)
    parts = common_parts(wide, close)
    assert parts == ((0.25, 0.25, 0.75, 0.75), (0, 0, 1, 1))
    rows, columns = np.mgrid[0:16, 0:16] * 10 + 5.0
    whole = (rows - 60) ** 2 + 3 * columns
    rows, columns = np.mgrid[0:16, 0:16] * 5 + 42.5
    inner = (rows - 60) ** 2 + 3 * columns
    assert agreement(whole, inner, parts) > 0.99 > agreement(whole, inner)
    assert common_parts((0, 0, 10, 10), (10, 0, 20, 10)) is None


def test_region_says_what_was_cropped(cat: Image.Image) -> None:
    model = swin_core.build("swin_nano", num_classes=2)
    half = swin_core.Classifier(model, "ab", (0.5,) * 3, (0.5,) * 3, 32, crop_fraction=0.5)
    found = explain(half, cat)
    left, top, right, bottom = found.region
    assert right - left == pytest.approx(min(cat.size) / 2, abs=4)
    assert (left + right) / 2 == pytest.approx(cat.width / 2, abs=8)
    np.testing.assert_array_equal(found.image, np.asarray(cat.crop((left, top, right, bottom))))


def test_resize_maps_is_bilinear() -> None:
    coarse, fine = torch.rand(3, 4), torch.rand(6, 8)
    resized = resize_maps([coarse, fine])
    torch.testing.assert_close(resized[1], fine)
    expected = F.interpolate(coarse[None, None], (6, 8), mode="bilinear", align_corners=False)[0, 0]
    torch.testing.assert_close(resized[0], expected)


def test_offered_layers_can_all_be_explained(peer: swin_core.Classifier, cat: Image.Image) -> None:
    offered = offered_layers(peer)
    assert offered[0] == TIMM[peer.name][0] == default_layer(peer)
    for layer in offered:
        assert np.isfinite(explain(peer, cat, [1], layers=[layer]).maps).all()


def test_the_last_norm_is_offered_for_every_swin() -> None:
    ours = swin_core.Classifier(swin_core.build("swin_nano"), [str(i) for i in range(100)], (0.5,) * 3, (0.5,) * 3, 32)
    second = swin_core.Classifier.from_timm(timm.create_model("swinv2_tiny_window8_256", num_classes=2))
    for classifier in (ours, second):
        assert "norm" in offered_layers(classifier)


def test_check_targets_defaults_to_the_likeliest() -> None:
    assert check_targets(None, torch.tensor([0.1, 3.0, -1.0])) == (1,)
    assert check_targets([0, 2], torch.zeros(3)) == (0, 2)
