"""Whether a method's maps depend on what the model has learned, and on the class that it is asked about.

Parameter randomisation (Adebayo et al. 2018, section 3): the model's parts get new random parameters one after the
other, from the head downwards, and the same class is explained again. A method whose maps stay alike shows the image,
not the model. The test can only refuse a method: where a network's residual branches carry most, maps may stay somewhat
alike for a faithful method too (Binder et al. 2023, arXiv 2211.12486; arXiv 2401.06465).
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from swin_core.attribution.dispatch import attribute
from swin_core.trust.faithfulness import enlarge
from swin_core.trust.similarity import spearman, ssim
from swin_core.zoo.classifier import Classifier

__all__ = ["Randomisation", "parts", "random_logit", "randomisation"]


@dataclass(frozen=True)
class Randomisation:
    """How alike a method's maps at one layer are before and after a model's parts are randomised."""

    parts: tuple[str, ...]
    """Names of the parts in the order in which they were randomised; at each of them all before it are random too."""
    spearman: tuple[float, ...]
    """Mean of Spearman's rank correlation with the original maps, after each part; lower is better."""
    ssim: tuple[float, ...]
    """The same by structural similarity."""
    spread: float
    """Standard deviation of the last of `spearman` over the seeds; NaN for one seed."""


def randomisation(
    classifier: Classifier,
    batch: Tensor,
    targets: Tensor,
    method: str,
    layer: str | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    tick: Callable[[int], None] = lambda count: None,
) -> Randomisation:
    """Parameter randomisation of a method at a layer.

    The classifier is left as it is: a copy of its model is randomised.

    Args:
        classifier: the model.
        batch: normalised images, `(B, C, H, W)`.
        targets: the class of each, `(B,)`.
        method: a key of `METHODS`.
        layer: the target layer, or None for the default.
        seeds: each gives other random parameters.
        tick: called with 1 after each batch of maps.
    """
    size = (batch.shape[2], batch.shape[3])
    original = attribute(classifier, batch, targets, method, layer, signed=True)[:, 0]  # (B, h, w)
    names = tuple(name for name, _ in parts(classifier.model))
    alike = []
    for seed in seeds:
        for twin in _cascade(classifier, seed):
            maps = attribute(twin, batch, targets, method, layer, signed=True)[:, 0]
            ranked, structural = spearman(maps, original), ssim(enlarge(maps, size), enlarge(original, size))
            alike.append(torch.stack([ranked.mean(), structural.mean()]))
            tick(1)
    found = torch.stack(alike).view(len(seeds), len(names), 2)
    spread = found[:, -1, 0].std() if len(seeds) > 1 else torch.nan
    mean = found.mean(0)
    return Randomisation(names, tuple(mean[:, 0].tolist()), tuple(mean[:, 1].tolist()), float(spread))


def random_logit(
    classifier: Classifier, batch: Tensor, maps: Tensor, others: Tensor, method: str, layer: str | None = None
) -> Tensor:
    """Spearman's rank correlation of the maps of two classes of each image (Sixt et al. 2020), `(B,)`.

    Low is good: a map that stays the same whatever class is asked about does not explain the class.

    Args:
        classifier: the model.
        batch: normalised images, `(B, C, H, W)`.
        maps: of the first class, `(B, h, w)`, by the same method at the same layer.
        others: the second class of each image, `(B,)`.
        method: a key of `METHODS`.
        layer: the target layer, or None for the default.
    """
    return spearman(maps, attribute(classifier, batch, others, method, layer, signed=True)[:, 0])


def parts(model: nn.Module) -> list[tuple[str, list[Tensor]]]:
    """The parts that are randomised one by one, each with its tensors.

    First the children of the model from the last to the first (of a list, its items), then the parameters that belong
    to no child, such as class token and position embedding.
    """
    found: list[tuple[str, list[Tensor]]] = []
    direct = list(model.named_parameters(recurse=False))
    for name, child in model.named_children():
        if isinstance(child, nn.ModuleList | nn.Sequential):
            found += [(f"{name}.{number}", _learned(item)) for number, item in child.named_children()]
            direct += [(f"{name}.{key}", parameter) for key, parameter in child.named_parameters(recurse=False)]
        else:
            found.append((name, _learned(child)))
    children = [(name, tensors) for name, tensors in reversed(found) if tensors]
    return children + [(name, [parameter]) for name, parameter in direct]


def _learned(part: nn.Module) -> list[Tensor]:
    """The parameters of a part, and the floating-point buffers of its batch norms."""
    norms = [module for module in part.modules() if hasattr(module, "running_mean")]
    buffers = [buffer for norm in norms for buffer in norm.buffers(recurse=False) if buffer.is_floating_point()]
    return [*part.parameters(), *buffers]


def _cascade(classifier: Classifier, seed: int) -> Iterator[Classifier]:
    """A copy of a classifier after each part that is randomised; it is the same object each time."""
    twin = Classifier(
        copy.deepcopy(classifier.model), classifier.labels, classifier.mean, classifier.std, classifier.image_size
    )
    draw = torch.Generator().manual_seed(seed)
    for _, tensors in parts(twin.model):
        for tensor in tensors:
            _randomise(tensor, draw)
        yield twin


@torch.no_grad()
def _randomise(tensor: Tensor, draw: torch.Generator) -> None:
    """Replace what was learned, and keep the size of the activations.

    A parameter is drawn from a normal distribution of its own mean and spread. The values of a buffer are shuffled:
    variances must stay positive.
    """
    if isinstance(tensor, nn.Parameter):
        mean, spread = tensor.mean(), tensor.std(correction=0)
        tensor.copy_(mean + spread * torch.randn(tensor.shape, generator=draw).to(tensor))
    else:
        order = torch.randperm(tensor.numel(), generator=draw).to(tensor.device)
        tensor.copy_(tensor.flatten()[order].view_as(tensor))
