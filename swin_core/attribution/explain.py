"""Explanations: what a model looked at in an image, for a class, at a layer."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from swin_core.attribution.defaults import default_method
from swin_core.attribution.dispatch import attribute, chosen_layers, chosen_method, run_method
from swin_core.attribution.explanation import Explanation
from swin_core.attribution.gradcam import resize_maps
from swin_core.attribution.layers import default_layer, offered_layers, reshape_transform_for, stage_layers
from swin_core.attribution.methods import METHOD_FACTS, METHODS, NOT_OFFERED
from swin_core.attribution.targets import RUNNER_UP, Attribution, image_targets
from swin_core.class_names import find_class
from swin_core.errors import ConfigError, ImageError, TargetError, first_names
from swin_core.images.read import read_image
from swin_core.zoo.classifier import Classifier

__all__ = [
    "FUSIONS",
    "METHODS",
    "METHOD_FACTS",
    "NOT_OFFERED",
    "RUNNER_UP",
    "Explanation",
    "attribute",
    "default_layer",
    "default_method",
    "explain",
    "offered_layers",
    "reshape_transform_for",
    "stage_layers",
]

FUSIONS = ("mean", "max")
"""Ways in which maps of several layers become one."""

_PICTURE_SIDE = 512  # pixels; enough for a cell of the grid on a screen


def explain(
    classifier: Classifier,
    image: Image.Image | str | Path,
    targets: Sequence[int | str] | int | str | None = None,
    method: str | None = None,
    layers: Sequence[str] | str | None = None,
    reshape_transform: Callable[[Tensor], Tensor] | None = None,
    *,
    against: Sequence[int | str] | int | str | None = None,
    fuse: str | None = None,
) -> Explanation:
    """What a model looked at in an image, for each class and layer.

    Safe under concurrent calls: calls on one model wait for each other. No hook, gradient or mode stays behind.

    Args:
        classifier: the model with its preprocessing.
        image: an image as `read_image` returns it, or the path of an image file.
        targets: classes by index or by name, one or K of them; None for the likeliest class.
        method: a key of `METHODS`; None for the best one measured for the architecture, of those that take a layer if
            layers are named.
        layers: target layers by name, one or L of them; None for the default of the architecture. A method that
            explains the pixels takes none; relevance propagation also takes the stages of our Swin.
        reshape_transform: from a layer's output to `(B, C, h, w)`, for layouts that cannot be found.
        against: explain the targets rather than this class: by index or name, one for all or one a target, or
            "runner-up" for the likeliest other class. The top class is then explained rather than the second, and any
            other class, such as the label, rather than the prediction.
        fuse: make one map of several layers: their "mean" or "max", each map divided by its own mean first, so that
            no layer drowns in another's larger numbers. Its values are multiples of that mean.

    Returns:
        Maps `(K, L, h, w)`, not rescaled, and non-negative unless the method has a sign; of several layers on the
        finest of their grids, or `(K, 1, h, w)` fused.

    Raises:
        ConfigError: an unknown method or fusion, or labels that do not fit the logits.
        ImageError: no image, or one of a single colour.
        TargetError: a class that the model does not have.
        LayerError: a layer that does not exist or has no grid.
    """
    if method is None:
        method = default_method(classifier, at_layer=layers is not None or reshape_transform is not None)
    known = chosen_method(method, compares=against is not None)
    if fuse is not None and fuse not in FUSIONS:
        raise ConfigError(f"maps can be fused by {' or '.join(FUSIONS)}, not {fuse!r}.")
    if isinstance(image, str | Path):
        image = read_image(image)
    if not isinstance(image, Image.Image):
        raise ImageError(f"explain takes an image as read_image returns it, or a path, not {type(image).__name__}.")
    image = image.convert("RGB")
    select = image_targets(_indices(classifier, targets), _others(classifier, against), classifier.labels)
    names = chosen_layers(classifier, known, layers)
    view = classifier.view(image)
    if (view == view[:1, :1]).all():
        raise ImageError("the image is of a single colour, so that no place in it differs; choose another one.")
    with classifier.lock:
        found = run_method(classifier.model, classifier.tensor(view), select, known, names, reshape_transform)
    return _explanation(classifier, image, view, found, method, names, fuse)


def _explanation(
    classifier: Classifier,
    image: Image.Image,
    view: np.ndarray,
    found: Attribution,
    method: str,
    layers: tuple[str, ...],
    fuse: str | None,
) -> Explanation:
    logits = found.logits[0].float()
    if len(logits) != classifier.num_classes:
        raise ConfigError(f"{classifier.name} has {classifier.num_classes} labels for {len(logits)} logits.")
    maps = torch.stack([resize_maps([one[0].float() for one in row]) for row in found.maps])
    others = [int(one.against[0]) for one in found.targets if one.against is not None]
    return Explanation(
        model=classifier.name,
        method=method,
        labels=classifier.labels,
        weights_hash=classifier.weights_hash,
        view=view,
        picture=_picture(classifier, image),
        logits=logits.cpu().numpy(),
        probabilities=logits.softmax(-1).cpu().numpy(),
        targets=tuple(int(one.classes[0]) for one in found.targets),
        layers=layers if fuse is None else (" + ".join(layers),),
        maps=(maps if fuse is None else _fused(maps, fuse)).cpu().numpy(),
        region=classifier.region(image),
        completeness=None if found.completeness is None else torch.cat(found.completeness).float().cpu().numpy(),
        against=tuple(others) if others else None,
        fused=fuse or "",
        threads=torch.get_num_threads(),
    )


def _fused(maps: Tensor, fuse: str) -> Tensor:
    """One map of several layers', `(K, L, h, w)` to `(K, 1, h, w)`; an empty one stays empty."""
    means = maps.abs().mean((2, 3), keepdim=True)
    scaled = torch.where(means > 0, maps / means, 0)
    return scaled.mean(1, keepdim=True) if fuse == "mean" else scaled.amax(1, keepdim=True)


def _picture(classifier: Classifier, image: Image.Image) -> np.ndarray:
    """What the model sees of an image, at the image's own resolution or less, `(h0, w0, 3)` uint8."""
    crop = classifier.crop(image).copy()  # thumbnail() works in place, and the crop may be the caller's own image
    crop.thumbnail((_PICTURE_SIDE, _PICTURE_SIDE))
    return np.asarray(crop)


def _others(
    classifier: Classifier, against: Sequence[int | str] | int | str | None
) -> Sequence[int | str] | int | str | None:
    """The classes to compare with, by index; the runner-up is found when the logits are known."""
    if against is None:
        return None
    if isinstance(against, int | str):
        return against if against == RUNNER_UP else _index(classifier, against)
    return [other if other == RUNNER_UP else _index(classifier, other) for other in against]


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
    index = find_class(classifier.labels, target)
    if index is not None:
        return index
    raise TargetError(f"{classifier.name} has no class {target[:80]!r}; it knows {first_names(classifier.labels)}.")
