"""Time contenders in turns, and build the Swin-T models that several benchmarks compare."""

import socket
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
    """Time contenders in turns, in each round another one first.

    Args:
        title: what is measured.
        contenders: calls by name; the first one is ours.
        rounds: measured rounds, after two rounds of warm-up.
        over: name of the contender to compare with, or "fastest" for the fastest of the others.

    Returns:
        The medians in milliseconds, and the ratio of the other's median to ours.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 2):
        names = list(contenders)
        first = number % len(names)
        for name in names[first:] + names[:first]:
            start = time.perf_counter()
            contenders[name]()
            if number >= 2:
                seconds[name].append(time.perf_counter() - start)
    medians = {name: 1000 * statistics.median(values) for name, values in seconds.items()}
    ours, *others = contenders
    compared = min(others, key=medians.__getitem__) if over == "fastest" else over
    ratio = medians[compared] / medians[ours]
    print(f"{title}: {ratio:.2f} times as fast as {compared}")
    for name, values in seconds.items():
        print(f"    {name:32s} median {medians[name]:8.1f} ms   fastest {1000 * min(values):8.1f} ms")
    return {"title": title, "median_ms": medians, "against": compared, "ratio": ratio, "rounds": rounds}


def inference(model: nn.Module, x: torch.Tensor) -> Callable[[], object]:
    """Return a call that runs a model on `x` without gradients."""

    def call() -> object:
        with torch.inference_mode():
            return model(x)

    return call


def free_port() -> int:
    """Return a port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def median_ms(call: Callable[[], object], rounds: int, warm_up: int = 2) -> float:
    """Return the median time of a call in milliseconds."""
    seconds = []
    for number in range(rounds + warm_up):
        start = time.perf_counter()
        call()
        if number >= warm_up:
            seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds)


def swins() -> dict[str, nn.Module]:
    """Return Swin-T of SwinLens, timm and torchvision with random weights, in evaluation mode."""
    torch.manual_seed(0)
    return {
        "swinlens": swin_core.build("swin_tiny").eval(),
        "timm": timm.create_model("swin_tiny_patch4_window7_224").eval(),
        "torchvision": torchvision.models.swin_t().eval(),
    }
