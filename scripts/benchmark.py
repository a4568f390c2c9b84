#!/usr/bin/env python
"""Compare speed with timm, torchvision and pytorch-grad-cam: `python scripts/benchmark.py inference`.

The contenders take turns within each round, so that changes of the machine's speed affect all of them. Medians and
their ratios are printed, and written as JSON. Nothing else should run at the same time.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import openvino
import timm
import torch
import torchvision
from benchmarks import (
    audit,
    browse,
    brush,
    demo,
    explanations,
    peers,
    rollout,
    survival,
    timing,
    training,
    trust,
    viewer,
)
from benchmarks.browser import chromium, dashboard
from benchmarks.timing import measure
from streamlit.testing.v1 import AppTest
from torch import nn

from swin_core.errors import SwinError
from swin_core.figures.report_json import machine
from swin_core.system.atomic import check_writable
from swin_core.system.memory import keep_freed_memory

ROOT = Path(__file__).resolve().parent.parent


def linear(rounds: int) -> list[dict[str, Any]]:
    """Linear layers of Swin-T at 224 pixels: ours with oneDNN against nn.Linear."""
    from swin_core.models.linear import Linear

    results = []
    for tokens, inputs, outputs in ((3136, 96, 384), (196, 384, 1536), (49, 3072, 768)):
        ours = Linear(inputs, outputs)
        theirs = nn.Linear(inputs, outputs)
        x = torch.randn(tokens, inputs)
        title = f"linear layer, {tokens} tokens, {inputs} to {outputs}"
        calls = {"swinlens": timing.inference(ours, x), "nn.Linear": timing.inference(theirs, x)}
        results.append(measure(title, calls, 4 * rounds, "nn.Linear"))
    return results


def page(rounds: int) -> list[dict[str, Any]]:
    """The Compare page: cold start to the first view in Chromium, and a rerun with everything in the cache."""
    cold = _cold_start()
    app = AppTest.from_file(str(ROOT / "dashboard" / "main.py"), default_timeout=120)
    app.run()
    rerun = timing.median_ms(app.run, rounds, warm_up=0)
    print(f"page: cold start to the first view {cold:.1f} s; cached rerun, median {rerun:.0f} ms, {rounds} rounds")
    return [{"title": "page", "cold_start_s": cold, "cached_rerun_ms": rerun, "rounds": rounds}]


def _cold_start() -> float:
    """Return the seconds from the start of the documented command to the last heat map of the first view."""
    with chromium() as browser:
        tab = browser.new_page(viewport={"width": 1440, "height": 1000})
        start = time.perf_counter()
        with dashboard() as (address, _):
            tab.goto(address)
            tab.locator(".viewer .frame").nth(1).wait_for(state="attached", timeout=60_000)
            return time.perf_counter() - start


BENCHMARKS: dict[str, Callable[[int], list[dict[str, Any]]]] = {
    "inference": peers.inference,
    "gradcam": explanations.gradcam,
    "grid4x4": explanations.grid4x4,
    "linear": linear,
    "training": training.training,
    "around": training.around,
    "two_ranks": training.two_ranks,
    "page": page,
    "train_page": training.train_page,
    "browse": browse.browse,
    "brush": brush.brush,
    "rollout": rollout.rollout,
    "trust": trust.trust,
    "demo": demo.demo,
    "viewer": viewer.viewer,
}
SURVIVAL: dict[str, tuple[str, ...]] = {"survival": survival.PARTS} | {
    f"survival:{part}": (part,) for part in survival.PARTS
}
"""Names of the survival benchmark and of its parts, which take hours and are not run by default."""


def main() -> None:
    """Run the command line."""
    texts = "\n".join(
        f"  {name}: {call.__doc__}"
        for name, call in [*BENCHMARKS.items(), ("survival", survival.survival), ("audit", audit.audit)]
    )
    parser = argparse.ArgumentParser(
        description=f"{__doc__}\n\nbenchmarks:\n{texts}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "what", nargs="*", metavar="WHAT", help="benchmarks to run (default: all but survival and audit)"
    )
    parser.add_argument("--short", action="store_true", help="survival, audit: a few tries")
    parser.add_argument("--rounds", type=int, default=15, help="measured rounds (default: 15)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: 2)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results to this file")
    arguments = parser.parse_args()
    keep_freed_memory()
    unknown = [what for what in arguments.what if what not in (*BENCHMARKS, *SURVIVAL, "audit")]
    if unknown or arguments.rounds < 1 or arguments.threads < 1:
        parser.error(f"unknown benchmark {unknown[0]!r}" if unknown else "--rounds and --threads must be at least 1")
    torch.set_num_threads(arguments.threads)
    if arguments.json:
        try:
            check_writable(arguments.json)
        except SwinError as error:
            parser.error(str(error))
    host = machine()
    environment = {
        "processor": f"{host['processor']} ({host['instructions']})",
        "cores": os.cpu_count(),
        "threads": arguments.threads,
        "torch": torch.__version__,
        "timm": timm.__version__,
        "torchvision": torchvision.__version__,
        "numpy": np.__version__,
        "openvino": openvino.__version__,
        "onnxruntime": onnxruntime.__version__,
    }
    print(", ".join(f"{key} {value}" for key, value in environment.items()))
    results = []
    for what in arguments.what or BENCHMARKS:
        if what in SURVIVAL:
            results += survival.survival(SURVIVAL[what], arguments.short)
        elif what == "audit":
            results += audit.audit(arguments.short)
        else:
            results += BENCHMARKS[what](arguments.rounds)
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": environment, "results": results}, indent=2))
    if any(result.get("lost") or result.get("faults") for result in results if "part" in result):
        sys.exit(1)


if __name__ == "__main__":
    main()
