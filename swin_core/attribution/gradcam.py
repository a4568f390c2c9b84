"""Grad-CAM (Selvaraju et al. 2017) and the engine of its family: one forward pass, gradients down to the target layers.

The forward pass keeps no graph before the earliest target layer; that layer's output becomes a leaf. Gradients are
taken from the logits to the outputs of the target layers only, not to parameters or to the image. Several classes,
layers and images share the forward pass.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_core.attribution.layers import find_layout, no_tensor, prefix_tokens, target_modules
from swin_core.attribution.method import Method
from swin_core.attribution.targets import Attribution, Target, TargetSelector
from swin_core.errors import LayerError
from swin_core.models.modes import evaluation_mode, watch_outputs
from swin_core.zoo.contract import LogitsModel, inner_model

__all__ = [
    "GRAD_CAM",
    "Activations",
    "CamFormula",
    "ReshapeTransform",
    "forward_to_layers",
    "layer_maps",
    "mean_gradient",
    "resize_maps",
]

ReshapeTransform = Callable[[Tensor], Tensor]
"""From a layer's output to `(B, C, h, w)`, as in pytorch-grad-cam."""


@dataclass(frozen=True)
class Activations:
    """Logits and target layer outputs of one forward pass."""

    logits: Tensor
    """`(B, classes)`, attached to the graph that starts at the earliest target layer."""
    outputs: dict[str, Tensor]
    """Output of each target layer, in the layer's own layout."""


@contextmanager
def forward_to_layers(model: nn.Module, x: Tensor, layers: Sequence[str]) -> Iterator[Activations]:
    """Run a model with a graph that starts at the earliest of the target layers.

    On exit, with or without an error, hooks are removed and training and gradient modes are restored. Hooks are
    visible to all threads, so calls on one model must hold its `Classifier.lock`.

    Args:
        model: any module from `(B, channels, H, W)` to logits.
        x: normalised images.
        layers: names as in `model.named_modules()`.

    Raises:
        LayerError: a layer is unknown, does not run, runs twice, or returns no tensor.
    """
    modules = target_modules(model, layers)
    outputs: dict[str, Tensor] = {}

    def capture(name: str, output: object) -> Tensor:
        if not isinstance(output, Tensor):
            raise no_tensor(name, output)
        if name in outputs:
            raise LayerError(f"layer {name!r} runs more than once in a forward pass; choose another one.")
        if not output.requires_grad:
            output = output.detach().requires_grad_()
            torch.set_grad_enabled(True)  # the graph starts here; the outer no_grad() restores the mode
        outputs[name] = output
        return output.clone()  # a later in-place operation must not change the captured output

    # Inference tensors cannot have gradients, and autocast would round the gradients to half precision.
    with torch.inference_mode(False), torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        with evaluation_mode(model), watch_outputs(modules, capture):
            logits = model(x.clone() if x.is_inference() else x)
        for name in layers:
            if name not in outputs:
                raise LayerError(f"layer {name!r} does not run in a forward pass; choose another one.")
        yield Activations(logits, outputs)


@dataclass
class SharedPasses:
    """Forward passes of one input that several calls share."""

    x: Tensor
    """The input, `(B, channels, H, W)`."""
    layers: tuple[str, ...] = ()
    """Layers to capture in each pass, beside those that a call needs."""
    passes: list[Activations] = field(default_factory=list)
    """The passes so far."""


_shared_passes: ContextVar[SharedPasses | None] = ContextVar("shared_passes", default=None)


@contextmanager
def share_passes(passes: SharedPasses | None) -> Iterator[None]:
    """Let `shared_forward` keep its passes in `passes`, and reuse them, for the length of a block."""
    token = _shared_passes.set(passes)
    try:
        yield
    finally:
        _shared_passes.reset(token)


@contextmanager
def shared_forward(model: nn.Module, x: Tensor, layers: Sequence[str]) -> Iterator[Activations]:
    """Run a model as `forward_to_layers` does, or reuse a pass of `share_passes` that captured these layers of `x`.

    The graph of a shared pass is used again, so its gradients must be taken with `retain_graph=True`.
    """
    shared = _shared_passes.get()
    if shared is None or shared.x is not x:
        with forward_to_layers(model, x, layers) as activations:
            yield activations
        return
    known = next((activations for activations in shared.passes if activations.outputs.keys() >= set(layers)), None)
    if known is None:
        with forward_to_layers(model, x, list(dict.fromkeys([*layers, *shared.layers]))) as known:
            shared.passes.append(known)
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
        yield Activations(known.logits, {name: known.outputs[name] for name in layers})


@dataclass(frozen=True)
class CamFormula:
    """The formula of a CAM method."""

    weigh: Callable[[Tensor, Tensor], Tensor]
    """From activations and gradients, `(B, C, h, w)`, to the map `(B, h, w)` before the ReLU. If `gradients` is False,
    both arguments are the activations."""
    gradients: bool = True
    """Whether the map depends on the gradients, and thereby on the class."""
    complete: bool = False
    """Whether the map equals activation x gradient where the rest of the model is linear; there it sums to the logit
    minus its bias."""


