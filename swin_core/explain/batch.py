"""Attribution maps of a whole batch of pictures, one class each, as tensors on the model's device."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from swin_core.explain.cam import grad_cam, resize_maps
from swin_core.explain.layers import default_layer
from swin_core.zoo import Classifier

__all__ = ["attribute"]


def attribute(
    classifier: Classifier,
    batch: Tensor,
    targets: Tensor,
    method: str = "gradcam",
    layers: Sequence[str] | str | None = None,
    against: Tensor | None = None,
    reshape_transform: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Attribution maps of a batch, one class a picture.

    Args:
        classifier: the model; its lock is taken here.
        batch: normalised pictures, `(B, C, H, W)`, as `Classifier.tensor` gives them.
        targets: the class of each picture, `(B,)`.
        method: a key of `METHODS`.
        layers: target layers by name, one or L of them; None for the default of the architecture.
        against: explain `logit[target] - logit[against]` instead of the logit, `(B,)`.
        reshape_transform: from a layer's output to `(B, C, h, w)`, for layouts that cannot be found.

    Returns:
        `(B, L, h, w)`, float32, non-negative, not rescaled; of several layers on the finest of their grids.
    """
    layers = default_layer(classifier) if layers is None else layers
    names = [layers] if isinstance(layers, str) else list(layers)
    with classifier.lock:
        found = [
            grad_cam(classifier.model, picture[None], [int(target)], names, reshape_transform).maps[0]
            for picture, target in zip(batch, targets, strict=True)
        ]
    return torch.stack([resize_maps(row) for row in found])
