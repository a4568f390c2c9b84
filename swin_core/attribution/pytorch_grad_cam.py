"""Score-CAM, Ablation-CAM, ShapleyCAM, Finer-CAM and SESS as in pytorch-grad-cam, for any layout of the output."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from swin_core.attribution.gradcam import (
    GRAD_CAM,
    CamFormula,
    ReshapeTransform,
    forward_to_layers,
    layer_maps,
    mean_gradient,
)
from swin_core.attribution.layers import layer_arrangement
from swin_core.attribution.method import Method
from swin_core.attribution.targets import Attribution, Target, TargetSelector
from swin_core.errors import LayerError, TargetError
from swin_core.models.modes import evaluation_mode, frozen_parameters, watch_outputs
from swin_core.system.batches import images_at_once
from swin_core.zoo.contract import inner_model

_AT_ONCE = 32
"""Most channels whose scores are computed in one forward pass."""
_CLOSEST = 3
"""Contrast classes of Finer-CAM, as in pytorch-grad-cam."""
_SCALES = 6
"""Scales of SESS: 31 crops of a square image; pytorch-grad-cam's twelve scales would need 122."""

_CROPS_AT_ONCE = 8
"""Most crops of SESS in one forward pass."""

_second_order = threading.Lock()
"""Held while the attention kernels are chosen, which is a setting of the whole process."""


@dataclass(frozen=True)
class _Query:
    """One target at one layer."""

    model: nn.Module
    layer: str
    arrange: ReshapeTransform
    """From the layer's output to `(B, C, h, w)`."""
    x: Tensor
    """`(B, channels, H, W)`."""
    target: Target
    logits: Tensor
    """`(B, classes)`."""

    @property
    def module(self) -> nn.Module:
        """The target layer."""
        return inner_model(self.model).get_submodule(self.layer)

    def output(self) -> Tensor:
        """The layer's output in its own layout, detached."""
        with forward_to_layers(self.model, self.x, [self.layer]) as activations:
            return activations.outputs[self.layer].detach()

    def scores(self, image: int, logits: Tensor) -> Tensor:
        """Scores `(N,)`, float32, of logits `(N, classes)` for the target of one image."""
        rows = torch.full((len(logits),), image, device=self.target.classes.device)
        return self.target.take(rows).score(logits).float()


def _maps(
    model: nn.Module,
    x: Tensor,
    select: TargetSelector,
    layers: Sequence[str],
    reshape_transform: ReshapeTransform | None = None,
    *,
    compute: Callable[[_Query], Tensor],
) -> Attribution:
    """Compute the map of each target at each layer on its own; arguments as for `layer_maps`."""
    # Grad-CAM checks layers and logits and gives the targets.
    checked = GRAD_CAM.function(model, x, select, layers, reshape_transform)
    size = (x.shape[2], x.shape[3])
    arrange = [reshape_transform or layer_arrangement(model, name, size) for name in layers]
    plain = torch.autocast(x.device.type, enabled=False)
    with torch.inference_mode(False), plain, evaluation_mode(model), frozen_parameters(model):
        rows = [
            [
                compute(_Query(model, name, to_map, x.clone(), target, checked.logits)).relu()
                for name, to_map in zip(layers, arrange, strict=True)
            ]
            for target in checked.targets
        ]
    return Attribution(checked.logits, checked.targets, rows)


@torch.no_grad()
def _score_cam(query: _Query) -> Tensor:
    """Wang et al. 2020, eq. 5 to 7, `(B, h, w)`.

    The weight of a channel is the softmax over channels of the score of the image multiplied by the channel's
    activation, which is scaled to 0 to 1.
    """
    activations = query.arrange(query.output()).float()
    weights = []
    for number, image in enumerate(query.x):
        scores = []
        size = (image.shape[-2], image.shape[-1])
        for channels in activations[number].split(images_at_once(image.device, max(size), _AT_ONCE)):
            masks = F.interpolate(channels[:, None], size, mode="bilinear", align_corners=True)
            low, high = masks.amin((2, 3), keepdim=True), masks.amax((2, 3), keepdim=True)
            masked = image * ((masks - low) / (high - low + 1e-8))
            scores.append(query.scores(number, query.model(masked.to(image))))
        weights.append(torch.cat(scores).softmax(0))
    return torch.einsum("bchw,bc->bhw", activations, torch.stack(weights))


SCORE_CAM = Method(
    "scorecam",
    "Score-CAM",
    partial(_maps, compute=_score_cam),
    "layer",
    "many passes",
    "Weights each channel by the class score of the image masked with the channel's activation (Wang et al. 2020).",
)


