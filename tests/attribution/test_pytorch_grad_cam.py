"""Score-CAM, Ablation-CAM, ShapleyCAM and SESS against pytorch-grad-cam and slow loops."""

from __future__ import annotations

import numpy as np
import pytest
import pytorch_grad_cam
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget, FinerWeightedTarget
from torch import Tensor, nn

from swin_core.attribution.cam_formulas import peak_up
from swin_core.attribution.dispatch import run_method
from swin_core.attribution.gradcam import forward_to_layers
from swin_core.attribution.layers import layer_arrangement
from swin_core.attribution.methods import METHODS
from swin_core.attribution.targets import image_targets
from tests.fixtures.grad_cam import raw_map

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("method", ["scorecam", "ablationcam", "kpcacam", "finercam", "shapleycam"])
def test_methods_equal_pytorch_grad_cam(resnet: nn.Module, x: Tensor, method: str) -> None:
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


def test_sess_equals_pytorch_grad_cam(resnet: nn.Module, x: Tensor) -> None:
    x = x[:1]
    target = int(resnet(x).argmax())
    peer = pytorch_grad_cam.SESS(resnet, [resnet.layer1], num_scales=6)
    theirs = peer.forward_single_image(x, ClassifierOutputTarget(target))
    resnet.zero_grad()
    ours = run_method(resnet, x, image_targets([target]), METHODS["sess"], ["layer1"]).maps[0][0][0].numpy()
    assert theirs.max() > 0
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4 * theirs.max())
    # Its crops are squares; ours have the image's shape, for which the layer's layout is known.
    wide = run_method(resnet, x[:, :, :48], image_targets([target]), METHODS["sess"], ["layer1"]).maps[0][0][0]
    assert wide.shape == (48, 64)
    assert wide.max() > 0


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
