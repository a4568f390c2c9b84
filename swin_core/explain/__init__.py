"""Explanations: what a model looked at in a picture, for a class, at a layer."""

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image
from torch import Tensor

from swin_core.errors import ConfigError, ImageError, TargetError, listed
from swin_core.explain.cam import grad_cam, resize_maps
from swin_core.explain.explanation import Explanation
from swin_core.explain.figure import class_index
from swin_core.explain.layers import default_layer, offered_layers, reshape_transform_for
from swin_core.zoo import Classifier

__all__ = [
    "METHODS",
    "Explanation",
    "default_layer",
    "explain",
    "offered_layers",
    "reshape_transform_for",
]

METHODS = {"gradcam": "Grad-CAM"}
"""Attribution methods: the name that `explain` takes, and the name to show."""

_PICTURE_SIDE = 512  # pixels; enough for a cell of the grid on a screen


def explain(
    classifier: Classifier,
    image: Image.Image,
    targets: Sequence[int | str] | int | str | None = None,
    method: str = "gradcam",
    layers: Sequence[str] | str | None = None,
    reshape_transform: Callable[[Tensor], Tensor] | None = None,
) -> Explanation:
    """What a model looked at in a picture, for each class and layer.

    Safe under concurrent calls: calls on one model wait for each other. No hook, gradient or mode stays behind.

    Args:
        classifier: the model with its preprocessing.
        image: a picture, RGB, as `read_image` gives it.
        targets: classes by index or by name, one or K of them; None for the likeliest class.
        method: a key of `METHODS`.
        layers: target layers by name, one or L of them; None for the default of the architecture.
        reshape_transform: from a layer's output to `(B, C, h, w)`, for layouts that cannot be found.

    Returns:
        Maps `(K, L, h, w)`, non-negative and not rescaled; of several layers on the finest of their grids.

    Raises:
        ConfigError: an unknown method, or labels that do not fit the logits.
        ImageError: no picture.
        TargetError: a class that the model does not have.
        LayerError: a layer that does not exist or has no grid.
    """
    if method not in METHODS:
        raise ConfigError(f"unknown method {method!r}; known are {', '.join(METHODS)}.")
    if not isinstance(image, Image.Image):
        raise ImageError(f"explain takes a picture as read_image gives it, not {type(image).__name__}.")
    image = image.convert("RGB")
    indices = _indices(classifier, targets)
    layers = default_layer(classifier) if layers is None else layers
    names = (layers,) if isinstance(layers, str) else tuple(layers)
    view = classifier.view(image)
    with classifier.lock:
        found = grad_cam(classifier.model, classifier.tensor(view), indices, names, reshape_transform)
    if len(found.logits) != classifier.num_classes:
        raise ConfigError(f"{classifier.name} has {classifier.num_classes} labels for {len(found.logits)} logits.")
    maps = [resize_maps(row).cpu().numpy() for row in found.maps]
    crop = classifier.crop(image).copy()  # thumbnail() works in place, and the crop may be the caller's own picture
    crop.thumbnail((_PICTURE_SIDE, _PICTURE_SIDE))
    return Explanation(
        model=classifier.name,
        method=method,
        labels=classifier.labels,
        weights_hash=classifier.weights_hash,
        view=view,
        picture=np.asarray(crop),
        logits=found.logits.float().cpu().numpy(),
        probabilities=found.logits.float().softmax(-1).cpu().numpy(),
        targets=found.targets,
        layers=names,
        maps=np.stack(maps).astype(np.float32),
        region=classifier.region(image),
        completeness=None if found.completeness is None else found.completeness.float().cpu().numpy(),
    )


def _indices(classifier: Classifier, targets: Sequence[int | str] | int | str | None) -> list[int] | None:
    if targets is None:
        return None
    several = [targets] if isinstance(targets, str | int) else targets
    return [_index(classifier, target) for target in several]


def _index(classifier: Classifier, target: int | str) -> int:
    if not isinstance(target, str):
        if target != int(target):
            raise TargetError(f"a class is named by its index or its name, not by {target}.")
        return int(target)
    index = class_index(classifier.labels, target)
    if index is not None:
        return index
    raise TargetError(f"{classifier.name} has no class {target[:80]!r}; it knows {listed(classifier.labels)}.")
