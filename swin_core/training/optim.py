"""Optimizers with the right groups, the learning rate as a function of the step, and the moving average of weights."""

import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from swin_core.errors import ConfigError
from swin_core.models.swin import Swin
from swin_core.training.config import TrainConfig
from swin_core.training.muon import Muon

__all__ = ["build_optimizers", "depths", "freeze", "learning_rate", "moving_average", "parameter_groups"]

Tensors = tuple[Tensor, ...] | list[Tensor]
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


def depths(model: Swin) -> dict[str, int]:
    """For each parameter how many blocks lie before it: 0 for the patch embedding, blocks + 1 for last norm and head.

    A patch merging counts as a part of the block before it.
    """
    first = list(itertools.accumulate(model.config.depths, initial=1))
    found = {}
    for name, _ in model.named_parameters():
        parts = name.split(".")
        if parts[0] in ("patch_embed", "absolute_pos_embed"):
            found[name] = 0
        elif parts[0] == "layers":
            stage = int(parts[1])
            found[name] = first[stage] + int(parts[3]) if parts[2] == "blocks" else first[stage + 1] - 1
        else:
            found[name] = first[-1]
    return found


def freeze(model: Swin, parts: int) -> None:
    """Let the first parts of a model keep their weights: 1 the patch embedding, 2 also stage 1, and so on.

    Raises:
        ConfigError: the model has fewer parts than that.
    """
    stages = len(model.config.depths)
    if parts > stages + 1:
        raise ConfigError(f"freeze is at most {stages + 1} for a model of {stages} stages, so that the head learns.")
    frozen = ("patch_embed.", "absolute_pos_embed", *(f"layers.{stage}." for stage in range(parts - 1)))
    if parts:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not name.startswith(frozen))


def build_optimizers(model: Swin, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """Optimizers for all parameters that learn: Muon (Jordan et al. 2024) and AdamW, or AdamW alone.

    Each group has a `scale`, the factor on the learning rate that layer decay gives its depth (Bao et al. 2021).
    """
    parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
    groups = {key: [name for name in names if name in parameters] for key, names in parameter_groups(model).items()}
    if config.optimizer == "adamw":
        groups = {"hidden": [], "decayed": groups["hidden"] + groups["decayed"], "undecayed": groups["undecayed"]}
    depth = depths(model)
    deepest = max(depth.values())

    def by_depth(names: Iterable[str], decay: float) -> list[dict[str, Any]]:
        scales: dict[float, list[Tensor]] = {}
        for name in names:
            scales.setdefault(config.layer_decay ** (deepest - depth[name]), []).append(parameters[name])
        return [
            {"params": members, "weight_decay": decay, "lr": config.lr * scale, "scale": scale}
            for scale, members in scales.items()
        ]

    optimizers: list[torch.optim.Optimizer] = []
    if groups["hidden"]:
        hidden = by_depth(groups["hidden"], config.weight_decay)
        optimizers.append(Muon(hidden))
    rest = by_depth(groups["decayed"], config.weight_decay) + by_depth(groups["undecayed"], 0.0)
    betas = (0.9, 0.99) if config.optimizer == "muon" else (0.9, 0.999)
    optimizers.append(torch.optim.AdamW(rest, betas=betas, fused=True))
    return optimizers


def learning_rate(step: int, steps: int, config: TrainConfig) -> float:
    """Learning rate of a step, counted from 0, of `steps`: linear warm-up, then down to zero."""
    warmup = max(1, round(config.warmup * steps))
    if step < warmup:
        return config.lr * (step + 1) / warmup
    left = (steps - step) / max(1, steps - warmup)
    return config.lr * (left if config.schedule == "linear" else 0.5 * (1 - math.cos(math.pi * left)))


def moving_average(model: nn.Module, decay: float, step: Callable[[], int]) -> AveragedModel:
    """Exponential moving average of the weights, on the model's device.

    The decay rises from 0.1 to `decay`, so that the average soon forgets the random weights it starts from.

    Args:
        model: its weights are the first average.
        decay: largest decay.
        step: number of the step that `update_parameters` follows, counted from 0.
    """

    # The step comes from the caller: AveragedModel's own count is on the device, and reading it would wait for a GPU.
    def update(averages: Tensors, weights: Tensors, count: Tensor | int) -> None:
        torch._foreach_lerp_(averages, weights, 1 - min(decay, (1 + step()) / (10 + step())))
        torch.autograd.graph.increment_version(averages)  # foreach kernels do not, and attention keeps terms by it

    average = AveragedModel(model, multi_avg_fn=update)
    average.n_averaged.fill_(1)  # at 0 the first update would only copy the weights
    return average