@torch.no_grad()
def _ablation_cam(query: _Query) -> Tensor:
    """Desai and Ramaswamy 2020, eq. 3, `(B, h, w)`.

    The weight of a channel is the drop of the score when the channel is set to 0. The paper's division by the score is
    left out, since a negative score would flip the sign of the map.
    """
    output = query.output()
    activations = query.arrange(output).float()
    weights, at_once = [], images_at_once(output.device, max(query.x.shape[2:]), _AT_ONCE)
    for number in range(len(query.x)):
        scores = []
        for channels in torch.arange(activations.shape[1], device=output.device).split(at_once):
            ablated = output[number : number + 1].repeat_interleave(len(channels), 0)
            arranged = query.arrange(ablated)
            if arranged.untyped_storage().data_ptr() != ablated.untyped_storage().data_ptr():
                raise LayerError("the reshape_transform must return a view of the layer's output for Ablation-CAM.")
            arranged[torch.arange(len(channels), device=output.device), channels] = 0
            with watch_outputs({query.layer: query.module}, partial(_replaced, ablated)):
                images = query.x[number : number + 1].expand(len(channels), -1, -1, -1)
                scores.append(query.scores(number, query.model(images)))
        weights.append(query.scores(number, query.logits[number : number + 1]) - torch.cat(scores))
    return torch.einsum("bchw,bc->bhw", activations, torch.stack(weights))


def _replaced(output: Tensor, *_: object) -> Tensor:
    """Return `output` in place of a layer's own."""
    return output


ABLATION_CAM = Method(
    "ablationcam",
    "Ablation-CAM",
    partial(_maps, compute=_ablation_cam),
    "layer",
    "many passes",
    "Weights each channel by the drop of the class score when the channel is set to 0 (Desai and Ramaswamy 2020).",
)


def _shapley_cam(query: _Query) -> Tensor:
    """Cai 2025, `(B, h, w)`: Grad-CAM with the gradient minus half of the Hessian times the activations."""
    # The fused attention kernels have no second derivative.
    with (
        _second_order,
        sdpa_kernel(SDPBackend.MATH),
        forward_to_layers(query.model, query.x, [query.layer]) as activations,
    ):
        output = activations.outputs[query.layer]
        (gradient,) = torch.autograd.grad(query.target.score(activations.logits).sum(), output, create_graph=True)
        if gradient.requires_grad:  # else the score is linear in the activations
            (product,) = torch.autograd.grad(gradient, output, output.detach(), allow_unused=True)
            gradient = gradient if product is None else gradient - product / 2
        return mean_gradient(query.arrange(output.detach()).float(), query.arrange(gradient.detach()).float())


SHAPLEY_CAM = Method(
    "shapleycam",
    "ShapleyCAM",
    partial(_maps, compute=_shapley_cam),
    "layer",
    "one pass",
    "Grad-CAM with a second-order term, derived from the Shapley value of a channel (Cai 2025).",
)


@dataclass(frozen=True)
class _FinerTarget(Target):
    """A class contrasted with the closest ones, which are weighted by their probability."""

    scores: tuple[Callable[[Tensor], Tensor], ...] = ()
    """For each image the function from logits `(classes,)` to the score."""

    def score(self, logits: Tensor) -> Tensor:
        return torch.stack([score(row) for score, row in zip(self.scores, logits, strict=True)])


def _finer_score(index: int, others: Tensor, logits: Tensor) -> Tensor:
    """Return the mean lead of a class over `others` in the logits `(classes,)`, weighted by their probabilities."""
    weights = logits.softmax(0)[others]
    return (weights * (logits[index] - logits[others])).sum() / (weights.sum() + 1e-9)


def _finer_target(target: Target, logits: Tensor) -> Target:
    """Contrast a target with its contrast class or else with the classes of the most similar logits."""
    if logits.shape[1] < 2:
        raise TargetError("Finer-CAM compares classes and the model has a single one; choose another method.")
    scores = []
    for image, index in enumerate(target.classes.tolist()):
        distance = (logits[image] - logits[image, index]).abs()
        distance[index] = float("inf")
        closest = distance.argsort()[: min(_CLOSEST, len(distance) - 1)]  # a tensor: a list is copied to the GPU
        others = closest if target.against is None else target.against[image : image + 1]
        scores.append(partial(_finer_score, index, others))
    return _FinerTarget(target.classes, target.against, tuple(scores))


