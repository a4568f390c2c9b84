"""Explanations: what a model looked at in a picture, for a class, at a layer."""

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image
from torch import Tensor

from swin_core.errors import ConfigError, TargetError
from swin_core.explain.cam import grad_cam, resize_maps
from swin_core.explain.explanation import Explanation
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
    targets: Sequence[int | str] | None = None,
    method: str = "gradcam",
    layers: Sequence[str] | None = None,
    reshape_transform: Callable[[Tensor], Tensor] | None = None,
) -> Explanation:
    """What a model looked at in a picture, for each class and layer.

    Safe under concurrent calls: calls on one model wait for each other. No hook, gradient or mode stays behind.

    Args:
        classifier: the model with its preprocessing.
        image: a picture, RGB, as `read_image` gives it.
        targets: classes by index or by name, K of them; None for the likeliest class.
        method: a key of `METHODS`.
        layers: target layers by name, L of them; None for the default of the architecture.
        reshape_transform: from a layer's output to `(B, C, h, w)`, for layouts that cannot be found.

    Returns:
        Maps `(K, L, h, w)`, non-negative and not rescaled; of several layers on the finest of their grids.

    Raises:
        ConfigError: an unknown method.
        TargetError: a class that the model does not have.
        LayerError: a layer that does not exist or has no grid.
    """
    if method not in METHODS:
        raise ConfigError(f"unknown method {method!r}; known are {', '.join(METHODS)}.")
    indices = None if targets is None else [_index(classifier, target) for target in targets]
    names = (default_layer(classifier),) if layers is None else tuple(layers)
    view = classifier.view(image)
    with classifier.lock:
        found = grad_cam(classifier.model, classifier.tensor(view), indices, names, reshape_transform)
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
        completeness=None if found.completeness is None else found.completeness.float().cpu().numpy(),
    )


def _index(classifier: Classifier, target: int | str) -> int:
    if not isinstance(target, str):
        return int(target)
    names = [label.casefold() for label in classifier.labels]
    if target.casefold() in names:
        return names.index(target.casefold())
    raise TargetError(f"{classifier.name} has no class {target[:80]!r}; it knows {_some(classifier.labels)}.")


def _some(labels: Sequence[str]) -> str:
    return ", ".join(labels[:5]) + (f" and {len(labels) - 5} more" if len(labels) > 5 else "")
