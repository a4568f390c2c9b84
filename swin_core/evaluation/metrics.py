"""Evaluation of a classifier: cross-entropy, top-1, top-5, accuracy per class, and the confusion matrix."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_core.errors import DataError
from swin_core.evaluation.confusion import confusion
from swin_core.models.precision import many_images
from swin_core.system.batches import images_at_once
from swin_core.system.distributed import SINGLE, Ranks
from swin_core.zoo.contract import activate

TOP = 5
"""Number of likeliest classes that are recorded; with five classes or fewer, every top-5 is right."""

UNEVEN = 1.5
"""Largest number of images of a class over the smallest above which the balanced accuracy is shown beside top-1."""


def batch_size(device: torch.device, side: int) -> int:
    """Return the images per batch of all evaluations of a model: the last bit of a sum depends on it.

    Args:
        device: of the model; a GPU is kept busy by many images.
        side: of the model's images in pixels.
    """
    return images_at_once(device, side, most=512)


@dataclass(frozen=True, eq=False)
class Metrics:
    """Metrics of a classifier on labelled images."""

    count: int
    """Number of images."""
    loss: float
    """Mean cross-entropy in nats, without label smoothing; lower is better."""
    top1: float
    """Share of images whose likeliest class is the true one, 0 to 1."""
    top5: float | None
    """Share of images whose true class is among the five likeliest; None for five classes or fewer."""
    confusion: np.ndarray
    """Counts `(classes, classes)` by true class (row) and predicted class (column)."""

    @classmethod
    def of(
        cls,
        truth: np.ndarray,
        predicted: np.ndarray,
        top: np.ndarray,
        loss: np.ndarray,
        classes: int,
        ranks: Ranks = SINGLE,
    ) -> "Metrics":
        """Compute metrics from the predictions for N images, with sums in float64.

        Args:
            truth: true classes, `(N,)` int64.
            predicted: likeliest classes, `(N,)` int64.
            top: likeliest classes, `(N, k)` int64.
            loss: cross-entropies, `(N,)`.
            classes: number of classes.
            ranks: ranks that share the images; each passes its own images and gets the metrics of all.

        Raises:
            DataError: no rank has an image.
        """
        among_top = (top == truth[:, None]).any(1).sum()
        counts = confusion(truth, predicted, classes)[:, :-1]
        local = np.concatenate([[loss.sum(dtype=np.float64), among_top], counts.ravel()])
        sums = ranks.sum(torch.from_numpy(local)).numpy()
        counts = sums[2:].astype(np.int64).reshape(classes, classes)
        count = int(counts.sum())
        if not count:
            raise DataError("an evaluation needs at least one image.")
        top5 = float(sums[1] / count) if classes > TOP else None
        return cls(count, float(sums[0] / count), float(np.trace(counts) / count), top5, counts)

    @property
    def per_class(self) -> np.ndarray:
        """Share of each class's images that are predicted right, `(classes,)`; NaN for a class without images."""
        with np.errstate(invalid="ignore"):
            return np.diag(self.confusion) / self.confusion.sum(1)

    @property
    def balanced(self) -> float:
        """Balanced accuracy: the mean of `per_class` over the classes that have images, 0 to 1."""
        return float(np.nanmean(self.per_class))

    @property
    def is_uneven(self) -> bool:
        """Whether one class has so many more images than another that top-1 says little about the latter."""
        counts = self.confusion.sum(1)
        counts = counts[counts > 0]
        return bool(counts.max() > UNEVEN * counts.min())

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "count": self.count,
            "loss": self.loss,
            "top1": self.top1,
            "top5": self.top5,
            "balanced": self.balanced,
            "per_class": [None if np.isnan(share) else float(share) for share in self.per_class],
            "confusion": self.confusion.tolist(),
        }


class BatchScores(NamedTuple):
    """Predictions for a batch of B images, on the model's device; k is five, or the number of classes if smaller."""

    predicted: Tensor
    """`(B,)`, the likeliest class."""
    top: Tensor
    """`(B, k)`, the k likeliest classes, best first."""
    probabilities: Tensor
    """`(B, k)` float32, their probabilities."""
    loss: Tensor
    """`(B,)` float32, minus the log of the true class's probability, in nats; 0 where the label is -1."""
    classes: int


def score_batch(
    model: nn.Module, images: Tensor, labels: Tensor, activation: str = "softmax", bfloat16: bool = False
) -> BatchScores:
    """Run the model in evaluation mode on images `(B, channels, H, W)` with labels `(B,)`; -1 is an unknown class.

    `activation`: of the logits, as in `Classifier`. `bfloat16`: as in `many_images`.
    """
    with many_images(model, images.device, bfloat16):
        logits = model(images).float()
        top = logits.topk(min(TOP, logits.shape[1])).indices
        if activation == "softmax":
            loss = F.cross_entropy(logits, labels, ignore_index=-1, reduction="none")
        else:  # each class has a probability of its own
            of_truth = F.logsigmoid(logits).gather(1, labels.clamp(min=0)[:, None])[:, 0]
            loss = torch.where(labels < 0, 0, -of_truth)
        # Of equal logits, topk and argmax may choose different ones.
        return BatchScores(logits.argmax(1), top, activate(logits, activation).gather(1, top), loss, logits.shape[1])


def evaluate(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    ranks: Ranks = SINGLE,
    activation: str = "softmax",
    bfloat16: bool = False,
) -> Metrics:
    """Evaluate a model on batches of `(images (B, channels, H, W), labels (B,))`; its mode is restored afterwards.

    Args:
        model: the classifier.
        batches: this rank's share of the batches; no image may be in two shares.
        ranks: the ranks that evaluate together; each gets the metrics of all images.
        activation: of the logits, as in `Classifier`.
        bfloat16: multiply matrices in bfloat16.

    Raises:
        DataError: there is no image in any share.
    """
    columns: list[tuple[Tensor, ...]] = []
    classes = 0
    for images, labels in batches:
        scores = score_batch(model, images, labels, activation, bfloat16)
        classes = scores.classes
        columns.append((labels, scores.predicted, scores.top, scores.loss))
    # A rank without a batch does not know the number of classes.
    classes = max(ranks.all_gather(classes))
    if columns:
        truth, predicted, top, loss = (torch.cat(column).cpu().numpy() for column in zip(*columns, strict=True))
    else:
        truth = predicted = np.zeros(0, np.int64)
        top, loss = np.zeros((0, 1), np.int64), np.zeros(0, np.float32)
    return Metrics.of(truth, predicted, top, loss, classes, ranks)
