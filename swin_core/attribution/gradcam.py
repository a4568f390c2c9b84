"""Grad-CAM (Selvaraju et al. 2017) and its family without a backward pass through the whole network.

The forward pass keeps no graph until the earliest target layer. There its output becomes the leaf of a small graph, and
gradients are taken from the logits to the target layers' outputs only: not to parameters, not to the image. Many
classes, layers and images come from that one forward pass.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_core.attribution.cam_formulas import RULES, Rule
from swin_core.attribution.layers import find_layout, prefix_tokens, target_modules
from swin_core.attribution.targets import Attribution, Target, TargetSelector, image_targets
from swin_core.errors import LayerError
from swin_core.models.modes import evaluation_mode

__all__ = ["Activations", "GradCam", "forward_to_layers", "grad_cam", "layer_maps", "resize_maps"]


@dataclass(frozen=True)
class Activations:
    """One forward pass and what the target layers gave in it."""

    logits: Tensor
    """`(B, classes)`, attached to the graph that starts at the earliest target layer."""
    outputs: dict[str, Tensor]
    """Each target layer's output, as the layer returned it."""


@contextmanager
def forward_to_layers(model: nn.Module, x: Tensor, layers: Sequence[str]) -> Iterator[Activations]:
    """Run a model with a graph that starts at the earliest of some layers.

    Modes, hooks and the thread's gradient mode are as before when the block is left, however it is left. Hooks
    belong to the module and not to a thread, so calls on one model must hold its `Classifier.lock`.

    Args:
        model: any module from `(B, channels, H, W)` to logits.
        x: the input.
        layers: names as in `model.named_modules()`.

    Raises:
        LayerError: a layer is unknown, does not run, runs twice, or returns no tensor.
    """
    modules = target_modules(model, layers)
    outputs: dict[str, Tensor] = {}
    thread = threading.get_ident()

    def capture(name: str) -> Callable[[nn.Module, object, object], Tensor | None]:
        def hook(module: nn.Module, inputs: object, output: object) -> Tensor | None:
            if threading.get_ident() != thread:
                return None
            if not isinstance(output, Tensor):
                raise LayerError(
                    f"layer {name!r} returns {type(output).__name__}, no tensor; choose a layer inside it."
                )
            if name in outputs:
                raise LayerError(f"layer {name!r} runs more than once in a forward pass; choose another one.")
            if not output.requires_grad:
                output = output.detach().requires_grad_()
                torch.set_grad_enabled(True)  # from here on the graph is kept; the outer no_grad() ends it
            outputs[name] = output
            return output.clone()  # an in-place operation behind the layer must not change what was captured

        return hook

    hooks = []
    # A tensor made in inference mode can have no gradient, and half precision would blur the gradients.
    with torch.inference_mode(False), torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        with evaluation_mode(model):
            try:
                hooks = [module.register_forward_hook(capture(name)) for name, module in modules.items()]
                logits = model(x.clone() if x.is_inference() else x)
            finally:
                for hook in hooks:
                    hook.remove()
        for name in layers:
            if name not in outputs:
                raise LayerError(f"layer {name!r} does not run in a forward pass; choose another one.")
        yield Activations(logits, outputs)


@dataclass(frozen=True)
class GradCam:
    """Maps of K classes at L layers of one image."""

    logits: Tensor
    """`(classes,)`."""
    targets: tuple[int, ...]
    """The explained classes, K of them."""
    maps: list[list[Tensor]]
    """For each class and layer the map `(h, w)`, non-negative, at the layer's own resolution."""
    completeness: Tensor | None
    """`(K,)`: |sum of activation x gradient + bias - logit| at the first layer, where it must be 0; else None."""


def grad_cam(
    model: nn.Module,
    x: Tensor,
    targets: Sequence[int] | None,
    layers: Sequence[str],
    reshape_transform: Callable[[Tensor], Tensor] | None = None,
) -> GradCam:
    """Grad-CAM of each class at each layer, from one forward pass (Selvaraju et al. 2017, eq. 1 and 2).

    `L = ReLU(sum_k a_k A^k)` with `a_k` the mean over the grid of the class's gradient at channel k.

    Args:
        model: any classifier.
        x: one normalised image, `(1, channels, H, W)`.
        targets: class indices; None for the likeliest class.
        layers: target layers by name.
        reshape_transform: from a layer's output to `(B, C, h, w)`, as in pytorch-grad-cam; None finds the layout.

    Raises:
        TargetError: a class outside the model's.
        LayerError: a layer that cannot be explained.
    """
    found = layer_maps(model, x, image_targets(targets), layers, RULES["gradcam"], reshape_transform)
    return GradCam(
        found.logits[0],
        tuple(int(target.classes[0]) for target in found.targets),
        [[one[0] for one in row] for row in found.maps],
        None if found.completeness is None else torch.cat(found.completeness),
    )


