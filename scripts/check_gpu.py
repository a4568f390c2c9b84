#!/usr/bin/env python
"""Check the code on a GPU, or on two, and measure it beside compiled timm: `python scripts/check_gpu.py`.

It checks that a GPU gives the logits, gradients and maps of the CPU, that a run resumes, and that two ranks train as
one does. It measures inference, training, memory and Grad-CAM. Nothing else should use the GPUs meanwhile. Without a
GPU, `--tiny` runs everything once on the CPU, to test the script itself.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import timm
import torch
from PIL import Image
from torch import Tensor, nn

import swin_core
from swin_core import runs
from swin_core.attribution.gradcam import GRAD_CAM
from swin_core.attribution.targets import image_targets
from swin_core.figures.report_json import machine
from swin_core.system.atomic import check_writable
from swin_core.system.distributed import Ranks
from swin_core.training import TrainConfig, train

ROOT = Path(__file__).resolve().parent.parent
EXACT = 1e-3
"""Largest difference from the CPU in float32, as a share of the largest value."""
CLOSE = 5e-2
"""The same in bfloat16."""
SAME_LOSS = 1e-3
"""Largest difference of two losses that are to be equal, in nats; sums on a GPU have no fixed order."""
CALLS = 10
"""Calls between two synchronisations of a GPU."""
GOALS = {"inference": 1.15, "training": 1.3}
"""Images a second over those of compiled timm."""


class Line(NamedTuple):
    """A line of the table."""

    what: str
    value: float
    unit: str
    passed: bool | None = None
    """Whether a check holds or a goal is reached; None for a figure without one."""


class Sizes(NamedTuple):
    """How large everything is."""

    models: dict[str, str]
    """Our variants by the names of timm's."""
    side: int
    batch: int
    rounds: int
    compiles: bool
    shape: dict[str, Any]
    """Settings of the models that are not those of their variants."""


