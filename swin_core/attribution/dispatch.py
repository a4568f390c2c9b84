"""Check and run an attribution method: maps of a batch of images, as tensors on the model's device."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from swin_core.attribution.gradcam import resize_maps
from swin_core.attribution.layers import default_layer
from swin_core.attribution.methods import INPUT, METHODS, NOT_OFFERED, Method
from swin_core.attribution.targets import Attribution, TargetSelector, batch_targets, check_one_each
from swin_core.errors import ConfigError, LayerError
from swin_core.system.batches import images_at_once
from swin_core.zoo.classifier import Classifier

Layers: TypeAlias = "Sequence[str | nn.Module] | str | nn.Module | None"
"""Target layers by name or module, one or several; None for the default of the architecture."""


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
    """Return attribution maps of a batch, for one target class of each image.

    A batch gives the same maps as its images one by one; on a CPU it is split into parts, since gradients take much
    memory. Safe to call from several threads: the model's lock is taken here, for one part at a time.

    Args:
        classifier: the model.
        batch: normalised images, `(B, C, H, W)`, as `Classifier.tensor` returns them.
        targets: target class of each image, `(B,)`.
        method: a key of `METHODS`.
        layers: target layers, one or L of them; None for the default of the architecture.
        against: contrast class of each image, `(B,)`: explain `logit[target] - logit[against]`.
        reshape_transform: from a layer's output to `(B, C, h, w)`, for layouts that are not detected.
        signed: keep the negative values of a signed method, as `explain` does.

    Returns:
        `(B, L, h, w)`, float32, not rescaled, non-negative unless signed; of several layers on the finest of their
        grids. L is 1 for methods that explain the pixels.

    Raises:
        ConfigError: an unknown method, or contrast classes for a method that does not depend on the class.
        TargetError: a class that the model does not have, or a number of classes that is not B.
        LayerError: a layer that does not exist or has no grid.
    """
    known = chosen_method(method, compares=against is not None)
    names = chosen_layers(classifier, known, layers)
    check_one_each(len(batch), targets, against)
    count = max(1, len(batch))
    step = images_at_once(batch.device, max(batch.shape[2:]), count, gradients=True)
    parts = []
    for start in range(0, count, step):
        part = slice(start, start + step)
        select = batch_targets(targets[part], None if against is None else against[part])
        with classifier.lock:
            result = run_method(classifier.logits_model, batch[part], select, known, names, reshape_transform)
        parts.append(resize_maps(result.maps[0]).float())
    maps = torch.cat(parts)
    return maps if signed else maps.relu()


def chosen_method(name: str, compares: bool = False) -> Method:
    """Return a method by name.

    Args:
        name: a key of `METHODS`.
        compares: whether contrast classes are given.

    Raises:
        ConfigError: an unknown method, or contrast classes for a method that does not depend on the class.
    """
    method = METHODS.get(name) if isinstance(name, str) else None
    if method is None:
        reason = NOT_OFFERED.get(str(name))
        raise ConfigError(reason or f"unknown method {name!r:.80}; known are {', '.join(METHODS)}.")
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
    given = list(layers) if isinstance(layers, Iterable) and not isinstance(layers, str | nn.Module) else [layers]
    names = tuple(layer if isinstance(layer, str) else _name_of(classifier, layer) for layer in given)
    if method.kind == "pixels" and not method.staged and names != (INPUT,):
        raise LayerError(f"{method.title} takes no layer; leave it out, or choose another method.")
    return names


def _name_of(classifier: Classifier, layer: object) -> str:
    if not isinstance(layer, nn.Module):
        raise LayerError(f"name a layer by a text such as 'layers.1', or by its module, not by {layer!r:.80}.")
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
