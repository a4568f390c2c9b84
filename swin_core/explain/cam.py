"""Grad-CAM (Selvaraju et al. 2017) without the cost of a backward pass through the whole network.

The forward pass keeps no graph until the earliest target layer. There its output becomes the leaf of a small graph, and
gradients are taken from the logits to the target layers' outputs only: not to parameters, not to the picture. Many
classes and many layers come from that one forward pass.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_core.errors import LayerError, TargetError
from swin_core.explain.layers import find_layout, prefix_tokens, target_modules
from swin_core.modes import evaluation_mode

__all__ = ["Activations", "GradCam", "forward_to_layers", "grad_cam"]


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
    """Maps of K classes at L layers of one picture."""

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
        x: one normalised picture, `(1, channels, H, W)`.
        targets: class indices; None for the likeliest class.
        layers: target layers by name.
        reshape_transform: from a layer's output to `(B, C, h, w)`, as in pytorch-grad-cam; None finds the layout.

    Raises:
        TargetError: a class outside the model's.
        LayerError: a layer that cannot be explained.
    """
    with forward_to_layers(model, x, layers) as seen:
        logits = seen.logits
        if logits.dim() != 2:
            raise TargetError(f"the model gives {tuple(logits.shape)}, no logits (B, classes); explain a classifier.")
        chosen = check_targets(targets, logits[0])
        arrange = _arrangements(model, x, seen.outputs, reshape_transform)
        activations = {name: arrange[name](output.detach())[0] for name, output in seen.outputs.items()}
        maps, completeness = [], []
        for place, target in enumerate(chosen):
            gradients = torch.autograd.grad(
                logits[0, target],
                [seen.outputs[name] for name in layers],
                retain_graph=place < len(chosen) - 1,
                allow_unused=True,
            )
            row = []
            for name, gradient in zip(layers, gradients, strict=True):
                if gradient is None:
                    raise LayerError(f"the logits do not depend on layer {name!r}; choose another one.")
                pulled = arrange[name](gradient)[0]
                if gradient.any() and not pulled.any():
                    raise LayerError(
                        f"only the class token of layer {name!r} reaches the logits; choose an earlier layer."
                    )
                row.append(torch.einsum("chw,c->hw", activations[name], pulled.mean((1, 2))).relu())
                if name == layers[0]:
                    completeness.append(_completeness(model, activations[name], pulled, logits[0], target))
            maps.append(row)
    exact = [value for value in completeness if value is not None]
    whole = torch.stack(exact) if len(exact) == len(chosen) else None
    return GradCam(logits.detach()[0], chosen, maps, whole)


def check_targets(targets: Sequence[int] | None, logits: Tensor) -> tuple[int, ...]:
    """Class indices in range, or the likeliest class where None is asked for.

    Raises:
        TargetError: an index outside the model's classes, or no index.
    """
    if targets is None:
        return (int(logits.argmax()),)
    if not targets:
        raise TargetError("name at least one class.")
    for target in targets:
        if not 0 <= target < len(logits):
            raise TargetError(f"class {target} is outside the model's {len(logits)} classes, 0 to {len(logits) - 1}.")
    return tuple(int(target) for target in targets)


def resize_maps(maps: Sequence[Tensor]) -> Tensor:
    """Maps of several layers on the finest of their grids, `(L, h, w)`; bilinear, values are not rescaled."""
    grid = max((tuple(one.shape) for one in maps), key=lambda shape: shape[0] * shape[1])
    return torch.stack(
        [
            one
            if tuple(one.shape) == grid
            else F.interpolate(one[None, None], grid, mode="bilinear", align_corners=False)[0, 0]
            for one in maps
        ]
    )


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


def _completeness(model: nn.Module, activation: Tensor, gradient: Tensor, logits: Tensor, target: int) -> Tensor | None:
    """How far the signed map's sum is from the logit, where the model is linear behind the layer.

    With mean pooling and a linear head the gradient in every cell is the head's row over the number of cells, and the
    signed map sums to the logit less its bias. None where the gradient is another one.
    """
    get_classifier = getattr(model, "get_classifier", None)
    head = get_classifier() if callable(get_classifier) else getattr(model, "head", None)
    if not isinstance(head, nn.Linear) or head.weight.shape != (len(logits), len(activation)):
        return None
    row = head.weight[target].detach() / gradient[0].numel()
    if not torch.allclose(
        gradient, row[:, None, None].expand_as(gradient), rtol=1e-3, atol=1e-6 * float(row.abs().max())
    ):
        return None
    bias = 0.0 if head.bias is None else head.bias[target].double()
    return ((activation * gradient).double().sum() + bias - logits[target]).abs().detach()