def _finer_cam(
    model: nn.Module,
    x: Tensor,
    select: TargetSelector,
    layers: Sequence[str],
    reshape_transform: ReshapeTransform | None = None,
) -> Attribution:
    """Zhang et al. 2025: Grad-CAM of the class minus the closest classes, or minus the contrast class."""

    def select_finer(logits: Tensor) -> list[Target]:
        return [_finer_target(target, logits) for target in select(logits)]

    return layer_maps(model, x, select_finer, layers, reshape_transform, formula=CamFormula(mean_gradient))


FINER_CAM = Method(
    "finercam",
    "Finer-CAM",
    _finer_cam,
    "layer",
    "one pass",
    "Grad-CAM of the class minus the three classes closest to it (Zhang et al. 2025).",
)


def _sess(query: _Query) -> Tensor:
    """Tursun et al. 2022, eq. 2 to 4, `(B, H, W)`: Grad-CAM of crops at several scales; values are relative.

    Each crop's map is scaled to 0 to 1 and multiplied by the crop's score, a probability. A pixel has the mean of the
    maps that are above 0 there.
    """
    maps = []
    for number, image in enumerate(query.x):
        crops, places = _crops(image)
        scores, cams = [], []
        for batch in crops.split(images_at_once(image.device, max(crops.shape[2:]), _CROPS_AT_ONCE, gradients=True)):
            rows = torch.full((len(batch),), number, device=image.device)
            with forward_to_layers(query.model, batch, [query.layer]) as activations:
                output, logits = activations.outputs[query.layer], activations.logits
                (gradient,) = torch.autograd.grad(query.target.take(rows).score(logits).sum(), output)
            probabilities = logits.detach().float().softmax(1)
            scores.append(query.scores(number, probabilities).relu())
            cam = mean_gradient(query.arrange(output.detach()).float(), query.arrange(gradient).float()).relu()
            size = (batch.shape[2], batch.shape[3])
            cams.append(_stretched(F.interpolate(_stretched(cam)[:, None], size, mode="bilinear")[:, 0]))
        weights = torch.cat(scores)
        weights = weights / weights.max() if weights.max() > 0 else torch.ones_like(weights)
        maps.append(_fused((torch.cat(cams) * weights[:, None, None]).cpu().numpy(), places, image.shape[1:]))
    return torch.from_numpy(np.stack(maps)).to(query.x.device)


def _crops(image: Tensor) -> tuple[Tensor, list[tuple[int, int, int, int]]]:
    """Return crops `(N, C, H, W)` that tile an image `(C, H, W)` at `_SCALES` scales.

    The places are left, top, height and width of the enlarged image. Crops at the far edges are shifted into it.
    """
    height, width = image.shape[1:]
    side = min(height, width)
    crops, places = [], []
    for scale in range(_SCALES):
        shorter = side + scale * round(side * 2 / 7)
        size = (shorter * height // side, shorter * width // side)
        enlarged = F.interpolate(image[None].float(), size, mode="bilinear", antialias=True)[0].to(image)
        for top, left in product(_starts(size[0], height), _starts(size[1], width)):
            crops.append(enlarged[:, top : top + height, left : left + width])
            places.append((left, top, *size))
    return torch.stack(crops), places


def _starts(length: int, step: int) -> list[int]:
    """Return where the crops of a line start; the last one ends at its end."""
    return [*range(0, length - step, step), length - step]


def _stretched(maps: Tensor) -> Tensor:
    """Return maps `(N, h, w)`, each scaled to 0 to 1."""
    maps = maps - maps.amin((1, 2), keepdim=True)
    return maps / (1e-7 + maps.amax((1, 2), keepdim=True))


def _fused(cams: np.ndarray, places: Sequence[tuple[int, int, int, int]], size: Sequence[int]) -> np.ndarray:
    """Return the mean of the maps `(N, H, W)` of crops at their places, over those above 0, blurred; `(H, W)`."""
    total, counts = np.zeros(size, np.float32), np.zeros(size, np.float32)
    for cam, (left, top, height, width) in zip(cams, places, strict=True):
        placed = np.zeros((height, width), np.float32)
        placed[top : top + cam.shape[0], left : left + cam.shape[1]] = cam
        resized = cv2.resize(placed, (size[1], size[0]))
        total += resized
        counts += resized > 0
    return np.asarray(cv2.GaussianBlur(total / counts.clip(1), (11, 11), 5.0))


SESS = Method(
    "sess",
    "SESS",
    partial(_maps, compute=_sess),
    "layer",
    "many passes",
    "Combines Grad-CAM of many crops at several scales; values are relative (Tursun et al. 2022).",
)
