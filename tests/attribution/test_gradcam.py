"""The Grad-CAM engine: equal to pytorch-grad-cam, exact where theory says so, and gone without a trace."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

import swin_core
from swin_core.attribution.explain import explain
from swin_core.attribution.gradcam import resize_maps
from swin_core.attribution.layers import layer_arrangement
from swin_core.errors import LayerError
from tests.fixtures.grad_cam import TIMM, grad_cam

Watch = Callable[[nn.Module], Callable[[], int]]


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


def test_resize_maps_is_bilinear() -> None:
    coarse, fine = torch.rand(3, 4), torch.rand(6, 8)
    resized = resize_maps([coarse, fine])
    torch.testing.assert_close(resized[1], fine)
    expected = F.interpolate(coarse[None, None], (6, 8), mode="bilinear", align_corners=False)[0, 0]
    torch.testing.assert_close(resized[0], expected)
