"""Optimizers and their parameter groups, the learning-rate schedule, and the moving average of the weights."""

import itertools
import math
import re
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from swin_core.errors import ConfigError
from swin_core.models.swin import Swin
from swin_core.training.config import TrainConfig
from swin_core.training.muon import Muon

Tensors = tuple[Tensor, ...] | list[Tensor]
_UNDECAYED = re.compile(r"relative_position_bias_table|absolute_pos_embed|cpb_mlp|logit_scale")
_HIDDEN = ("qkv.weight", "proj.weight", "fc1.weight", "fc2.weight", "reduction.weight")


def parameter_groups(model: nn.Module) -> dict[str, list[str]]:
    """Return the names of the parameters by how they are trained.

    The groups go by name, not by shape: bias tables are matrices too.

    Returns:
        `hidden`: matrices inside the stages, for Muon; `decayed`: patch embedding, head and the mixing matrices of
        Swin-MLP; `undecayed`: norms, biases, position embeddings, and what position bias and cosine attention learn.
    """
    groups: dict[str, list[str]] = {"hidden": [], "decayed": [], "undecayed": []}
    for name, parameter in model.named_parameters():
        if name.startswith("layers.") and name.endswith(_HIDDEN):
            groups["hidden"].append(name)
        elif parameter.ndim > 1 and not _UNDECAYED.search(name):
            groups["decayed"].append(name)
        else:
            groups["undecayed"].append(name)
    return groups


def depths(model: Swin) -> dict[str, int]:
    """Return for each parameter the number of blocks before it: 0 for the patch embedding, blocks + 1 for the head.

    A patch merging counts with the block before it.
    """
    first = list(itertools.accumulate(model.config.depths, initial=1))
    result = {}
    for name, _ in model.named_parameters():
        parts = name.split(".")
        if parts[0] in ("patch_embed", "absolute_pos_embed"):
            result[name] = 0
        elif parts[0] == "layers":
            stage = int(parts[1])
            result[name] = first[stage] + int(parts[3]) if parts[2] == "blocks" else first[stage + 1] - 1
        else:
            result[name] = first[-1]
    return result


def freeze(model: Swin, parts: int) -> None:
    """Freeze the first parts of a model: 1 for the patch embedding, 2 for stage 1 too, and so on.

    Raises:
        ConfigError: the model has fewer parts.
    """
    stages = len(model.config.depths)
    if parts > stages + 1:
        raise ConfigError(f"freeze is at most {stages + 1} for a model of {stages} stages, so that the head learns.")
    frozen = ("patch_embed.", "absolute_pos_embed", *(f"layers.{stage}." for stage in range(parts - 1)))
    if parts:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not name.startswith(frozen))


def build_optimizers(model: Swin, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """Return the optimizers of all trainable parameters: Muon (Jordan et al. 2024) and AdamW, or AdamW alone.

    Each group has a `scale`: layer decay's factor on the learning rate at its depth (Bao et al. 2021).
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
        optimizers.append(Muon(by_depth(groups["hidden"], config.weight_decay)))
    rest = by_depth(groups["decayed"], config.weight_decay) + by_depth(groups["undecayed"], 0.0)
    betas = (0.9, 0.99) if config.optimizer == "muon" else (0.9, 0.999)
    optimizers.append(torch.optim.AdamW(rest, betas=betas, fused=True))
    return optimizers


def learning_rate(step: int, steps: int, config: TrainConfig) -> float:
    """Return the learning rate of a step, from 0: linear warm-up, then linear or cosine decay to zero."""
    warmup = max(1, round(config.warmup * steps))
    if step < warmup:
        return config.lr * (step + 1) / warmup
    left = (steps - step) / max(1, steps - warmup)
    return config.lr * (left if config.schedule == "linear" else 0.5 * (1 - math.cos(math.pi * left)))


def moving_average(model: nn.Module, decay: float, step: Callable[[], int]) -> AveragedModel:
    """Return an exponential moving average of the weights, on the model's device.

    The decay rises from 0.1 to `decay`, so that the average soon forgets the initial weights.

    Args:
        model: its weights are the first average.
        decay: largest decay.
        step: returns the number of the step that `update_parameters` follows, from 0.
    """

    # The caller gives the step: AveragedModel's own count is on the device, and reading it would wait for a GPU.
    def update(averages: Tensors, weights: Tensors, count: Tensor | int) -> None:
        torch._foreach_lerp_(averages, weights, 1 - min(decay, (1 + step()) / (10 + step())))
        torch.autograd.graph.increment_version(averages)  # foreach kernels do not; attention caches by version

    average = AveragedModel(model, multi_avg_fn=update)
    average.n_averaged.fill_(1)  # at 0 the first update would only copy the weights
    return average
