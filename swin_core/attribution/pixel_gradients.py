"""Gradients at the pixels: the input gradient, SmoothGrad and integrated gradients.

Each is a weighted mean of the score's gradient over several inputs: the image itself, noisy copies of it, or points
between a grey image and it.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from swin_core.attribution.method import Method
from swin_core.attribution.targets import Attribution, Target, TargetSelector
from swin_core.models.modes import evaluation_mode, frozen_parameters
from swin_core.system.batches import images_at_once

__all__ = ["input_gradient", "integrated_gradients", "plain_logits", "smooth_grad"]

_AT_ONCE = 8
"""Most inputs in one forward pass, whose graph is in memory."""

MakeInputs = Callable[[Tensor, Tensor], Tensor]
"""From indices of images `(N,)` and of points `(N,)` to inputs of the model `(N, C, H, W)`."""


def input_gradient(model: nn.Module, x: Tensor, select: TargetSelector) -> Attribution:
    """Magnitude of the score's gradient at each pixel (Simonyan et al. 2014, section 3.1).

    Args:
        model: any classifier.
        x: normalised images, `(B, C, H, W)`.
        select: chooses the targets from the logits.

    Returns:
        Maps `(B, H, W)`, non-negative: the largest of a pixel's channels.
    """
    logits = plain_logits(model, x)
    targets = select(logits)
    gradients = _mean_gradients(model, targets, lambda image, _: x[image], x, [1.0])
    return Attribution(logits, targets, [[gradient.abs().amax(1)] for gradient in gradients])


INPUT_GRADIENT = Method(
    "gradient",
    "Input gradient",
    input_gradient,
    "pixels",
    "one pass",
    "How much a small change of each pixel changes the class score (Simonyan et al. 2014).",
)


def smooth_grad(
    model: nn.Module, x: Tensor, select: TargetSelector, samples: int = 25, noise: float = 0.15, seed: int = 0
) -> Attribution:
    """Mean input gradient over noisy copies of the image (Smilkov et al. 2017, section 2.2).

    Args:
        model: any classifier.
        x: normalised images, `(B, C, H, W)`.
        select: chooses the targets from the logits.
        samples: number of noisy copies.
        noise: standard deviation of the noise, as a share of the image's range of values.
        seed: seed of the noise. The noise is the same for all images, so the batch size does not change a map.

    Returns:
        Maps `(B, H, W)`, non-negative: the largest of a pixel's channels.
    """
    logits = plain_logits(model, x)
    targets = select(logits)
    generator = torch.Generator().manual_seed(seed)
    noises = torch.randn(samples, *x.shape[1:], generator=generator).to(x)
    deviation = noise * (x.amax((1, 2, 3), keepdim=True) - x.amin((1, 2, 3), keepdim=True))

    def noisy(image: Tensor, sample: Tensor) -> Tensor:
        return x[image] + deviation[image] * noises[sample]

    gradients = _mean_gradients(model, targets, noisy, x, [1 / samples] * samples)
    return Attribution(logits, targets, [[gradient.abs().amax(1)] for gradient in gradients])


SMOOTH_GRAD = Method(
    "smoothgrad",
    "SmoothGrad",
    smooth_grad,
    "pixels",
    "many passes",
    "Mean input gradient over noisy copies of the image (Smilkov et al. 2017).",
)


def integrated_gradients(model: nn.Module, x: Tensor, select: TargetSelector, steps: int = 32) -> Attribution:
    """The gradient integrated from a grey image to this one (Sundararajan et al. 2017, eq. 1).

    The grey image is zero after normalisation, the mean colour of the training data. The integral is a Gauss-Legendre
    sum.

    Args:
        model: any classifier.
        x: normalised images, `(B, C, H, W)`.
        select: chooses the targets from the logits.
        steps: points of the sum.

    Returns:
        Signed maps `(B, H, W)`, summed over channels. `completeness` is |sum of the map - (score - score of the grey
        image)|, which goes to 0 as `steps` grows (their axiom).
    """
    logits = plain_logits(model, x)
    targets = select(logits)
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    scale = torch.from_numpy((nodes + 1) / 2).to(x)[:, None, None, None]
    gradients = _mean_gradients(model, targets, lambda image, step: scale[step] * x[image], x, list(weights / 2))
    maps = [(gradient * x).sum(1) for gradient in gradients]
    grey = plain_logits(model, torch.zeros_like(x[:1])).expand(len(x), -1)
    completeness = [
        (pixels.double().sum((1, 2)) - (target.score(logits) - target.score(grey)).double()).abs()
        for pixels, target in zip(maps, targets, strict=True)
    ]
    return Attribution(logits, targets, [[pixels] for pixels in maps], completeness)


INTEGRATED_GRADIENTS = Method(
    "integrated",
    "Integrated gradients",
    integrated_gradients,
    "pixels",
    "many passes",
    "The gradient summed on the way from a grey image to this one; the map adds up to the change of the class score "
    "(Sundararajan et al. 2017).",
    signed=True,
)


def plain_logits(model: nn.Module, x: Tensor) -> Tensor:
    """Return the logits of images in evaluation mode, without gradients and without autocast."""
    # Inference tensors cannot have gradients, and autocast would round them to half precision.
    plain = torch.autocast(x.device.type, enabled=False)
    with torch.inference_mode(False), torch.no_grad(), plain, evaluation_mode(model):
        return model(x.clone() if x.is_inference() else x)


def _mean_gradients(
    model: nn.Module, targets: list[Target], make: MakeInputs, x: Tensor, weights: list[float]
) -> list[Tensor]:
    """Weighted sum over the points of images `x` of the gradient of each target's score, `(B, C, H, W)` per target.

    Each point passes through the model once for all targets.
    """
    sums: list[Tensor] = []
    device = targets[0].classes.device
    weight = torch.tensor(weights, device=device)
    numbers = torch.arange(len(x) * len(weights), device=device)
    at_once = images_at_once(device, max(x.shape[2:]), _AT_ONCE, gradients=True)
    with torch.inference_mode(False), torch.autocast(device.type, enabled=False), torch.enable_grad():
        for batch in numbers.split(at_once):
            image, point = batch // len(weights), batch % len(weights)
            inputs = make(image, point).clone().detach().requires_grad_()
            with evaluation_mode(model), frozen_parameters(model):
                logits = model(inputs)
            if not sums:
                sums = [torch.zeros(len(x), *inputs.shape[1:], device=device) for _ in targets]
            for number, target in enumerate(targets):
                score = target.take(image).score(logits)
                (gradient,) = torch.autograd.grad(score.sum(), inputs, retain_graph=number < len(targets) - 1)
                weighted = weight[point][:, None, None, None].to(gradient) * gradient
                sums[number].index_add_(0, image, weighted.to(sums[number]))
    return sums
