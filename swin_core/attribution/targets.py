"""What is asked of a model about a batch of images, and what every attribution method gives back.

A question names one class for each image of a batch, and maybe a second one: "why this class?" is asked of the
class's logit, "why this class rather than that one?" of the difference of two logits. Many questions can be asked of
one forward pass.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from swin_core.errors import TargetError

__all__ = ["RUNNER_UP", "Against", "Answer", "Ask", "Question", "ask_batch", "ask_picture", "check_targets"]

RUNNER_UP = "runner-up"
"""In place of a class to compare with: the likeliest of the other classes."""

Against: TypeAlias = "int | str | Sequence[int | str] | None"


@dataclass(frozen=True)
class Question:
    """One class for each of B images, and maybe one to compare it with."""

    targets: Tensor
    """`(B,)`, class indices."""
    against: Tensor | None = None
    """`(B,)`, the classes rather than which the targets are explained; None for the targets alone."""

    def score(self, logits: Tensor) -> Tensor:
        """What is explained, `(B,)`: each image's logit of its target, less that of the other class."""
        score = logits.gather(1, self.targets[:, None])[:, 0]
        return score if self.against is None else score - logits.gather(1, self.against[:, None])[:, 0]

    def of(self, pictures: Tensor) -> "Question":
        """The same question of some of the images, `(N,)`, in that order, repeated or not."""
        return Question(self.targets[pictures], None if self.against is None else self.against[pictures])


Ask: TypeAlias = Callable[[Tensor], list[Question]]
"""From the logits `(B, classes)` to the questions: some, such as the likeliest class, depend on them."""


@dataclass(frozen=True)
class Answer:
    """Maps of K questions at L layers for B images."""

    logits: Tensor
    """`(B, classes)`."""
    questions: list[Question]
    """K of them."""
    maps: list[list[Tensor]]
    """For each question and layer `(B, h, w)`, at the layer's own resolution; below zero only where the method says
    what speaks against a class."""
    completeness: list[Tensor] | None = None
    """For each question `(B,)`: how far the map's sum is from what theory says it is; None where it says nothing."""


def check_logits(logits: Tensor) -> None:
    """Raise `TargetError` for what a model gives that are no logits `(B, classes)`."""
    if logits.dim() != 2:
        raise TargetError(f"the model gives {tuple(logits.shape)}, no logits (B, classes); explain a classifier.")


def check_targets(targets: Sequence[int] | None, logits: Tensor) -> tuple[int, ...]:
    """Class indices in range, or the likeliest class where None is asked for.

    Args:
        targets: class indices; None for the likeliest class.
        logits: of one image, `(classes,)`.

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


def ask_picture(
    targets: Sequence[int] | None,
    against: int | str | Sequence[int | str] | None = None,
    labels: Sequence[str] | None = None,
) -> Ask:
    """Some classes of one image, a question each.

    Args:
        targets: class indices; None for the likeliest class.
        against: class indices or `RUNNER_UP`: one for all targets, or one a target; None for no comparison.
        labels: the classes' names, for messages.

    Returns:
        The questions of the logits; it raises `TargetError` for a class outside the model's, or one against itself.
    """

    def ask(logits: Tensor) -> list[Question]:
        check_logits(logits)
        chosen = check_targets(targets, logits[0])
        one = torch.tensor(chosen, device=logits.device)[:, None]
        if against is None:
            return [Question(target) for target in one]
        several = [against] * len(chosen) if isinstance(against, int | str) else list(against)
        if len(several) != len(chosen):
            raise TargetError(f"{len(several)} classes to compare {len(chosen)} with: name one, or one for each.")
        others = [_other(target, other, logits[0], labels) for target, other in zip(chosen, several, strict=True)]
        pairs = torch.tensor(others, device=logits.device)[:, None]
        return [Question(target, other) for target, other in zip(one, pairs, strict=True)]

    return ask


def _other(target: int, against: int | str, logits: Tensor, labels: Sequence[str] | None) -> int:
    """The class that a target is compared with."""
    if against == RUNNER_UP:
        if len(logits) < 2:
            raise TargetError("the model has a single class, so there is none to compare it with.")
        likeliest = [int(index) for index in logits.topk(2).indices]
        return likeliest[1] if likeliest[0] == target else likeliest[0]
    (other,) = check_targets([int(against)], logits)
    if other == target:
        name = f"class {target}" if labels is None or target >= len(labels) else repr(labels[target][:80])
        raise TargetError(f"{name} cannot be explained rather than itself; name two classes.")
    return other


def ask_batch(targets: Tensor, against: Tensor | None = None) -> Ask:
    """One question of a batch: a class for each image, and maybe one to compare it with, `(B,)` each.

    Returns:
        The question of the logits; it raises `TargetError` for other shapes, a class outside the model's, or one
        against itself.
    """

    def ask(logits: Tensor) -> list[Question]:
        check_logits(logits)
        for classes in (targets,) if against is None else (targets, against):
            if tuple(classes.shape) != (len(logits),):
                raise TargetError(f"{len(logits)} images need as many classes, not {tuple(classes.shape)}.")
            check_targets([int(index) for index in classes], logits[0])
        if against is not None and bool((targets.to(against.device) == against).any()):
            raise TargetError("a class cannot be explained rather than itself; name two classes for each image.")
        # Copies: gradients cannot be taken through an index that was made in inference mode.
        chosen, other = (
            None if classes is None else classes.to(logits.device, torch.long, copy=True)
            for classes in (targets, against)
        )
        assert chosen is not None
        return [Question(chosen, other)]

    return ask
