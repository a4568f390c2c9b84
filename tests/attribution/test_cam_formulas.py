"""CAM formulas against pytorch-grad-cam and captum."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_grad_cam
import torch
from captum.attr import (
    LayerGradCam,
    LayerGradientXActivation,
)
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from swin_core.attribution.dispatch import run_method
from swin_core.attribution.methods import METHODS
from swin_core.attribution.targets import batch_targets
from tests.fixtures.grad_cam import raw_map

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
