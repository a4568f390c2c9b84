"""What a step minimises: from bytes to the summed loss of some images."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_core.models.swin import DropPath
from swin_core.training.augment import augment
from swin_core.training.config import TrainConfig
from swin_core.training.data import TrainingData
from swin_core.training.mixing import Mixed, mix
from swin_core.training.random_draws import Draws

__all__ = ["Objective", "Teacher"]


Teacher = Callable[[Tensor], Tensor]
"""A model to learn from: from images `(B, 3, S, S)` in 0 to 1 to logits `(B, classes)` of the run's classes."""


@dataclass(frozen=True, eq=False)
class Objective:
    """Augmentation, model and loss of a run.

    Attributes:
        config: the run's settings.
        data: what images are normalised by.
        learner: the model, perhaps compiled, perhaps wrapped for several processes.
        drop_paths: its places of stochastic depth.
        device: where it computes.
        narrow: whether matrix products are in bfloat16.
        teacher: the model to learn from, or None.
    """

    config: TrainConfig
    data: TrainingData
    learner: nn.Module
    drop_paths: tuple[DropPath, ...]
    device: torch.device
    narrow: bool
    teacher: Teacher | None

    def loss(self, pictures: Tensor, labels: Tensor, draws: Draws) -> Tensor:
        """Summed loss of some images `(B, S, S, channels)` with their labels `(B,)`, in nats."""
        config = self.config
        batch = augment(pictures, config, draws)
        mixed: Mixed | None = None
        if config.mixup or config.cutmix:
            mixed = mix(batch, labels, config.mixup, config.cutmix, draws)
            batch = mixed.pictures
        for module in self.drop_paths:
            module.kept = draws.chance(1 - module.rate)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.narrow):
            logits = self.learner(self.data.normalise(batch)).float()
        losses = self._entropy(logits, labels)
        if mixed is not None:
            losses = torch.lerp(self._entropy(logits, mixed.partners), losses, mixed.shares)
        if self.teacher is not None:
            losses = torch.lerp(losses, self._distance(logits, self.teacher(batch)), config.distillation)
        return losses.sum()

    def _entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, reduction="none", label_smoothing=self.config.label_smoothing)

    def _distance(self, logits: Tensor, taught: Tensor) -> Tensor:
        """Divergence from the teacher's softened probabilities (Hinton et al. 2015), `(B,)`."""
        heat = self.config.temperature
        wanted, given = (taught / heat).log_softmax(1), (logits / heat).log_softmax(1)
        return F.kl_div(given, wanted, reduction="none", log_target=True).sum(1) * heat**2
