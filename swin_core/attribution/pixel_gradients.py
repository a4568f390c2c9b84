"""Gradients at the pixels: the input gradient, SmoothGrad and integrated gradients.

All three are a weighted mean of the score's gradient over some points in the space of images: the image itself,
noisy copies of it, or points on the way from a grey image to it.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from swin_core.attribution.targets import Attribution, Target, TargetSelector
from swin_core.models.modes import evaluation_mode, frozen_parameters

__all__ = ["input_gradient", "integrated_gradients", "select_targets", "smooth_grad"]

_AT_ONCE = 16
"""Images in one pass of the model."""

Points = Callable[[Tensor, Tensor], Tensor]
"""From the images' indices `(N,)` and the points' indices `(N,)` to the model's inputs `(N, C, H, W)`."""


def input_gradient(model: nn.Module, x: Tensor, select: TargetSelector) -> Attribution:
    """How much a small change of each pixel changes the score (Simonyan et al. 2014, section 3.1).

    The greatest of a pixel's channels, by magnitude.

    Args:
        model: any classifier.
        x: normalised images, `(B, C, H, W)`.
        select: chooses the targets from the logits.

    Returns:
        Maps `(B, H, W)`, non-negative.
    """
    logits, targets = select_targets(model, x, select)
    means = _mean_gradients(model, targets, lambda picture, _: x[picture], len(x), [1.0])
    return Attribution(logits, targets, [[mean.abs().amax(1)] for mean in means])


def smooth_grad(
    model: nn.Module, x: Tensor, select: TargetSelector, samples: int = 25, noise: float = 0.15, seed: int = 0
) -> Attribution:
    """The input gradient's mean over noisy copies of the image (Smilkov et al. 2017, section 2.2).

    Args:
        model: any classifier.
        x: normalised images, `(B, C, H, W)`.
        select: chooses the targets from the logits.
        samples: noisy copies.
        noise: standard deviation of the noise, as a share of the image's own range of values.
        seed: of the noise, which is the same for all images, so that a batch gives what each image gives alone.

    Returns:
        Maps `(B, H, W)`, non-negative.
    """
    logits, targets = select_targets(model, x, select)
    draw = torch.Generator().manual_seed(seed)
    noises = torch.randn(samples, *x.shape[1:], generator=draw).to(x)
    spread = noise * (x.amax((1, 2, 3), keepdim=True) - x.amin((1, 2, 3), keepdim=True))

    def points(picture: Tensor, copy: Tensor) -> Tensor:
        return x[picture] + spread[picture] * noises[copy]

    means = _mean_gradients(model, targets, points, len(x), [1 / samples] * samples)
    return Attribution(logits, targets, [[mean.abs().amax(1)] for mean in means])


def integrated_gradients(model: nn.Module, x: Tensor, select: TargetSelector, steps: int = 32) -> Attribution:
    """The gradient integrated on the way from a grey image to this one (Sundararajan et al. 2017, eq. 1).

    The grey image is zero after normalisation: the data set's mean colour. The integral is a Gauss-Legendre sum.

    Args:
        model: any classifier.
        x: normalised images, `(B, C, H, W)`.
        select: chooses the targets from the logits.
        steps: points on the way.

    Returns:
        Maps `(B, H, W)`, summed over the channels, positive for the class and negative against it. Completeness is how
        far a map's sum is from the score less that of the grey image (their axiom; it vanishes as steps grow).
    """
    logits, targets = select_targets(model, x, select)
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    way = torch.from_numpy((nodes + 1) / 2).to(x)[:, None, None, None]
    means = _mean_gradients(model, targets, lambda picture, step: way[step] * x[picture], len(x), list(weights / 2))
    maps = [(mean * x).sum(1) for mean in means]
    grey = _logits(model, torch.zeros_like(x[:1])).expand(len(x), -1)
    missing = [
        (one.double().sum((1, 2)) - (target.score(logits) - target.score(grey)).double()).abs()
        for one, target in zip(maps, targets, strict=True)
    ]
    return Attribution(logits, targets, [[one] for one in maps], missing)


def select_targets(model: nn.Module, x: Tensor, select: TargetSelector) -> tuple[Tensor, list[Target]]:
    """The model's logits `(B, classes)`, and the targets that depend on them."""
    logits = _logits(model, x)
    return logits, select(logits)


def _logits(model: nn.Module, x: Tensor) -> Tensor:
    # A tensor made in inference mode can have no gradient, and half precision would blur the gradients.
    plain = torch.autocast(x.device.type, enabled=False)
    with torch.inference_mode(False), torch.no_grad(), plain, evaluation_mode(model):
        return model(x.clone() if x.is_inference() else x)


def _mean_gradients(
    model: nn.Module, targets: list[Target], points: Points, pictures: int, weights: list[float]
) -> list[Tensor]:
    """The weighted sum of each target's gradient over an image's points, `(B, C, H, W)` a target.

    Every point is run once for all targets.
    """
    sums: list[Tensor] = []
    device = targets[0].classes.device
    weight = torch.tensor(weights, device=device)
    number = torch.arange(pictures * len(weights), device=device)
    with torch.inference_mode(False), torch.autocast(device.type, enabled=False), torch.enable_grad():
        for some in number.split(_AT_ONCE):
            picture, point = some // len(weights), some % len(weights)
            inputs = points(picture, point).clone().detach().requires_grad_()
            with evaluation_mode(model), frozen_parameters(model):
                logits = model(inputs)
            if not sums:
                sums = [torch.zeros(pictures, *inputs.shape[1:], device=device) for _ in targets]
            for place, target in enumerate(targets):
                score = target.take(picture).score(logits)
                (gradient,) = torch.autograd.grad(score.sum(), inputs, retain_graph=place < len(targets) - 1)
                shares = weight[point][:, None, None, None].to(gradient) * gradient
                sums[place].index_add_(0, picture, shares.to(sums[place]))
    return sums
