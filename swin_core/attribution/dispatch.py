"""Every attribution method behind one call: maps of a whole batch of images, as tensors on the model's device."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from torch import Tensor, nn

from swin_core.attribution.gradcam import resize_maps
from swin_core.attribution.layers import default_layer
from swin_core.attribution.methods import INPUT, METHOD_FACTS, NOT_OFFERED, Method
from swin_core.attribution.targets import Attribution, TargetSelector, batch_targets
from swin_core.errors import ConfigError, LayerError
from swin_core.zoo.classifier import Classifier

Layers: TypeAlias = "Sequence[str | nn.Module] | str | nn.Module | None"
"""Target layers by name or module, one or several; None for the default of the architecture."""

__all__ = ["Layers", "attribute", "chosen_layers", "chosen_method", "run_method"]


def attribute(
    classifier: Classifier,
    batch: Tensor,
    targets: Tensor,
    method: str = "gradcam",
    layers: Layers = None,
    against: Tensor | None = None,
    reshape_transform: Callable[[Tensor], Tensor] | None = None,
    *,
    signed: bool = False,
) -> Tensor:
    """Attribution maps of a batch, one class an image; of the methods with one pass, from one forward pass.

    A batch gives what each of its images gives alone. Safe under concurrent calls: the model's lock is taken here.

    Args:
        classifier: the model.
        batch: normalised images, `(B, C, H, W)`, as `Classifier.tensor` gives them.
        targets: the class of each image, `(B,)`.
        method: a key of `METHODS`.
        layers: target layers by name, one or L of them; None for the default of the architecture.
        against: explain `logit[target] - logit[against]` instead of the logit, `(B,)`.
        reshape_transform: from a layer's output to `(B, C, h, w)`, for layouts that cannot be found.
        signed: keep what is below zero in the maps of a method with a sign, as `explain` does.

    Returns:
        `(B, L, h, w)`, float32, not rescaled, non-negative unless signed; of several layers on the finest of their
        grids. L is 1 for a method that explains the pixels alone.

    Raises:
        ConfigError: an unknown method, or a comparison of classes where a method does not depend on the class.
        TargetError: a class outside the model's, or not one an image.
        LayerError: a layer that does not exist or has no grid.
    """
    known = chosen_method(method, compares=against is not None)
    names = chosen_layers(classifier, known, layers)
    with classifier.lock:
        found = run_method(classifier.model, batch, batch_targets(targets, against), known, names, reshape_transform)
    maps = resize_maps(found.maps[0]).float()
    return maps if signed else maps.relu()


def chosen_method(name: str, compares: bool = False) -> Method:
    """The facts of a method.

    Raises:
        ConfigError: an unknown method; or classes are to be compared where it does not depend on the class.
    """
    if name not in METHOD_FACTS:
        reason = NOT_OFFERED.get(name)
        raise ConfigError(reason or f"unknown method {name[:80]!r}; known are {', '.join(METHOD_FACTS)}.")
    method = METHOD_FACTS[name]
    if compares and not method.by_class:
        raise ConfigError(f"{method.title} is the same for every class; choose another method to compare two.")
    return method


def chosen_layers(classifier: Classifier, method: Method, layers: Layers) -> tuple[str, ...]:
    """Return the names of the layers to explain: `(INPUT,)` for a method that explains the pixels, unless it is staged.

    Raises:
        LayerError: the method takes no layer, a module is not part of the model, or no layer has a grid.
    """
    if layers is None:
        layers = INPUT if method.kind == "pixels" else default_layer(classifier)
    given = [layers] if isinstance(layers, str | nn.Module) else layers
    names = tuple(layer if isinstance(layer, str) else _name_of(classifier, layer) for layer in given)
    if method.kind == "pixels" and not method.staged and names != (INPUT,):
        raise LayerError(f"{method.title} takes no layer; leave it out, or choose another method.")
    return names


def _name_of(classifier: Classifier, layer: nn.Module) -> str:
    name = next((name for name, module in classifier.model.named_modules() if module is layer), None)
    if not name:
        raise LayerError(f"the {type(layer).__name__} given as a layer is not inside {classifier.name}.")
    return name


def run_method(
    model: nn.Module,
    x: Tensor,
    select: TargetSelector,
    method: Method,
    layers: Sequence[str],
    reshape_transform: Callable[[Tensor], Tensor] | None = None,
) -> Attribution:
    """Run a method; the caller holds the model's lock. See `attribute` for arguments and errors."""
    if method.kind == "layer":
        return method.function(model, x, select, layers, reshape_transform)
    return method.function(model, x, select, layers) if method.staged else method.function(model, x, select)
