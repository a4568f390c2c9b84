"""Sanity checks: do a method's maps depend on the trained parameters, and on the class?

Parameter randomisation (Adebayo et al. 2018, section 3): parts of the model get random parameters one after the other,
from the head down, and the same class is explained again. If the maps stay similar, the method shows the image, not the
model. The check can only reject a method: in a network dominated by its residual connections, maps of a faithful method
may stay somewhat similar too (Binder et al. 2023, arXiv 2211.12486; arXiv 2401.06465).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from swin_core.attribution.dispatch import attribute
from swin_core.trust.faithfulness import enlarge
from swin_core.trust.similarity import spearman, ssim
from swin_core.zoo.classifier import Classifier


@dataclass(frozen=True)
class Randomisation:
    """Similarity of a method's maps at one layer before and after the randomisation of the model."""

    parts: tuple[str, ...]
    """Names of the parts in the order in which they were randomised; earlier parts stay random."""
    spearman: tuple[float, ...]
    """Mean rank correlation (Spearman) with the original maps after each part; lower is better."""
    ssim: tuple[float, ...]
    """Mean structural similarity with the original maps after each part; lower is better."""
    spread: float
    """Standard deviation of the last value of `spearman` over the seeds; NaN for one seed."""


def randomisation(
    classifier: Classifier,
    batch: Tensor,
    targets: Tensor,
    method: str,
    layer: str | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    tick: Callable[[int], None] = lambda count: None,
) -> Randomisation:
    """Randomise a copy of a model part by part, and compare a method's maps with the original ones.

    Args:
        classifier: the model, which is not changed.
        batch: normalised images, `(B, C, H, W)`.
        targets: the class of each image, `(B,)`.
        method: a key of `METHODS`.
        layer: the target layer, or None for the default.
        seeds: seeds of the random parameters.
        tick: called with 1 after each batch of maps.
    """
    size = (batch.shape[2], batch.shape[3])
    original = attribute(classifier, batch, targets, method, layer, signed=True)[:, 0]  # (B, h, w)
    names = tuple(name for name, _ in parts(classifier.model))
    values = []
    for seed in seeds:
        for randomised in _cascade(classifier, seed):
            maps = attribute(randomised, batch, targets, method, layer, signed=True)[:, 0]
            structural = ssim(enlarge(maps, size), enlarge(original, size))
            values.append(torch.stack([spearman(maps, original).mean(), structural.mean()]))
            tick(1)
    similarity = torch.stack(values).view(len(seeds), len(names), 2)
    spread = similarity[:, -1, 0].std() if len(seeds) > 1 else torch.nan
    mean = similarity.mean(0)
    return Randomisation(names, tuple(mean[:, 0].tolist()), tuple(mean[:, 1].tolist()), float(spread))


def random_logit(
    classifier: Classifier, batch: Tensor, maps: Tensor, others: Tensor, method: str, layer: str | None = None
) -> Tensor:
    """Rank correlation (Spearman) between the maps of two classes of each image (Sixt et al. 2020), `(B,)`.

    Lower is better: a map that is the same for every class does not explain the class.

    Args:
        classifier: the model.
        batch: normalised images, `(B, C, H, W)`.
        maps: maps of the first class, `(B, h, w)`, by the same method at the same layer.
        others: the second class of each image, `(B,)`.
        method: a key of `METHODS`.
        layer: the target layer, or None for the default.
    """
    return spearman(maps, attribute(classifier, batch, others, method, layer, signed=True)[:, 0])


def parts(model: nn.Module) -> list[tuple[str, list[Tensor]]]:
    """The parts of a model in the order of randomisation, each with its tensors.

    These are the children from the last to the first (the items of a list or sequence), then the parameters outside of
    children, such as class token and position embedding.
    """
    children: list[tuple[str, list[Tensor]]] = []
    direct = list(model.named_parameters(recurse=False))
    for name, child in model.named_children():
        if isinstance(child, nn.ModuleList | nn.Sequential):
            children += [(f"{name}.{number}", _learned(item)) for number, item in child.named_children()]
            direct += [(f"{name}.{key}", parameter) for key, parameter in child.named_parameters(recurse=False)]
        else:
            children.append((name, _learned(child)))
    trained = [(name, tensors) for name, tensors in reversed(children) if tensors]
    return trained + [(name, [parameter]) for name, parameter in direct]


def _learned(part: nn.Module) -> list[Tensor]:
    """The parameters of a part and the statistics of its batch norms."""
    norms = [module for module in part.modules() if hasattr(module, "running_mean")]
    buffers = [buffer for norm in norms for buffer in norm.buffers(recurse=False) if buffer.is_floating_point()]
    return [*part.parameters(), *buffers]


def _cascade(classifier: Classifier, seed: int) -> Iterator[Classifier]:
    """Copy a classifier and yield the copy, always the same object, after the randomisation of each part."""
    randomised = classifier.copy()
    generator = torch.Generator().manual_seed(seed)
    for _, tensors in parts(randomised.model):
        for tensor in tensors:
            _randomise(tensor, generator)
        yield randomised


@torch.no_grad()
def _randomise(tensor: Tensor, generator: torch.Generator) -> None:
    """Replace trained values by random ones of the same scale.

    A parameter is drawn from a normal distribution with its own mean and standard deviation. A buffer is shuffled,
    since variances must stay positive.
    """
    if isinstance(tensor, nn.Parameter):
        mean, spread = tensor.mean(), tensor.std(correction=0)
        tensor.copy_(mean + spread * torch.randn(tensor.shape, generator=generator).to(tensor))
    else:
        order = torch.randperm(tensor.numel(), generator=generator).to(tensor.device)
        tensor.copy_(tensor.flatten()[order].view_as(tensor))
