"""Optimizers with the right groups, the learning rate as a function of the step, and the moving average of weights."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from swin_core.training.config import TrainConfig

__all__ = ["MovingAverage", "build_optimizers", "learning_rate", "parameter_groups"]

_HIDDEN = ("qkv.weight", "proj.weight", "fc1.weight", "fc2.weight", "reduction.weight")


def parameter_groups(model: nn.Module) -> dict[str, list[str]]:
    """Names of the parameters by how they are trained.

    Returns:
        `hidden`: matrices inside the stages, for Muon; `decayed`: patch embedding, head and the mixing matrices of
        Swin-MLP; `undecayed`: norms, biases, bias tables and position embeddings. Bias tables are two-dimensional, so
        the groups go by name and not by shape.
    """
    groups: dict[str, list[str]] = {"hidden": [], "decayed": [], "undecayed": []}
    for name, parameter in model.named_parameters():
        if name.startswith("layers.") and name.endswith(_HIDDEN):
            groups["hidden"].append(name)
        elif parameter.ndim > 1 and not name.endswith(("relative_position_bias_table", "absolute_pos_embed")):
            groups["decayed"].append(name)
        else:
            groups["undecayed"].append(name)
    return groups


def build_optimizers(model: nn.Module, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """Optimizers for all parameters of a model: Muon (Jordan et al. 2024) and AdamW, or AdamW alone."""
    parameters = dict(model.named_parameters())
    groups = {key: [parameters[name] for name in names] for key, names in parameter_groups(model).items()}
    decayed = groups["decayed"]
    optimizers: list[torch.optim.Optimizer] = []
    if config.optimizer == "muon":
        optimizers.append(
            torch.optim.Muon(
                groups["hidden"],
                lr=config.lr,
                weight_decay=config.weight_decay,
                momentum=0.95,
                adjust_lr_fn="match_rms_adamw",
            )
        )
    else:
        decayed = groups["hidden"] + decayed
    adamw_groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": groups["undecayed"], "weight_decay": 0.0},
    ]
    betas = (0.9, 0.99) if config.optimizer == "muon" else (0.9, 0.999)
    optimizers.append(torch.optim.AdamW(adamw_groups, lr=config.lr, betas=betas, fused=True))
    return optimizers


def learning_rate(step: int, steps: int, config: TrainConfig) -> float:
    """Learning rate of a step, counted from 0, of `steps`: linear warm-up, then down to zero."""
    warmup = max(1, round(config.warmup * steps))
    if step < warmup:
        return config.lr * (step + 1) / warmup
    left = (steps - step) / max(1, steps - warmup)
    return config.lr * (left if config.schedule == "linear" else 0.5 * (1 - math.cos(math.pi * left)))


class MovingAverage:
    """Exponential moving average of the weights, with a warm-up of the decay so that the start is forgotten."""

    def __init__(self, parameters: Iterable[Tensor], decay: float):
        self.decay = decay
        self.values = [parameter.detach().clone() for parameter in parameters]

    def update(self, parameters: Iterable[Tensor], step: int) -> None:
        """Take in the weights after step number `step`, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(self.values, [p.detach() for p in parameters], 1 - decay)

    def restore(self, values: Iterable[Tensor]) -> None:
        """Take up the averages of an earlier run; `ValueError` if they are not of the same parameters."""
        values = list(values)
        if [value.shape for value in values] != [value.shape for value in self.values]:
            raise ValueError("the averages belong to other parameters")
        self.values = values

    def copy_to(self, parameters: Iterable[Tensor]) -> None:
        """Write the averages into `parameters`."""
        with torch.no_grad():
            for parameter, value in zip(parameters, self.values, strict=True):
                parameter.copy_(value)
