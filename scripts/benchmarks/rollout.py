"""Attention rollout and relevance propagation: their time over plain inference, and rollout's memory by image size."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from benchmarks.timing import Contenders, inference, measure
from torch.profiler import ProfilerActivity, profile

import swin_core
from swin_core.attribution.lrp import relevance
from swin_core.attribution.rollout import gradient_rollout, plain_rollout
from swin_core.attribution.targets import Target, batch_targets


def rollout(rounds: int) -> list[dict[str, Any]]:
    """Attention rollout of Swin-T: time at 224 pixels over plain inference, and peak memory from 224 to 896."""
    model = swin_core.build("swin_tiny").eval()
    x, target = torch.randn(1, 3, 224, 224), torch.tensor([0])
    calls: Contenders = {
        "rollout": lambda: plain_rollout(model, x, no_targets),
        "inference alone": inference(model, x),
        "rollout x gradient": lambda: gradient_rollout(model, x, batch_targets(target)),
        "relevance propagation": lambda: relevance(model, x, target),
    }
    result = measure("attention rollout, Swin-T, 224 px", calls, rounds, "inference alone")
    result["over_inference"] = 1 / result["ratio"]
    print(f"    rollout takes {result['over_inference']:.2f} times our own inference")
    sizes = []
    for side in (224, 448, 896):
        image = torch.randn(1, 3, side, side)
        row = {
            "side": side,
            "rollout_mb": peak_memory(partial(plain_rollout, model, image, no_targets)),
            "inference_mb": peak_memory(inference(model, image)),
        }
        row["bytes_a_pixel"] = row["rollout_mb"] * 1e6 / side**2
        sizes.append(row)
        print(
            f"    {side} px: peak {row['rollout_mb']:7.1f} MB, {row['bytes_a_pixel']:.0f} bytes a pixel"
            f"   inference alone {row['inference_mb']:7.1f} MB"
        )
    return [result, {"title": "memory of attention rollout, Swin-T", "sizes": sizes}]


def no_targets(logits: torch.Tensor) -> list[Target]:
    """Select no class: plain rollout has one map for all of them."""
    return []


def peak_memory(call: Callable[[], object]) -> float:
    """Return the peak memory of the tensors that a call allocates, in MB (10^6 bytes), by PyTorch's profiler."""
    call()  # fills the caches, which are not counted
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    kineto = profiler.profiler
    assert kineto is not None
    assert kineto.kineto_results is not None
    events = [event for event in kineto.kineto_results.events() if event.name() == "[memory]"]
    current = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        current += event.nbytes()
        peak = max(peak, current)
    return peak / 1e6
