"""Validation figures of a classifier: plain cross-entropy, top-1, top-5, per class, and the confusion matrix."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_core.errors import DataError
from swin_core.models.modes import evaluation_mode
from swin_core.system.distributed import SINGLE, Ranks

__all__ = ["BATCH_SIZE", "TOP5_FROM", "Metrics", "batch_size", "evaluate"]

BATCH_SIZE = 64
"""Images a batch on a CPU. All evaluations use it: the last bit of a sum depends on the size of the batch.

It is small enough for CPUs: where malloc returns large blocks to the system, 256 images of 32 pixels take 1.6 times
as long each.
"""

_GPU_BATCH_SIZE = 512

TOP5_FROM = 6  # classes; with five, every top-5 is right


def batch_size(device: torch.device) -> int:
    """Images a batch of an evaluation: a GPU needs more of them to be busy."""
    return _GPU_BATCH_SIZE if device.type == "cuda" else BATCH_SIZE


@contextmanager
def tensor_float32(device: torch.device) -> Iterator[None]:
    """Let a GPU multiply float32 matrices in TF32 in this block, as convolutions do by default."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = before or device.type == "cuda"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


@dataclass(frozen=True, eq=False)
class Metrics:
    """What an evaluation found."""

    count: int
    """Images seen."""
    loss: float
    """Mean cross-entropy in nats, without label smoothing; lower is better."""
    top1: float
    """Share of images whose likeliest class is right, 0 to 1."""
    top5: float | None
    """Share of images whose right class is among the five likeliest; None below six classes."""
    confusion: np.ndarray
    """`(classes, classes)` counts, rows are the right class, columns the predicted one."""

    @property
    def per_class(self) -> np.ndarray:
        """`(classes,)` share of each class's images that are right; NaN for a class without images."""
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


def evaluate(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], ranks: Ranks = SINGLE) -> Metrics:
    """Evaluate a model on batches of `(images (B, channels, H, W), labels (B,))`, which are summed in float64.

    The model's mode is restored afterwards.

    Args:
        model: the classifier.
        batches: this process's share of the batches; no image may be in two shares.
        ranks: the processes that evaluate together; each gets the figures of all images.

    Raises:
        DataError: there is no image in any share.
    """
    sums = torch.zeros(3, dtype=torch.float64)  # loss, hits, hits among five
    confusion = torch.zeros(0, dtype=torch.float64)
    classes = 0
    device = next(model.parameters(), torch.empty(0)).device
    with evaluation_mode(model), tensor_float32(device), torch.inference_mode():
        for pictures, labels in batches:
            logits = model(pictures).float()
            classes = logits.shape[1]
            if not len(confusion):
                confusion = torch.zeros(classes**2, dtype=torch.float64)
            predicted = logits.argmax(1)
            among_five = (logits.topk(min(5, classes)).indices == labels[:, None]).any(1)
            loss = F.cross_entropy(logits, labels, reduction="none").double().sum()
            sums += torch.stack([loss, (predicted == labels).sum(), among_five.sum()]).double().cpu()
            confusion += (labels * classes + predicted).bincount(minlength=classes**2).double().cpu()
    # A process without a batch does not know the number of classes.
    classes = max(ranks.all_gather(classes))
    if not classes:
        raise DataError("an evaluation needs at least one image.")
    confusion = confusion if len(confusion) else torch.zeros(classes**2, dtype=torch.float64)
    loss, hits, hits5, *counts = ranks.sum(torch.cat([sums, confusion])).tolist()
    matrix = np.array(counts, dtype=np.int64).reshape(classes, classes)
    count = int(matrix.sum())
    return Metrics(count, loss / count, hits / count, hits5 / count if classes >= TOP5_FROM else None, matrix)