def layer_maps(
    model: nn.Module,
    x: Tensor,
    select: TargetSelector,
    layers: Sequence[str],
    rule: Rule,
    reshape_transform: Callable[[Tensor], Tensor] | None = None,
) -> Attribution:
    """Maps of a method of the CAM family, for each target and layer, from one forward pass of a whole batch.

    An image's score does not depend on the others', so the gradient of the scores' sum is that of each.

    Args:
        model: any classifier.
        x: normalised images, `(B, channels, H, W)`.
        select: chooses the targets from the logits.
        layers: target layers by name.
        rule: from activations and gradients to the map.
        reshape_transform: from a layer's output to `(B, C, h, w)`, as in pytorch-grad-cam; None finds the layout.

    Returns:
        Non-negative maps at each layer's own resolution. Completeness is that at the first layer, where the rule and
        the model have it.

    Raises:
        TargetError: a class outside the model's.
        LayerError: a layer that cannot be explained.
    """
    with forward_to_layers(model, x, layers) as seen:
        logits = seen.logits
        targets = select(logits.detach())
        arrange = _arrangements(model, x, seen.outputs, reshape_transform)
        activations = [_at_least_float32(arrange[name](seen.outputs[name].detach())) for name in layers]
        if not rule.gradients:
            maps = [rule.weigh(activation, activation).relu() for activation in activations]
            return Attribution(logits.detach(), targets, [maps for _ in targets])
        rows, completeness = [], []
        for place, target in enumerate(targets):
            score = target.score(logits)
            outputs = [seen.outputs[name] for name in layers]
            keep = place < len(targets) - 1
            gradients = torch.autograd.grad(score.sum(), outputs, retain_graph=keep, allow_unused=True)
            pulled = [_pulled(name, gradient, arrange[name]) for name, gradient in zip(layers, gradients, strict=True)]
            rows.append([rule.weigh(a, g).relu() for a, g in zip(activations, pulled, strict=True)])
            if rule.complete:
                completeness.append(_completeness(model, activations[0], pulled[0], logits.detach(), target))
    exact = [value for value in completeness if value is not None]
    return Attribution(logits.detach(), targets, rows, exact if exact and len(exact) == len(targets) else None)


def _pulled(name: str, gradient: Tensor | None, arrange: Callable[[Tensor], Tensor]) -> Tensor:
    """The gradient at a layer as `(B, C, h, w)`."""
    if gradient is None:
        raise LayerError(f"the logits do not depend on layer {name!r}; choose another one.")
    pulled = arrange(gradient)
    if gradient.any() and not pulled.any():
        raise LayerError(f"only the class token of layer {name!r} reaches the logits; choose an earlier layer.")
    return _at_least_float32(pulled)


def _at_least_float32(values: Tensor) -> Tensor:
    """The values in float32 if they are in half precision, which sums of many of them would overflow."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def resize_maps(maps: Sequence[Tensor]) -> Tensor:
    """Maps of L layers on the finest of their grids, `(..., L, h, w)`; bilinear, values are not rescaled.

    Args:
        maps: for each layer `(h, w)` or `(B, h, w)`.
    """
    grid = max((tuple(one.shape[-2:]) for one in maps), key=lambda shape: shape[0] * shape[1])
    fine = [
        one
        if tuple(one.shape[-2:]) == grid
        else F.interpolate(one.view(-1, 1, *one.shape[-2:]), grid, mode="bilinear", align_corners=False).view(
            *one.shape[:-2], *grid
        )
        for one in maps
    ]
    return torch.stack(fine, -3)


def _arrangements(
    model: nn.Module,
    x: Tensor,
    outputs: dict[str, Tensor],
    reshape_transform: Callable[[Tensor], Tensor] | None,
) -> dict[str, Callable[[Tensor], Tensor]]:
    """For each layer, how its output becomes `(B, C, h, w)`."""
    if reshape_transform is not None:
        for name, output in outputs.items():
            shape = tuple(reshape_transform(output.detach()).shape)
            if len(shape) != 4 or shape[0] != len(x):
                raise LayerError(f"the reshape_transform gives {shape} for layer {name!r}, not (B, C, h, w).")
        return dict.fromkeys(outputs, reshape_transform)
    modules = target_modules(model, list(outputs))
    size = (x.shape[2], x.shape[3])
    return {
        name: find_layout(name, modules[name], output, size, len(x), prefix_tokens(model)).channels_first
        for name, output in outputs.items()
    }


def _completeness(
    model: nn.Module, activation: Tensor, gradient: Tensor, logits: Tensor, target: Target
) -> Tensor | None:
    """How far the signed maps' sums are from the explained scores, `(B,)`, where the model is linear behind the layer.

    With mean pooling and a linear head the gradient in every cell is the head's row over the number of cells, and the
    signed map sums to the logit less its bias. None where the gradient is another one.
    """
    get_classifier = getattr(model, "get_classifier", None)
    head = get_classifier() if callable(get_classifier) else getattr(model, "head", None)
    if not isinstance(head, nn.Linear) or head.weight.shape != (logits.shape[1], activation.shape[1]):
        return None
    row = _of_classes(head.weight, target) / gradient[0, 0].numel()
    expected = row[:, :, None, None].expand_as(gradient)
    if not torch.allclose(gradient, expected, rtol=1e-3, atol=1e-6 * float(row.abs().max())):
        return None
    bias = 0.0 if head.bias is None else _of_classes(head.bias, target).double()
    total = (activation * gradient).double().sum((1, 2, 3))
    return (total + bias - target.score(logits)).abs()


def _of_classes(parameter: Tensor, target: Target) -> Tensor:
    """The head's rows or biases that make the explained scores, `(B, ...)`."""
    parameter = _at_least_float32(parameter.detach())
    chosen = parameter[target.classes]
    return chosen if target.against is None else chosen - parameter[target.against]
