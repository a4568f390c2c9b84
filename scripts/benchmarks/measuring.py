"""What all benchmarks share: contenders that take turns, and Swin-T three times."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import timm
import torch
import torchvision
from torch import nn

import swin_core

Contenders = dict[str, Callable[[], object]]


def measure(title: str, contenders: Contenders, rounds: int, over: str) -> dict[str, Any]:
    """Time contenders in turn.

    Args:
        title: what is measured.
        contenders: name to call; the first is ours.
        rounds: rounds that count, after two that do not.
        over: what the ratio is taken over: "fastest" or "slowest" of the others, or a name.

    Returns:
        The medians in milliseconds, and the ratio of the other's median to ours.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 2):
        for name, call in contenders.items():
            start = time.perf_counter()
            call()
            if number >= 2:
                seconds[name].append(time.perf_counter() - start)
    medians = {name: 1000 * statistics.median(values) for name, values in seconds.items()}
    ours, *others = contenders
    against = min(others, key=medians.__getitem__) if over == "fastest" else over
    ratio = medians[against] / medians[ours]
    print(f"{title}: {ratio:.2f} times as fast as {against}")
    for name, values in seconds.items():
        print(f"    {name:32s} median {medians[name]:8.1f} ms   fastest {1000 * min(values):8.1f} ms")
    return {"title": title, "median_ms": medians, "against": against, "ratio": ratio, "rounds": rounds}


def swins() -> dict[str, nn.Module]:
    """Swin-T three times, in evaluation mode, with the same weights where the layouts agree."""
    torch.manual_seed(0)
    return {
        "swinlens": swin_core.build("swin_tiny").eval(),
        "timm": timm.create_model("swin_tiny_patch4_window7_224").eval(),
        "torchvision": torchvision.models.swin_t().eval(),
    }