FULL = Sizes(
    {"swin_tiny_patch4_window7_224": "swin_tiny", "swin_base_patch4_window7_224": "swin_base"}, 224, 64, 20, True, {}
)
SMALL = {"embed_dim": 24, "depths": (1, 1, 1, 2), "num_heads": (1, 2, 4, 8)}
TINY = Sizes({"swin_tiny_patch4_window7_224": "swin_tiny"}, 56, 2, 1, False, SMALL)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return 1 if a check fails. Goals of speed do not count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="on the CPU, once, without compilation")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results to this file")
    options = parser.parse_args(arguments)
    if not options.tiny and not torch.cuda.is_available():
        parser.error("there is no GPU here; --tiny tries the script on the CPU")
    devices = ["cpu"] if options.tiny else [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    sizes = TINY if options.tiny else FULL
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    print(f"{machine()['device']}, {len(devices)} device{'s' * (len(devices) > 1)}, torch {torch.__version__}")
    if options.json:
        check_writable(options.json)
    lines: list[Line] = []
    for part in parts(devices, sizes):
        try:
            for line in part:
                mark = {None: "", True: "ok", False: "MISSED"}[line.passed]
                print(f"{line.what:60s} {line.value:12.5g} {line.unit:10s} {mark}", flush=True)
                lines.append(line)
        except Exception as error:  # a part that fails, such as by memory, leaves the others
            print(f"FAILED: {type(error).__name__}: {str(error)[-2000:]}", flush=True)
            lines.append(Line(f"a part failed: {type(error).__name__}", float("nan"), "", False))
    if options.json:
        content = {"machine": machine(), "torch": torch.__version__, "results": [line._asdict() for line in lines]}
        options.json.write_text(json.dumps(content, indent=2))
    return int(any(line.passed is False and line.unit != "times" for line in lines))


def parts(devices: list[str], sizes: Sizes) -> Iterator[Iterator[Line]]:
    """Yield the parts of the table, for the first device and, of two ranks, for the first two."""
    device = torch.device(devices[0])
    for variant in ("swin_nano", "swinv2_nano"):
        yield equality(variant, device, sizes)
    with tempfile.TemporaryDirectory() as folder:
        images = noise_images(Path(folder) / "images")
        yield resume(device, images, Path(folder))
        yield two_ranks(devices, images, Path(folder))
    for theirs, ours in sizes.models.items():
        yield from (speed(theirs, ours, kind, device, sizes) for kind in GOALS)
    yield gradcam(device, sizes)


def equality(variant: str, device: torch.device, sizes: Sizes) -> Iterator[Line]:
    """Compare logits, gradients and maps on a device with those on the CPU, for images that need padding."""
    torch.manual_seed(0)
    model = swin_core.build(variant, num_classes=5).eval()
    for parameter in model.parameters():  # norms that start at 0 would hide what comes before them
        nn.init.normal_(parameter, std=0.2)
    x = torch.randn(2, 3, 34, 26)
    expected = results(model, x)
    model.to(device)
    for name, difference in differences(results(model, x.to(device)), expected):
        yield Line(f"{variant}: {name} differ from the CPU's by", difference, "", difference <= EXACT)
    fast = torch.compile(model, fullgraph=True) if sizes.compiles else model
    with torch.autocast(device.type, torch.bfloat16):
        narrow = {"logits": fast(x.to(device)).detach().float().cpu()}
    for name, difference in differences(narrow, expected):
        yield Line(f"{variant}, compiled, bfloat16: {name} differ by", difference, "", difference <= CLOSE)


def results(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Return logits, the gradient of each parameter and a Grad-CAM map, on the CPU."""
    model.zero_grad()
    logits = model(x)
    logits.square().mean().backward()
    explained = GRAD_CAM.function(model, x, image_targets([1]), ["layers.1.blocks.1"])
    found = {"logits": logits, "maps": explained.maps[0][0]}
    found |= {f"gradient {name}": value.grad for name, value in model.named_parameters() if value.grad is not None}
    return {name: value.detach().cpu() for name, value in found.items()}


def differences(found: dict[str, Tensor], expected: dict[str, Tensor]) -> Iterator[tuple[str, float]]:
    """Yield the largest difference of logits, of maps and of all gradients, each over its own largest value."""
    ratios = {
        name: float((value - expected[name]).abs().max() / expected[name].abs().max()) for name, value in found.items()
    }
    for kind in ("logits", "maps", "gradient"):
        if values := [ratio for name, ratio in ratios.items() if name.startswith(kind)]:
            yield kind, max(values)


def noise_images(folder: Path) -> Path:
    """Write a folder of three classes with twelve images of noise each."""
    draw = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        (folder / name).mkdir(parents=True)
        for number in range(12):
            Image.fromarray(draw.integers(0, 256, (32, 32, 3), np.uint8)).save(folder / name / f"{number}.png")
    return folder


def settings(images: Path) -> dict[str, Any]:
    """Return the settings of a short run."""
    return {"variant": "swin_nano", "data": str(images), "epochs": 2, "batch_size": 8, "holdout": 0.25, "ema": 0.9}


def resume(device: torch.device, images: Path, root: Path) -> Iterator[Line]:
    """Stop a run after its third step, resume it, and compare all losses with those of a run that never stopped."""
    config = TrainConfig(**settings(images), precision="float32")
    ranks = Ranks(device=device)
    whole, stopped = (runs.create(config.to_dict(), root / "resume") for _ in range(2))
    train(config, whole, ranks=ranks)
    asked = iter([False, False, True])
    train(config, stopped, ranks=ranks, stopping=lambda: next(asked))
    train(config, stopped, ranks=ranks)
    difference = float(np.abs(losses(whole) - losses(stopped)).max())
    yield Line("a resumed run's losses differ by", difference, "nats", difference <= SAME_LOSS)


def two_ranks(devices: list[str], images: Path, root: Path) -> Iterator[Line]:
    """Train with two ranks, on two GPUs or on the CPU, and with one, and compare the losses of the epochs."""
    places = devices[:2] if len(devices) > 1 else ["cpu"]
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), "custom", f"--runs-root={root / 'ranks'}"]
    command += [f"--{name.replace('_', '-')}={value}" for name, value in settings(images).items()]
    command += ["--init=", "--precision=float32", "--processes=2", "--devices", *places]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    if done.returncode:
        raise RuntimeError(f"a run with 2 ranks failed:\n{done.stdout[-1000:]}{done.stderr[-1000:]}")
    run = Path(done.stdout.splitlines()[-1])
    config = TrainConfig.of_run(run)
    alone = runs.create(config.to_dict(), root / "rank")
    train(config, alone, ranks=Ranks(device=torch.device(places[0])))
    difference = float(np.abs(losses(run) - losses(alone)).max())
    yield Line(f"two ranks' losses ({', '.join(places)}) differ by", difference, "nats", difference <= SAME_LOSS)


def losses(run: Path) -> np.ndarray:
    """Return a run's training and validation loss of each epoch, in nats."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return np.array([[line["train_loss"], line["loss"]] for line in lines])


def speed(theirs: str, ours: str, kind: str, device: torch.device, sizes: Sizes) -> Iterator[Line]:
    """Measure inference or training in bfloat16 beside the faster of two compiled timm, and the memory it takes."""
    x = torch.randn(sizes.batch, 3, sizes.side, sizes.side, device=device)
    labels = torch.randint(0, 1000, (sizes.batch,), device=device)
    rates: dict[str, float] = {}
    for name in ("timm", "timm with fused attention", "swinlens"):
        torch.compiler.reset()
        timm.layers.set_fused_attn(True, experimental=name == "timm with fused attention")  # as for TIMM_FUSED_ATTN=2
        model: nn.Module
        if name == "swinlens":
            model = swin_core.build(ours, **sizes.shape)
        else:
            model = timm.create_model(theirs, img_size=sizes.side, drop_path_rate=0.0, **sizes.shape)
        model = model.to(device).train(kind == "training")
        if name == "swinlens":
            eager = images_per_second(step(model, x, labels, kind), device, sizes)
            yield Line(f"{ours}, {kind}, without compilation", eager, "images/s")
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        fast = torch.compile(model, fullgraph=name == "swinlens") if sizes.compiles else model
        rates[name] = images_per_second(step(fast, x, labels, kind), device, sizes)
        yield Line(f"{ours}, {kind}, {name}", rates[name], "images/s")
        if device.type == "cuda":
            yield Line(f"{ours}, {kind}, {name}: memory", torch.cuda.max_memory_allocated(device) / 2**20, "MiB")
        del model, fast
    ratio = rates.pop("swinlens") / max(rates.values())
    yield Line(f"{ours}, {kind} over the faster timm", ratio, "times", ratio >= GOALS[kind])


def step(model: Any, x: Tensor, labels: Tensor, kind: str) -> Callable[[], object]:
    """Return a call that runs a forward pass, or a training step with AdamW, in bfloat16."""
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)

    def predict() -> object:
        with torch.no_grad(), torch.autocast(x.device.type, torch.bfloat16):
            return model(x)

    def learn() -> object:
        optimizer.zero_grad()
        with torch.autocast(x.device.type, torch.bfloat16):
            loss = nn.functional.cross_entropy(model(x), labels)
        loss.backward()
        return optimizer.step()

    return predict if kind == "inference" else learn


def images_per_second(call: Callable[[], object], device: torch.device, sizes: Sizes) -> float:
    """Return the median rate of a call on a batch."""
    return sizes.batch / median_seconds(call, device, sizes.rounds)


def median_seconds(call: Callable[[], object], device: torch.device, rounds: int) -> float:
    """Return the median time of a call, after a warm-up on a GPU, which runs several calls at a time."""
    calls, warm_up = (CALLS, 2) if device.type == "cuda" else (1, 0)
    seconds = []
    for _ in range(rounds + warm_up):
        wait(device)
        start = time.perf_counter()
        for _ in range(calls):
            call()
        wait(device)
        seconds.append((time.perf_counter() - start) / calls)
    return statistics.median(seconds[-rounds:])


def wait(device: torch.device) -> None:
    """Wait until a GPU has finished what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def gradcam(device: torch.device, sizes: Sizes) -> Iterator[Line]:
    """Measure Grad-CAM of 1, 4 and 16 classes of one image, in float32."""
    model = swin_core.build("swin_tiny", **sizes.shape).to(device).eval()
    x = torch.randn(1, 3, sizes.side, sizes.side, device=device)
    for classes in (1, 4, 16):
        targets = image_targets(list(range(classes)))

        def call(targets: Any = targets) -> object:
            return GRAD_CAM.function(model, x, targets, ["layers.3.blocks.1"])

        milliseconds = 1000 * median_seconds(call, device, sizes.rounds)
        yield Line(f"Grad-CAM, Swin-T, classes: {classes}", milliseconds, "ms")


if __name__ == "__main__":
    sys.exit(main())
