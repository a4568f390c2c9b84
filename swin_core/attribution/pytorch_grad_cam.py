"""Score-CAM, Ablation-CAM, ShapleyCAM, Finer-CAM, KPCA-CAM and SESS, on any layout of the layer's output.

The first three compute their weights here, from hooks that a call removes again. KPCA-CAM, Finer-CAM and SESS call
pytorch-grad-cam for the projection, the score and the crops.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from swin_core.attribution.cam_formulas import RULES, Rule, peak_up
from swin_core.attribution.gradcam import forward_to_layers, layer_maps
from swin_core.attribution.layers import layer_arrangement
from swin_core.attribution.targets import Attribution, Target, TargetSelector
from swin_core.errors import LayerError, TargetError
from swin_core.models.modes import evaluation_mode, frozen_parameters

__all__ = ["WRAPPED", "wrapped_maps"]

# pytorch_grad_cam is imported where it is needed: it brings pyplot and scikit-learn along.

Arrange = Callable[[Tensor], Tensor]

_BATCH = 32
"""Channels whose scores are computed in one forward pass."""
_CLOSEST = 3
"""Classes that Finer-CAM compares with, as in pytorch-grad-cam."""
_SCALES = 6
"""Scales of SESS, 31 crops of a square image: pytorch-grad-cam's twelve would be 122."""

_second_order = threading.Lock()
"""The choice of attention kernels is the whole process's."""


@dataclass(frozen=True)
class _Call:
    """One target at one layer."""

    model: nn.Module
    layer: str
    arrange: Arrange
    """From the layer's output to `(B, C, h, w)`."""
    x: Tensor
    """`(B, channels, H, W)`."""
    target: Target
    logits: Tensor
    """`(B, classes)`."""

    @property
    def module(self) -> nn.Module:
        """The target layer."""
        return self.model.get_submodule(self.layer)

    def output(self) -> Tensor:
        """The layer's output, as the layer returns it, without a graph."""
        with forward_to_layers(self.model, self.x, [self.layer]) as seen:
            return seen.outputs[self.layer].detach()

    def activations(self) -> Tensor:
        """The layer's output as `(B, C, h, w)` float32."""
        return self.arrange(self.output()).float()

    def scores(self, image: int, logits: Tensor) -> Tensor:
        """The score of an image's target for logits `(N, classes)`, `(N,)` float32."""
        rows = torch.full((len(logits),), image, device=self.target.classes.device)
        return self.target.take(rows).score(logits).float()


def wrapped_maps(
    model: nn.Module,
    x: Tensor,
    select: TargetSelector,
    layers: Sequence[str],
    method: str,
    reshape_transform: Arrange | None = None,
) -> Attribution:
    """Maps of a method of `WRAPPED` for each target and layer.

    Args:
        model: any classifier.
        x: normalised images, `(B, channels, H, W)`.
        select: chooses the targets from the logits.
        layers: target layers by name.
        method: a key of `WRAPPED`.
        reshape_transform: from a layer's output to `(B, C, h, w)`; None finds the layout.

    Raises:
        TargetError: a class outside the model's.
        LayerError: a layer that cannot be explained.
    """
    # Grad-CAM first: it checks the layers and the logits with clear messages, and finds the targets.
    found = layer_maps(model, x, select, layers, RULES["gradcam"], reshape_transform)
    compute, by_class = WRAPPED[method]
    rows: list[list[Tensor]] = []
    for target in found.targets:
        if rows and not by_class:
            rows.append(rows[0])
            continue
        row = []
        for name in layers:
            arrange = reshape_transform or layer_arrangement(model, name, (x.shape[2], x.shape[3]))
            call = _Call(model, name, arrange, x.clone(), target, found.logits)
            with (
                torch.inference_mode(False),
                torch.autocast(x.device.type, enabled=False),
                evaluation_mode(model),
                frozen_parameters(model),
            ):
                row.append(compute(call).relu())
        rows.append(row)
    return Attribution(found.logits, found.targets, rows)


@torch.no_grad()
def _score_cam(call: _Call) -> Tensor:
    """Score-CAM (Wang et al. 2020, eq. 5 to 7), `(B, h, w)`.

    A channel's weight is the softmax, over the channels, of the score of the image times the channel's activation,
    scaled to 0 to 1.
    """
    activations = call.activations()
    weights = []
    for number, image in enumerate(call.x):
        scores = []
        for channels in activations[number].split(_BATCH):
            size = (image.shape[-2], image.shape[-1])
            masks = F.interpolate(channels[:, None], size, mode="bilinear", align_corners=True)
            low, high = masks.amin((2, 3), keepdim=True), masks.amax((2, 3), keepdim=True)
            masked = image * ((masks - low) / (high - low + 1e-8))
            scores.append(call.scores(number, call.model(masked.to(image))))
        weights.append(torch.cat(scores).softmax(0))
    return torch.einsum("bchw,bc->bhw", activations, torch.stack(weights))


@torch.no_grad()
def _ablation_cam(call: _Call) -> Tensor:
    """Ablation-CAM (Desai and Ramaswamy 2020, eq. 3), `(B, h, w)`.

    A channel's weight is the fall of the score when the channel is set to 0, without the paper's division by the score:
    a negative score would turn the map over.
    """
    output = call.output()
    activations = call.arrange(output).float()
    weights = []
    for number in range(len(call.x)):
        scores = []
        for channels in torch.arange(activations.shape[1], device=output.device).split(_BATCH):
            ablated = output[number : number + 1].repeat_interleave(len(channels), 0)
            arranged = call.arrange(ablated)
            if arranged.untyped_storage().data_ptr() != ablated.untyped_storage().data_ptr():
                raise LayerError("the reshape_transform must return a view of the layer's output for Ablation-CAM.")
            arranged[torch.arange(len(channels), device=output.device), channels] = 0
            with _replaced(call.module, ablated):
                images = call.x[number : number + 1].expand(len(channels), -1, -1, -1)
                scores.append(call.scores(number, call.model(images)))
        weights.append(call.scores(number, call.logits[number : number + 1]) - torch.cat(scores))
    return torch.einsum("bchw,bc->bhw", activations, torch.stack(weights))