def layer_maps(
    model: nn.Module,
    x: Tensor,
    select: TargetSelector,
    layers: Sequence[str],
    reshape_transform: ReshapeTransform | None = None,
    *,
    formula: CamFormula,
) -> Attribution:
    """Maps of a CAM method for each target and layer, from one forward pass of the batch.

    The score of an image does not depend on the other images, so the gradient of the sum of scores holds the gradient
    of each.

    Args:
        model: any classifier.
        x: normalised images, `(B, channels, H, W)`.
        select: chooses the targets from the logits.
        layers: target layers by name.
        reshape_transform: from a layer's output to `(B, C, h, w)`; by default the layout is detected.
        formula: from activations and gradients to the map.

    Returns:
        Non-negative maps at each layer's own resolution. `completeness` is that of the first layer, if the formula and
        the model have the property there.

    Raises:
        TargetError: a class outside the model's classes.
        LayerError: a layer that cannot be explained.
    """
    with shared_forward(model, x, layers) as activations:
        logits = activations.logits.detach()
        targets = select(logits)
        outputs = [activations.outputs[name] for name in layers]
        arrange = _arrangements(model, x, activations.outputs, reshape_transform)
        values = [
            _at_least_float32(arrange[name](output.detach())) for name, output in zip(layers, outputs, strict=True)
        ]
        if not formula.gradients:
            maps = [formula.weigh(value, value).relu() for value in values]
            return Attribution(logits, targets, [maps for _ in targets])
        rows, completeness = [], []
        for number, target in enumerate(targets):
            score = target.score(activations.logits).sum()
            keep = number < len(targets) - 1 or _shared_passes.get() is not None
            at_layers = torch.autograd.grad(score, outputs, retain_graph=keep, allow_unused=True)
            gradients = [_gradient(*pair, arrange[pair[0]]) for pair in zip(layers, at_layers, strict=True)]
            rows.append([formula.weigh(*pair).relu() for pair in zip(values, gradients, strict=True)])
            if formula.complete:
                completeness.append(_completeness(model, values[0], gradients[0], logits, target))
    known = [value for value in completeness if value is not None]
    return Attribution(logits, targets, rows, known if known and len(known) == len(targets) else None)


def mean_gradient(activations: Tensor, gradients: Tensor) -> Tensor:
    """Selvaraju et al. 2017, eq. 1 and 2: `sum_k a_k A^k` with a_k the mean gradient of channel k over the grid."""
    return torch.einsum("bchw,bc->bhw", activations, gradients.mean((2, 3)))


GRAD_CAM = Method(
    "gradcam",
    "Grad-CAM",
    partial(layer_maps, formula=CamFormula(mean_gradient, complete=True)),
    "layer",
    "one pass",
    "Weights each channel by the mean gradient of the class score over the image (Selvaraju et al. 2017).",
)


def _gradient(name: str, gradient: Tensor | None, arrange: ReshapeTransform) -> Tensor:
    """The gradient at a layer as `(B, C, h, w)`."""
    if gradient is None:
        raise LayerError(f"the logits do not depend on layer {name!r}; choose another one.")
    arranged = arrange(gradient)
    if gradient.any() and not arranged.any():
        raise LayerError(f"only the class token of layer {name!r} reaches the logits; choose an earlier layer.")
    return _at_least_float32(arranged)


def _at_least_float32(values: Tensor) -> Tensor:
    """Convert half precision to float32, since sums over many values overflow in half precision."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def resize_maps(maps: Sequence[Tensor]) -> Tensor:
    """Resize the maps of L layers to the finest of their grids, `(..., L, h, w)`; bilinear, values are not rescaled.

    Args:
        maps: for each layer `(h, w)` or `(B, h, w)`.
    """
    grid = max((layer.shape[-2:] for layer in maps), key=lambda shape: shape[0] * shape[1])
    return torch.stack([_resize(layer, grid) for layer in maps], -3)


def _resize(maps: Tensor, grid: torch.Size) -> Tensor:
    if maps.shape[-2:] == grid:
        return maps
    planes = maps.view(-1, 1, *maps.shape[-2:])
    return F.interpolate(planes, grid, mode="bilinear", align_corners=False).view(*maps.shape[:-2], *grid)


def _arrangements(
    model: nn.Module, x: Tensor, outputs: dict[str, Tensor], reshape_transform: ReshapeTransform | None
) -> dict[str, ReshapeTransform]:
    """For each layer, the function from its output to `(B, C, h, w)`."""
    if reshape_transform is not None:
        for name, output in outputs.items():
            arranged: object = reshape_transform(output.detach())
            given = tuple(arranged.shape) if isinstance(arranged, Tensor) else type(arranged).__name__
            if not isinstance(arranged, Tensor) or arranged.dim() != 4 or len(arranged) != len(x):
                raise LayerError(f"the reshape_transform gives {given} for layer {name!r}, not (B, C, h, w).")
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
    """|sum of the signed map + bias - score| of each image, `(B,)`, if the model is linear behind the layer.

    With mean pooling and a linear head, the gradient in every cell is the head's row divided by the number of cells,
    and the signed map sums to the logit minus its bias. None if the gradient differs from that.
    """
    if isinstance(model, LogitsModel) and model.pair:
        return None
    model = inner_model(model)
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
    """Rows of the head's weight or bias for the target classes, minus those of the contrast classes, `(B, ...)`."""
    parameter = _at_least_float32(parameter.detach())
    chosen = parameter[target.classes]
    return chosen if target.against is None else chosen - parameter[target.against]
