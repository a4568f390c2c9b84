"""Target classes and contrast classes, and the attributions computed for them.

A method explains a score: the logit of the target class, or the difference between it and the logit of a contrast
class. Several targets share one forward pass.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from swin_core.errors import TargetError

RUNNER_UP = "runner-up"
"""Contrast class that stands for the most likely class other than the target."""

Against: TypeAlias = "int | str | Sequence[int | str] | None"


@dataclass(frozen=True)
class Target:
    """The class to explain for each of B images."""

    classes: Tensor
    """Class indices, `(B,)`."""
    against: Tensor | None = None
    """Indices of the contrast classes, `(B,)`, or None."""

    def score(self, logits: Tensor) -> Tensor:
        """Return the explained score of each image, `(B,)`: the target's logit, minus that of its contrast class."""
        score = logits.gather(1, self.classes[:, None])[:, 0]
        return score if self.against is None else score - logits.gather(1, self.against[:, None])[:, 0]

    def take(self, images: Tensor) -> "Target":
        """Return the targets of the images with these indices, `(N,)`; indices may repeat."""
        return Target(self.classes[images], None if self.against is None else self.against[images])


TargetSelector: TypeAlias = Callable[[Tensor], list[Target]]
"""Choose K targets from the logits `(B, classes)`; some, such as the most likely class, depend on them."""


@dataclass(frozen=True)
class Attribution:
    """Attribution maps of K targets at L layers for B images."""

    logits: Tensor
    """`(B, classes)`."""
    targets: list[Target]
    """K targets."""
    maps: list[list[Tensor]]
    """Maps `(B, h, w)` by target and layer, at each layer's own resolution. Only signed methods go below zero, where a
    pixel lowers the score."""
    completeness: list[Tensor] | None = None
    """Distance of each map's sum from its theoretical value, `(B,)` by target; None if the method has no such value."""


def check_logits(logits: Tensor) -> None:
    """Raise `TargetError` unless a model's output has the shape of logits, `(B, classes)`."""
    if logits.dim() != 2:
        raise TargetError(f"the model returns {tuple(logits.shape)}, not logits (B, classes); explain a classifier.")


def check_targets(targets: Sequence[int] | None, logits: Tensor) -> tuple[int, ...]:
    """Return the class indices to explain in one image; None selects the most likely class.

    Args:
        targets: class indices.
        logits: of the image, `(classes,)`.

    Raises:
        TargetError: an index outside the model's classes, or no index.
    """
    if targets is None:
        return (int(logits.argmax()),)
    if not targets:
        raise TargetError("name at least one class.")
    for target in targets:
        if not 0 <= target < len(logits):
            raise TargetError(f"class {target} is outside the model's {len(logits)} classes, 0 to {len(logits) - 1}.")
    return tuple(int(target) for target in targets)


def image_targets(
    targets: Sequence[int] | None, against: Against = None, labels: Sequence[str] | None = None
) -> TargetSelector:
    """Return a selector of several classes of one image, one target each.

    Args:
        targets: class indices; None for the most likely class.
        against: contrast classes, by index or `RUNNER_UP`: one for all targets, or one for each.
        labels: class names, for messages.

    Returns:
        The selector. It raises `TargetError` for a class that the model does not have, or one contrasted with itself.
    """

    def select(logits: Tensor) -> list[Target]:
        check_logits(logits)
        chosen = check_targets(targets, logits[0])
        classes = torch.tensor(chosen, device=logits.device)[:, None]
        if against is None:
            return [Target(index) for index in classes]
        contrasts = [against] * len(chosen) if isinstance(against, int | str) else list(against)
        if len(contrasts) != len(chosen):
            raise TargetError(
                f"{len(contrasts)} contrast classes for {len(chosen)} targets: name one, or one for each."
            )
        pairs = [
            _contrast(target, contrast, logits[0], labels) for target, contrast in zip(chosen, contrasts, strict=True)
        ]
        others = torch.tensor(pairs, device=logits.device)[:, None]
        return [Target(index, other) for index, other in zip(classes, others, strict=True)]

    return select


def _contrast(target: int, against: int | str, logits: Tensor, labels: Sequence[str] | None) -> int:
    """Return the index of a target's contrast class."""
    if against == RUNNER_UP:
        if len(logits) < 2:
            raise TargetError("the model has a single class, so there is no contrast class.")
        first, second = (int(index) for index in logits.topk(2).indices)
        return second if first == target else first
    (contrast,) = check_targets([int(against)], logits)
    if contrast == target:
        name = f"class {target}" if labels is None or target >= len(labels) else repr(labels[target][:80])
        raise TargetError(f"{name} cannot be contrasted with itself; name two classes.")
    return contrast


def check_one_each(images: int, *classes: Tensor | None) -> None:
    """Raise `TargetError` unless class indices are one for each of some images, `(images,)`."""
    for each in classes:
        if each is not None and tuple(each.shape) != (images,):
            raise TargetError(f"{images} images need as many classes, not {tuple(each.shape)}.")


def batch_targets(targets: Tensor, against: Tensor | None = None) -> TargetSelector:
    """Return a selector of one class for each image of a batch.

    Args:
        targets: class indices, `(B,)`.
        against: indices of the contrast classes, `(B,)`, or None.

    Returns:
        The selector. It raises `TargetError` for other shapes, a class that the model does not have, or one contrasted
        with itself.
    """

    def select(logits: Tensor) -> list[Target]:
        check_logits(logits)
        check_one_each(len(logits), targets, against)
        for classes in (targets,) if against is None else (targets, against):
            check_targets([int(index) for index in classes], logits[0])
        if against is not None and bool((targets.to(against.device) == against).any()):
            raise TargetError("a class cannot be contrasted with itself; name two classes for each image.")
        # Copies: gradients cannot be taken through an index that was made in inference mode.
        chosen = targets.to(logits.device, torch.long, copy=True)
        return [Target(chosen, None if against is None else against.to(logits.device, torch.long, copy=True))]

    return select
