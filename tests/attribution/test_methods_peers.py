"""Every attribution method beside independent code: pytorch-grad-cam, captum, and slow loops by hand."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_grad_cam
import timm
import torch
from captum.attr import (
    IntegratedGradients,
    LayerGradCam,
    LayerGradientXActivation,
    NoiseTunnel,
    Saliency,
)
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget, FinerWeightedTarget
from torch import Tensor, nn

from swin_core.attribution.cam_formulas import peak_up
from swin_core.attribution.dispatch import run_method
from swin_core.attribution.gradcam import forward_to_layers
from swin_core.attribution.layers import layer_arrangement
from swin_core.attribution.methods import METHODS
from swin_core.attribution.pixel_gradients import smooth_grad
from swin_core.attribution.targets import batch_targets, image_targets

pytestmark = pytest.mark.usefixtures("one_thread")

PEERS = {
    "gradcam": "GradCAM",
    "gradcamplusplus": "GradCAMPlusPlus",
    "hirescam": "HiResCAM",
    "xgradcam": "XGradCAM",
    "layercam": "LayerCAM",
    "elementwise": "GradCAMElementWise",
    "eigencam": "EigenCAM",
    "eigengradcam": "EigenGradCAM",
    "segeigencam": "SegEigenCAM",
    "fem": "FEM",
}
SIGNLESS = {"eigencam", "eigengradcam"}  # theirs leave the sign of a principal component as it falls


@pytest.fixture(scope="module")
def swin() -> nn.Module:
    """timm's Swin at 64 pixels: the last block on a grid of 8 x 8, its second norm as tokens."""
    torch.manual_seed(3)
    model = timm.create_model(
        "swin_tiny_patch4_window7_224",
        img_size=64,
        embed_dim=24,
        depths=(2, 2),
        num_heads=(2, 4),
        window_size=4,
        num_classes=6,
    )
    nn.init.normal_(model.get_classifier().weight, std=0.5)
    return model.eval()


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    torch.manual_seed(3)
    return timm.create_model("resnet10t", num_classes=6).eval()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3, 64, 64)


def channels_first(output: Tensor) -> Tensor:
    """A reshape_transform as users write it for timm's Swin at 64 pixels."""
    side = 8
    return (output if output.dim() == 4 else output.unflatten(1, (side, side))).permute(0, 3, 1, 2)


def bare(name: str) -> object:
    """One of pytorch-grad-cam's methods without a model, for its formula alone."""
    cam = object.__new__(getattr(pytorch_grad_cam, name))
    cam.k, cam.activations_and_grads = 2, SimpleNamespace(release=lambda: None)
    return cam


def formula(method: str) -> Callable[[Tensor, Tensor], Tensor]:
    """From activations and gradients to the map of a CAM method, before the ReLU."""
    return METHODS[method].function.keywords["formula"].weigh


@pytest.mark.parametrize("method", PEERS)
def test_formulas_equal_pytorch_grad_cam(method: str) -> None:
    """On the same activations and gradients, of either sign, with one channel that has no gradient."""
    activations, gradients = torch.randn(3, 10, 5, 4), torch.randn(3, 10, 5, 4)
    gradients[:, 2] = 0
    theirs = bare(PEERS[method]).get_cam_image(None, None, None, activations.numpy(), gradients.numpy(), False)
    ours = formula(method)(activations, gradients).numpy()
    if method in SIGNLESS:
        turned = np.sign((ours * theirs).sum((1, 2), keepdims=True))
        theirs = turned * theirs
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4 * np.abs(theirs).max())


@pytest.mark.parametrize("method", PEERS)
@pytest.mark.parametrize("layer", ["layers.1.blocks.1.norm1", "layers.1.blocks.1.norm2", "layers.1"])
def test_maps_equal_pytorch_grad_cam_on_tokens(swin: nn.Module, x: Tensor, method: str, layer: str) -> None:
    """The whole way from the image, on channels last and on tokens, for another class in each image."""
    classes = torch.tensor([4, 1])
    ours = run_method(swin, x, batch_targets(classes), METHODS[method], [layer]).maps[0][0].numpy()
    with getattr(pytorch_grad_cam, PEERS[method])(swin, [swin.get_submodule(layer)], channels_first) as cam:
        theirs = raw_map(cam, x, [ClassifierOutputTarget(k) for k in classes.tolist()])
    swin.zero_grad()
    if method in SIGNLESS:
        positive, negative = np.maximum(theirs, 0), np.maximum(-theirs, 0)
        nearer = np.abs(ours - positive).sum((1, 2)) < np.abs(ours - negative).sum((1, 2))
        theirs = np.where(nearer[:, None, None], positive, negative)
    theirs = np.maximum(theirs, 0)
    assert theirs.max() > 0
    np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=1e-3 * theirs.max())


def raw_map(cam: object, x: Tensor, targets: list) -> np.ndarray:
    """The map of a method of pytorch-grad-cam before it is stretched and resized."""
    kept = []
    cls = type(cam)
    cam.get_cam_image = lambda *arguments: kept.append(cls.get_cam_image(cam, *arguments)) or kept[-1]
    cam.forward(x, targets)
    return kept[0]


