"""From a layer's activations and gradients to a map: the formulas of the CAM family.

Each takes activations A and gradients G of the explained score, both `(B, C, h, w)`, and gives `(B, h, w)`, before the
ReLU that all of them end with. Sums over places and channels are written out as in pytorch-grad-cam, with its small
constants, so that the maps equal its own.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["RULES", "Rule", "peak_up"]


@dataclass(frozen=True)
class Rule:
    """One method of the family."""

    weigh: Callable[[Tensor, Tensor], Tensor]
    """From activations and gradients to the map; without `gradients` both arguments are the activations."""
    gradients: bool = True
    """Whether the map depends on the gradients, and so on the class."""
    complete: bool = False
    """Whether the map is activation x gradient where the model is linear behind the layer: it then sums to the logit
    less its bias."""


def _grad_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Selvaraju et al. 2017, eq. 1 and 2: `sum_k a_k A^k`, with a_k the mean of channel k's gradient over the grid."""
    return torch.einsum("bchw,bc->bhw", activations, gradients.mean((2, 3)))


def _grad_cam_plus_plus(activations: Tensor, gradients: Tensor) -> Tensor:
    """Chattopadhay et al. 2018, eq. 7 and 19, for a score of which an exponential is taken."""
    square = gradients**2
    total = activations.sum((2, 3), keepdim=True)
    share = square / (2 * square + total * square * gradients + 1e-6)
    share = torch.where(gradients != 0, share, 0)
    return torch.einsum("bchw,bc->bhw", activations, (gradients.relu() * share).sum((2, 3)))


def _hires_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Draelos and Carin 2020, eq. 5: the sum over channels of `G^k A^k`."""
    return (activations * gradients).sum(1)


def _x_grad_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Fu et al. 2020, eq. 9: as Grad-CAM, but the mean weighs each place by its share of the channel's activation."""
    total = activations.sum((2, 3))
    return torch.einsum("bchw,bc->bhw", activations, (activations * gradients).sum((2, 3)) / (total + 1e-7))


def _layer_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Jiang et al. 2021, eq. 5 and 6: the sum over channels of `ReLU(G^k) A^k`."""
    return (activations * gradients.relu()).sum(1)


def _elementwise(activations: Tensor, gradients: Tensor) -> Tensor:
    """pytorch-grad-cam's GradCAMElementWise: the sum over channels of `ReLU(G^k A^k)`."""
    return (activations * gradients).relu().sum(1)


def _fem(activations: Tensor, _: Tensor) -> Tensor:
    """Fuad et al. 2020: each channel weighted by the share of places that are two deviations above its mean."""
    bound = activations.mean((2, 3), keepdim=True) + 2 * activations.std((2, 3), correction=0, keepdim=True)
    return torch.einsum("bchw,bc->bhw", activations, (activations > bound).to(activations).mean((2, 3)))


def _eigen_cam(activations: Tensor, _: Tensor) -> Tensor:
    """Muhammad and Yeasin 2020: the activations projected on their first principal component.

    A component has no sign of its own; here the greatest magnitude is positive (Chung and Ying 2025, eq. 13).
    """
    return peak_up(_first_component(_centred(activations)))


def _eigen_grad_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """The same of activation x gradient, with the sign with which the map goes along the evidence for the class."""
    evidence = _centred(activations * gradients)
    found = _first_component(evidence)
    against = (found * evidence.sum(1)).sum((1, 2), keepdim=True) < 0
    return torch.where(against, -found, found)


def _seg_eigen_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Chung and Ying 2025, eq. 10 to 13: the same of activation x |gradient|, its greatest magnitude positive."""
    return peak_up(_first_component(_centred(activations * gradients.abs())))


def _centred(features: Tensor) -> Tensor:
    return features - features.mean((2, 3), keepdim=True)


def _first_component(centred: Tensor) -> Tensor:
    """Projection of each place on the first principal component over the places, `(B, h, w)`, of either sign."""
    places = centred.flatten(2).transpose(1, 2)  # (B, h * w, C)
    left, strength, _ = torch.linalg.svd(places, full_matrices=False)
    return (left[..., 0] * strength[:, :1]).unflatten(1, centred.shape[2:])


def peak_up(found: Tensor) -> Tensor:
    """Maps `(B, h, w)`, turned over where the greatest magnitude is negative (Chung and Ying 2025, eq. 13)."""
    deeper = -found.amin((1, 2), keepdim=True) > found.amax((1, 2), keepdim=True)
    return torch.where(deeper, -found, found)


RULES: dict[str, Rule] = {
    "gradcam": Rule(_grad_cam, complete=True),
    "gradcamplusplus": Rule(_grad_cam_plus_plus),
    "hirescam": Rule(_hires_cam, complete=True),
    "xgradcam": Rule(_x_grad_cam, complete=True),
    "layercam": Rule(_layer_cam),
    "elementwise": Rule(_elementwise),
    "eigencam": Rule(_eigen_cam, gradients=False),
    "eigengradcam": Rule(_eigen_grad_cam),
    "segeigencam": Rule(_seg_eigen_cam),
    "fem": Rule(_fem, gradients=False),
}
"""The formulas by the name of their method."""
