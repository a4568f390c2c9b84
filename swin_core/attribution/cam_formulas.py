"""The CAM family beyond Grad-CAM: formulas from a layer's activations and gradients to a map.

Each formula takes activations A and gradients G of the score, both `(B, C, h, w)`, and returns `(B, h, w)` before the
final ReLU. Sums and small constants follow pytorch-grad-cam, so that the maps equal its own.
"""

from functools import partial

import numpy as np
import torch
from torch import Tensor

from swin_core.attribution.gradcam import CamFormula, layer_maps
from swin_core.attribution.method import Method

__all__ = ["peak_up"]


def _grad_cam_plus_plus(activations: Tensor, gradients: Tensor) -> Tensor:
    """Chattopadhay et al. 2018, eq. 7 and 19, for the exponential of the score."""
    square = gradients**2
    total = activations.sum((2, 3), keepdim=True)
    alpha = square / (2 * square + total * square * gradients + 1e-6)
    alpha = torch.where(gradients != 0, alpha, 0)
    return torch.einsum("bchw,bc->bhw", activations, (gradients.relu() * alpha).sum((2, 3)))


GRAD_CAM_PLUS_PLUS = Method(
    "gradcamplusplus",
    "Grad-CAM++",
    partial(layer_maps, formula=CamFormula(_grad_cam_plus_plus)),
    "layer",
    "one pass",
    "Grad-CAM that weights cells with a large gradient more, for images with several objects (Chattopadhay et al. "
    "2018).",
)


def _hires_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Draelos and Carin 2020, eq. 5: the sum over channels of `G^k A^k`."""
    return (activations * gradients).sum(1)


HIRES_CAM = Method(
    "hirescam",
    "HiResCAM",
    partial(layer_maps, formula=CamFormula(_hires_cam, complete=True)),
    "layer",
    "one pass",
    "Multiplies activation and gradient cell by cell, without averaging the gradient (Draelos and Carin 2020).",
)


def _x_grad_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Fu et al. 2020, eq. 9: Grad-CAM with the gradient's mean weighted by the activation."""
    total = activations.sum((2, 3))
    return torch.einsum("bchw,bc->bhw", activations, (activations * gradients).sum((2, 3)) / (total + 1e-7))


X_GRAD_CAM = Method(
    "xgradcam",
    "XGrad-CAM",
    partial(layer_maps, formula=CamFormula(_x_grad_cam, complete=True)),
    "layer",
    "one pass",
    "Grad-CAM that averages the gradient with the activation as the weight of each cell (Fu et al. 2020).",
)


def _layer_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Jiang et al. 2021, eq. 5 and 6: the sum over channels of `ReLU(G^k) A^k`."""
    return (activations * gradients.relu()).sum(1)


LAYER_CAM = Method(
    "layercam",
    "LayerCAM",
    partial(layer_maps, formula=CamFormula(_layer_cam)),
    "layer",
    "one pass",
    "Multiplies activation and positive gradient cell by cell, which suits early layers (Jiang et al. 2021).",
)


def _elementwise(activations: Tensor, gradients: Tensor) -> Tensor:
    """pytorch-grad-cam's GradCAMElementWise: the sum over channels of `ReLU(G^k A^k)`."""
    return (activations * gradients).relu().sum(1)


ELEMENTWISE = Method(
    "elementwise",
    "Grad-CAM, element by element",
    partial(layer_maps, formula=CamFormula(_elementwise)),
    "layer",
    "one pass",
    "Adds up the positive products of activation and gradient (pytorch-grad-cam's GradCAMElementWise).",
)


def _centred(features: Tensor) -> Tensor:
    return features - features.mean((2, 3), keepdim=True)


def _first_component(centred: Tensor) -> Tensor:
    """Project each cell of `(B, C, h, w)` on the first principal component over the cells; the sign is arbitrary."""
    cells = centred.flatten(2).transpose(1, 2)  # (B, h * w, C)
    left, strength, _ = torch.linalg.svd(cells, full_matrices=False)
    return (left[..., 0] * strength[:, :1]).unflatten(1, centred.shape[2:])