@pytest.mark.parametrize("method", ["eigencam", "eigengradcam"])
def test_the_sign_of_a_component_follows_a_rule(method: str) -> None:
    """Turning the image's evidence over turns Eigen-Grad-CAM over; EigenCAM always shows its greatest magnitude."""
    activations, gradients = torch.randn(4, 6, 3, 3), torch.rand(4, 6, 3, 3)
    found = formula(method)(activations, gradients)
    if method == "eigencam":
        assert (found.amax((1, 2)) >= -found.amin((1, 2))).all()
    else:
        torch.testing.assert_close(formula(method)(activations, -gradients), -found, rtol=1e-3, atol=1e-4)
        assert ((found * (activations * gradients).sum(1)).sum((1, 2)) >= 0).all()


def test_layers_equal_captum(resnet: nn.Module, swin: nn.Module, x: Tensor) -> None:
    classes = torch.tensor([5, 0])
    ours = run_method(resnet, x, batch_targets(classes), METHODS["gradcam"], ["layer3"]).maps[0][0]
    theirs = LayerGradCam(resnet, resnet.layer3).attribute(x, classes, relu_attributions=True)[:, 0]
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)
    ours = run_method(swin, x, batch_targets(classes), METHODS["hirescam"], ["layers.1"]).maps[0][0]
    theirs = LayerGradientXActivation(swin, swin.layers[1]).attribute(x, classes).sum(-1).relu()
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)


def test_input_gradient_equals_captum(swin: nn.Module, x: Tensor) -> None:
    classes = torch.tensor([3, 2])
    ours = run_method(swin, x, batch_targets(classes), METHODS["gradient"], ["input"]).maps[0][0]
    theirs = Saliency(swin).attribute(x.clone().requires_grad_(), classes).amax(1)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)


def test_integrated_gradients_equal_captum(swin: nn.Module, x: Tensor) -> None:
    classes = torch.tensor([3, 2])
    found = run_method(swin, x, batch_targets(classes), METHODS["integrated"], ["input"])
    theirs, missing = IntegratedGradients(swin).attribute(
        x, target=classes, n_steps=32, method="gausslegendre", return_convergence_delta=True
    )
    torch.testing.assert_close(found.maps[0][0], theirs.sum(1).float(), rtol=1e-3, atol=1e-5)
    assert found.completeness is not None
    torch.testing.assert_close(found.completeness[0], missing.abs().double(), rtol=1e-2, atol=2e-5)