@contextmanager
def _replaced(module: nn.Module, output: Tensor) -> Iterator[None]:
    """Let a layer return `output` in this thread, whatever its input."""
    thread = threading.get_ident()
    hook = module.register_forward_hook(lambda *_: output if threading.get_ident() == thread else None)
    try:
        yield
    finally:
        hook.remove()


def _shapley_cam(call: _Call) -> Tensor:
    """ShapleyCAM (Cai 2025), `(B, h, w)`: Grad-CAM of the gradient less half of the Hessian times the activations."""
    # The fused attention kernels have no second derivative.
    with _second_order, sdpa_kernel(SDPBackend.MATH), forward_to_layers(call.model, call.x, [call.layer]) as seen:
        output = seen.outputs[call.layer]
        (gradient,) = torch.autograd.grad(call.target.score(seen.logits).sum(), output, create_graph=True)
        if gradient.requires_grad:  # else the score is linear in the activations
            (product,) = torch.autograd.grad(gradient, output, output.detach(), allow_unused=True)
            gradient = gradient if product is None else gradient - product / 2
        weights = call.arrange(gradient.detach()).float().mean((2, 3))
        return torch.einsum("bchw,bc->bhw", call.arrange(output.detach()).float(), weights)


@dataclass(frozen=True)
class _FinerTarget(Target):
    """A class compared with the closest ones, weighted by their probability."""

    scores: tuple[Callable[[Tensor], Tensor], ...] = ()
    """For each image from logits `(classes,)` to its score."""

    def score(self, logits: Tensor) -> Tensor:
        return torch.stack([score(row) for score, row in zip(self.scores, logits, strict=True)])


def _finer_cam(call: _Call) -> Tensor:
    """Finer-CAM (Zhang et al. 2025), `(B, h, w)`: Grad-CAM of the class less the closest ones, or the one asked for."""
    from pytorch_grad_cam.utils.model_targets import FinerWeightedTarget

    if call.logits.shape[1] < 2:
        raise TargetError("Finer-CAM compares classes and the model has a single one; choose another method.")
    scores = []
    for image, index in enumerate(call.target.classes.tolist()):
        distance = (call.logits[image] - call.logits[image, index]).abs()
        distance[index] = float("inf")
        closest = distance.argsort()[: min(_CLOSEST, len(distance) - 1)].tolist()
        others = closest if call.target.against is None else [int(call.target.against[image])]
        scores.append(FinerWeightedTarget(index, others, 1))
    target = _FinerTarget(call.target.classes, call.target.against, tuple(scores))
    rule = Rule(RULES["gradcam"].weigh)
    return layer_maps(call.model, call.x, lambda _: [target], [call.layer], rule, call.arrange).maps[0][0]


def _kpca_cam(call: _Call) -> Tensor:
    """KPCA-CAM (Karmani et al. 2024), `(B, h, w)`; the component has no sign, so its greatest magnitude is positive."""
    from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection_kernel

    found = get_2d_projection_kernel(call.activations().cpu().numpy())
    return peak_up(torch.from_numpy(np.nan_to_num(found)).to(call.x.device))


def _sess(call: _Call) -> Tensor:
    """SESS (Tursun et al. 2022), `(B, H, W)`, relative: Grad-CAM of crops at several scales, put together."""
    from pytorch_grad_cam import SESS

    # In float32, since NumPy knows no bfloat16.
    cam = SESS(call.model, [call.module], lambda output: call.arrange(output).float(), num_scales=_SCALES)
    # What follows a layer may work in place: what was captured must not change with it.
    hook = call.module.register_forward_hook(lambda _module, _inputs, output: output.clone())
    try:
        cam.base_cam.compute_input_gradient = True  # the parameters are frozen
        maps = []
        with torch.enable_grad():
            for number, image in enumerate(call.x.split(1)):
                maps.append(cam.forward_single_image(image, _target(call, number)))
        return torch.from_numpy(np.asarray(maps, np.float32)).to(call.x.device)
    finally:
        hook.remove()
        # Its own release() fails where a captured tensor is a view.
        cam.base_cam.activations_and_grads.activations = []
        cam.base_cam.activations_and_grads.gradients = []
        cam.base_cam.activations_and_grads.release()


def _target(call: _Call, image: int) -> Callable[[Tensor], Tensor]:
    """The target of an image as pytorch-grad-cam has it: from `(..., classes)` to the score `(...)`."""
    return lambda logits: call.scores(image, logits.reshape(-1, logits.shape[-1])).view(logits.shape[:-1])


WRAPPED: dict[str, tuple[Callable[[_Call], Tensor], bool]] = {
    "kpcacam": (_kpca_cam, False),
    "finercam": (_finer_cam, True),
    "shapleycam": (_shapley_cam, True),
    "scorecam": (_score_cam, True),
    "ablationcam": (_ablation_cam, True),
    "sess": (_sess, True),
}
"""From a method's name to its maps, and whether they depend on the class."""
