"""Validation figures of a classifier: plain cross-entropy, top-1, top-5, per class, and the confusion matrix."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_core.modes import evaluation_mode

__all__ = ["BATCH_SIZE", "Figures", "evaluate"]

BATCH_SIZE = 250
"""Pictures a batch. All evaluations use it: the last bit of a sum depends on how many pictures are computed at once."""

_TOP5_FROM = 6  # classes; with five, every top-5 is right


@dataclass(frozen=True, eq=False)
class Figures:
    """What an evaluation found."""

    count: int
    """Pictures seen."""
    loss: float
    """Mean cross-entropy in nats, without label smoothing; lower is better."""
    top1: float
    """Share of pictures whose likeliest class is right, 0 to 1."""
    top5: float | None
    """Share of pictures whose right class is among the five likeliest; None below six classes."""
    confusion: np.ndarray
    """`(classes, classes)` counts, rows are the right class, columns the predicted one."""

    @property
    def per_class(self) -> np.ndarray:
        """`(classes,)` share of each class's pictures that are right; NaN for a class without pictures."""
        with np.errstate(invalid="ignore"):
            return np.diag(self.confusion) / self.confusion.sum(1)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "count": self.count,
            "loss": self.loss,
            "top1": self.top1,
            "top5": self.top5,
            "per_class": [None if np.isnan(share) else float(share) for share in self.per_class],
            "confusion": self.confusion.tolist(),
        }


def evaluate(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> Figures:
    """Evaluate a model on batches of `(pictures (B, channels, H, W), labels (B,))`, which are summed in float64.

    The model's mode is restored afterwards.
    """
    count = hits = hits5 = 0
    loss = 0.0
    confusion = torch.zeros(0, 0, dtype=torch.long)
    with evaluation_mode(model), torch.inference_mode():
        for pictures, labels in batches:
            logits = model(pictures).float()
            classes = logits.shape[1]
            if not count:
                confusion = torch.zeros(classes, classes, dtype=torch.long)
            count += len(labels)
            loss += F.cross_entropy(logits, labels, reduction="none").double().sum().item()
            predicted = logits.argmax(1)
            hits += int((predicted == labels).sum())
            if classes >= _TOP5_FROM:
                hits5 += int((logits.topk(5).indices == labels[:, None]).any(1).sum())
            pairs = labels.cpu() * classes + predicted.cpu()
            confusion += pairs.bincount(minlength=classes**2).view(classes, classes)
    if not count:
        raise ValueError("an evaluation needs at least one picture.")
    top5 = hits5 / count if len(confusion) >= _TOP5_FROM else None
    return Figures(count, loss / count, hits / count, top5, confusion.numpy())