def peak_up(maps: Tensor) -> Tensor:
    """Flip the sign of maps `(B, h, w)` whose largest magnitude is negative (Chung and Ying 2025, eq. 13)."""
    flip = -maps.amin((1, 2), keepdim=True) > maps.amax((1, 2), keepdim=True)
    return torch.where(flip, -maps, maps)


def _eigen_cam(activations: Tensor, _: Tensor) -> Tensor:
    """Muhammad and Yeasin 2020: the activations projected on their first principal component.

    The sign of a component is arbitrary; here the largest magnitude is positive (Chung and Ying 2025, eq. 13).
    """
    return peak_up(_first_component(_centred(activations)))


EIGEN_CAM = Method(
    "eigencam",
    "EigenCAM",
    partial(layer_maps, formula=CamFormula(_eigen_cam, gradients=False)),
    "layer",
    "one pass",
    "The first principal component of the activations; the same for every class (Muhammad and Yeasin 2020).",
    by_class=False,
)


def _eigen_grad_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """EigenCAM of activation x gradient, with the sign that agrees with the sum over channels."""
    evidence = _centred(activations * gradients)
    maps = _first_component(evidence)
    flip = (maps * evidence.sum(1)).sum((1, 2), keepdim=True) < 0
    return torch.where(flip, -maps, maps)


EIGEN_GRAD_CAM = Method(
    "eigengradcam",
    "Eigen-Grad-CAM",
    partial(layer_maps, formula=CamFormula(_eigen_grad_cam)),
    "layer",
    "one pass",
    "The first principal component of activation x gradient (Muhammad and Yeasin 2020, with gradients).",
)


def _seg_eigen_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Chung and Ying 2025, eq. 10 to 13: EigenCAM of activation x |gradient|."""
    return peak_up(_first_component(_centred(activations * gradients.abs())))


SEG_EIGEN_CAM = Method(
    "segeigencam",
    "Seg-Eigen-CAM",
    partial(layer_maps, formula=CamFormula(_seg_eigen_cam)),
    "layer",
    "one pass",
    "The first principal component of activation x magnitude of the gradient (Chung and Ying 2025).",
)


def _kpca_cam(activations: Tensor, _: Tensor) -> Tensor:
    """Karmani et al. 2024: EigenCAM with kernel PCA; the largest magnitude is positive."""
    from sklearn.decomposition import KernelPCA  # takes a second to load

    maps = []
    for image in activations.float().cpu().numpy():
        cells = image.reshape(len(image), -1).T
        components = KernelPCA(1, kernel="sigmoid").fit_transform(cells - cells.mean(0))
        maps.append(np.nan_to_num(components.reshape(image.shape[1:])))
    return peak_up(torch.from_numpy(np.stack(maps).astype(np.float32)).to(activations.device))


KPCA_CAM = Method(
    "kpcacam",
    "KPCA-CAM",
    partial(layer_maps, formula=CamFormula(_kpca_cam, gradients=False)),
    "layer",
    "one pass",
    "EigenCAM with a kernel, for non-linear patterns; the same for every class (Karmani et al. 2024).",
    by_class=False,
)


def _fem(activations: Tensor, _: Tensor) -> Tensor:
    """Fuad et al. 2020: weights each channel by the share of cells two standard deviations above its mean."""
    bound = activations.mean((2, 3), keepdim=True) + 2 * activations.std((2, 3), correction=0, keepdim=True)
    return torch.einsum("bchw,bc->bhw", activations, (activations > bound).to(activations).mean((2, 3)))


FEM = Method(
    "fem",
    "FEM",
    partial(layer_maps, formula=CamFormula(_fem, gradients=False)),
    "layer",
    "one pass",
    "Weights each channel by how often it is far above its mean; the same for every class (Fuad et al. 2020).",
    by_class=False,
)
