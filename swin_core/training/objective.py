"""The training objective: from a batch of images to its summed loss."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_core.models.swin import DropPath
from swin_core.training.augment import augment
from swin_core.training.config import TrainConfig
from swin_core.training.data import TrainingData
from swin_core.training.mixing import MixedBatch, mix
from swin_core.training.random_draws import Draws
from swin_core.training.without import Without

Teacher = Callable[[Tensor], Tensor]
"""The teacher of knowledge distillation: images `(B, 3, S, S)` in 0 to 1 to logits `(B, classes)`."""


@dataclass(frozen=True, eq=False)
class Objective:
    """Augmentation, forward pass and loss of a run."""

    config: TrainConfig
    data: TrainingData
    learner: nn.Module
    """The model, compiled or wrapped in `DistributedDataParallel` if asked for."""
    drop_paths: tuple[DropPath, ...]
    """The model's stochastic-depth modules."""
    device: torch.device
    uses_bfloat16: bool
    """Whether matrix products are in bfloat16."""
    teacher: Teacher | None
    class_weights: Tensor | None = None
    """Weight of the loss of each class, `(classes,)` float32; None for 1."""
    without: Without | None = None
    """What an audit found, which the model must not learn."""

    def loss(self, images: Tensor, labels: Tensor, draws: Draws) -> Tensor:
        """Return the summed loss, in nats, of images `(B, S, S, channels)` with labels `(B,)`."""
        config = self.config
        if self.without is not None:
            images = self.without.apply(images, labels, draws)
        batch = augment(images, config, draws)
        mixed: MixedBatch | None = None
        if config.mixup or config.cutmix:
            mixed = mix(batch, labels, config.mixup, config.cutmix, draws)
            batch = mixed.images
        for module in self.drop_paths:
            module.kept = draws.chance(1 - module.rate)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.uses_bfloat16):
            logits = self.learner(self.data.normalise(batch)).float()
        losses = self._cross_entropy(logits, labels)
        if mixed is not None:
            losses = torch.lerp(self._cross_entropy(logits, mixed.partners), losses, mixed.shares)
        if self.teacher is not None:
            losses = torch.lerp(losses, self._distillation(logits, self.teacher(batch)), config.distillation)
        return losses.sum()

    def _cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        losses = F.cross_entropy(logits, labels, reduction="none", label_smoothing=self.config.label_smoothing)
        # Not cross_entropy's own weights, which would also weight the smoothed share of each other class.
        return losses if self.class_weights is None else losses * self.class_weights[labels]

    def _distillation(self, logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """Return the KL divergence from the teacher's softened probabilities (Hinton et al. 2015), `(B,)`."""
        temperature = self.config.temperature
        target, own = (teacher_logits / temperature).log_softmax(1), (logits / temperature).log_softmax(1)
        return F.kl_div(own, target, reduction="none", log_target=True).sum(1) * temperature**2


def balanced_weights(labels: Tensor, classes: int) -> Tensor:
    """Return the weight of each class, `(classes,)` float32: N / (classes with images x images of the class).

    The mean weight of the images is 1; a class without images has 0.
    """
    counts = labels.bincount(minlength=classes).float()
    return torch.where(counts > 0, len(labels) / ((counts > 0).sum() * counts.clamp(min=1)), 0.0)