def test_integrated_gradients_are_exact_for_a_polynomial() -> None:
    """A Gauss-Legendre sum of 32 points integrates a cubic without error: the map adds up to the score."""

    class Cubic(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            total = x.sum((1, 2, 3))
            return torch.stack([total, total**3], 1)

    x = torch.randn(1, 2, 4, 4)
    found = run_method(Cubic(), x, image_targets([1]), METHODS["integrated"], ["input"])
    torch.testing.assert_close(found.maps[0][0][0], (x * x.sum() ** 2).sum(1)[0], rtol=1e-4, atol=1e-5)
    assert float(found.completeness[0]) < 1e-4


def test_smooth_grad_equals_captum_with_the_same_noise(
    swin: nn.Module, x: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = x[:1]
    drawn = torch.randn(7, *x.shape[1:], generator=torch.Generator().manual_seed(5))
    spread = float(0.15 * (x.max() - x.min()))
    monkeypatch.setattr(torch, "normal", lambda mean, deviation: drawn * deviation)
    theirs = NoiseTunnel(Saliency(swin)).attribute(
        x, nt_type="smoothgrad", nt_samples=7, stdevs=spread, target=2, abs=False
    )
    ours = smooth_grad(swin, x, image_targets([2]), samples=7, seed=5).maps[0][0]
    torch.testing.assert_close(ours, theirs.abs().amax(1), rtol=1e-3, atol=1e-6)


def test_smooth_grad_without_noise_is_the_gradient(swin: nn.Module, x: Tensor) -> None:
    smooth = smooth_grad(swin, x, batch_targets(torch.tensor([1, 1])), samples=3, noise=0).maps[0][0]
    plain = run_method(swin, x, batch_targets(torch.tensor([1, 1])), METHODS["gradient"], ["input"]).maps[0][0]
    torch.testing.assert_close(smooth, plain, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("method", ["scorecam", "ablationcam", "kpcacam", "finercam", "shapleycam"])
def test_wrapped_methods_equal_pytorch_grad_cam_alone(resnet: nn.Module, x: Tensor, method: str) -> None:
    """On channels first, where pytorch-grad-cam works as it is: the wrapping changes no number."""
    name = {"scorecam": "ScoreCAM", "ablationcam": "AblationCAM", "kpcacam": "KPCA_CAM", "shapleycam": "ShapleyCAM"}
    x, layer = x[:1], "layer1"
    logits = resnet(x).detach()
    target = int(logits.argmax())
    ours = run_method(resnet, x, image_targets([target]), METHODS[method], [layer]).maps[0][0][0].numpy()
    targets = [ClassifierOutputTarget(target)]
    if method == "finercam":
        cam = pytorch_grad_cam.FinerCAM(resnet, [resnet.layer1])
        cam.base_cam.forward = lambda x, targets: cam.forward(x, targets)
        others = (logits[0] - logits[0, target]).abs().argsort()[1:4].tolist()
        theirs = raw_map(cam.base_cam, x, [FinerWeightedTarget(target, others, 1)])
    else:
        kinds = {} if method != "ablationcam" else {"ablation_layer": Zeros()}
        theirs = raw_map(getattr(pytorch_grad_cam, name[method])(resnet, [resnet.layer1], None, **kinds), x, targets)
    if method == "ablationcam":
        theirs = theirs * float(logits[0, target])
    if method == "kpcacam":
        theirs = peak_up(torch.from_numpy(theirs)).numpy()
    resnet.zero_grad()
    assert theirs.max() > 0
    np.testing.assert_allclose(ours, np.maximum(theirs[0], 0), rtol=1e-3, atol=1e-5 * np.abs(theirs).max())


class Zeros(pytorch_grad_cam.AblationLayer):
    """Ablation to 0, as in the paper, for channels first."""

    def __call__(self, x: Tensor) -> Tensor:
        for picture, channel in enumerate(self.indices[: len(self.activations)]):
            self.activations[picture, channel] = 0
        return self.activations


def test_ablation_on_tokens_equals_a_slow_loop(swin: nn.Module, x: Tensor) -> None:
    """Each channel set to 0 in the layer's own layout, one forward pass each; so too where a logit is negative."""
    x, layer = x[:1], "layers.1.blocks.1.norm2"
    kept: list[Tensor] = []
    hook = swin.get_submodule(layer).register_forward_hook(lambda m, i, o: kept.append(o.detach()))
    logits = swin(x).detach()[0]
    hook.remove()
    for target in (int(logits.argmax()), int(logits.argmin())):
        weights = []
        for channel in range(kept[0].shape[-1]):
            ablated = kept[0].clone()
            ablated[..., channel] = 0
            hook = swin.get_submodule(layer).register_forward_hook(lambda m, i, o, ablated=ablated: ablated)
            weights.append(logits[target] - swin(x).detach()[0, target])
            hook.remove()
        slow = (kept[0][0] @ torch.stack(weights)).relu().unflatten(0, (8, 8))
        ours = run_method(swin, x, image_targets([target]), METHODS["ablationcam"], [layer]).maps[0][0][0]
        torch.testing.assert_close(ours, slow, rtol=1e-2, atol=1e-3 * float(slow.max()))


def test_score_cam_on_tokens_equals_a_slow_loop(swin: nn.Module, x: Tensor) -> None:
    x, layer = x[:1], "layers.1"
    with forward_to_layers(swin, x, [layer]) as seen:
        activations = layer_arrangement(swin, layer, (64, 64))(seen.outputs[layer]).detach()[0]
    scores = []
    for channel in activations:
        mask = nn.functional.interpolate(channel[None, None], (64, 64), mode="bilinear", align_corners=True)[0, 0]
        mask = (mask - mask.min()) / (mask.max() - mask.min() + 1e-8)
        scores.append(swin(x * mask).detach()[0, 3])
    slow = torch.einsum("chw,c->hw", activations, torch.stack(scores).softmax(0)).relu()
    ours = run_method(swin, x, image_targets([3]), METHODS["scorecam"], [layer]).maps[0][0][0]
    torch.testing.assert_close(ours, slow, rtol=1e-3, atol=1e-5)


def test_shapley_cam_on_tokens_equals_second_derivatives_by_hand(swin: nn.Module, x: Tensor) -> None:
    """`mean(G - H A / 2)` as channel weights, with the product H A from a difference of two gradients in float64."""
    x, layer, target = x[:1].double(), "layers.1.blocks.1.norm2", 2
    model = swin.double()
    try:

        def gradient(factor: float) -> tuple[Tensor, Tensor]:
            """Activations, and the gradient at `factor` times them."""
            kept: list[Tensor] = []

            def hook(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
                kept.extend([output.detach(), (factor * output.detach()).requires_grad_()])
                return kept[1]

            hooked = model.get_submodule(layer).register_forward_hook(hook)
            logits = model(x)
            hooked.remove()
            (found,) = torch.autograd.grad(logits[0, target], kept[-1])
            return kept[0][0], found[0]

        step = 1e-5
        (activations, ahead), (_, behind) = gradient(1 + step), gradient(1 - step)
        _, here = gradient(1)
        weights = (here - 0.5 * (ahead - behind) / (2 * step)).mean(0)
        slow = (activations @ weights).relu().unflatten(0, (8, 8)).float()
    finally:
        swin.float()
    ours = run_method(swin, x.float(), image_targets([target]), METHODS["shapleycam"], [layer]).maps[0][0][0]
    assert float(slow.max()) > 0
    torch.testing.assert_close(ours, slow, rtol=1e-2, atol=1e-3 * float(slow.max()))
