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
from swin_core.system.distributed import Ranks
from swin_core.training import TrainConfig, train

ROOT = Path(__file__).resolve().parent.parent
EXACT = 1e-3
"""Largest difference from the CPU in float32, as a share of the largest value."""
SAME_LOSS = 1e-2
"""Largest difference of two losses that are to be equal; sums on a GPU have no fixed order."""
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


FULL = Sizes(
    {"swin_tiny_patch4_window7_224": "swin_tiny", "swin_base_patch4_window7_224": "swin_base"}, 224, 64, 20, True
)
TINY = Sizes({"swin_tiny_patch4_window7_224": "swin_tiny"}, 56, 2, 1, False)


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
    lines: list[Line] = []
    for line in check(devices, sizes):
        mark = {None: "", True: "ok", False: "MISSED"}[line.passed]
        print(f"{line.what:60s} {line.value:12.5g} {line.unit:10s} {mark}", flush=True)
        lines.append(line)
    if options.json:
        content = {"machine": machine(), "torch": torch.__version__, "results": [line._asdict() for line in lines]}
        options.json.write_text(json.dumps(content, indent=2))
    return int(any(line.passed is False and line.unit != "times" for line in lines))


def check(devices: list[str], sizes: Sizes) -> Iterator[Line]:
    """Yield all lines, for the first device and, of two ranks, for the first two."""
    device = torch.device(devices[0])
    yield from equality(device)
    with tempfile.TemporaryDirectory() as folder:
        images = noise_images(Path(folder) / "images")
        yield resume(device, images, Path(folder))
        yield two_ranks(devices, images, Path(folder))
    for theirs, ours in sizes.models.items():
        yield from speed(theirs, ours, device, sizes)
    yield from gradcam(device, sizes)


def equality(device: torch.device) -> Iterator[Line]:
    """Compare logits, gradients and maps on a device with those on the CPU, in float32."""
    for variant in ("swin_nano", "swinv2_nano"):
        torch.manual_seed(0)
        model = swin_core.build(variant, num_classes=5).eval()
        x = torch.randn(2, 3, 32, 32)
        found: list[dict[str, Tensor]] = []
        for place in (torch.device("cpu"), device):
            model.to(place)
            model.zero_grad()
            logits = model(x.to(place))
            logits.square().sum().backward()
            gradients = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
            explained = GRAD_CAM.function(model, x.to(place), image_targets([1]), ["layers.1.blocks.1"])
            values = {"logits": logits, "gradients": gradients, "Grad-CAM": explained.maps[0][0]}
            found.append({name: value.detach().cpu() for name, value in values.items()})
        for name, value in found[0].items():
            difference = float((found[1][name] - value).abs().max() / value.abs().max())
            yield Line(f"{variant}: {name} differ from the CPU's by", difference, "", difference <= EXACT)


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


def resume(device: torch.device, images: Path, root: Path) -> Line:
    """Stop a run after its third step, resume it, and compare its last loss with that of a run that never stopped."""
    config = TrainConfig(**settings(images), precision="float32")
    ranks = Ranks(device=device)
    whole, stopped = (runs.create(config.to_dict(), root / "resume") for _ in range(2))
    train(config, whole, ranks=ranks)
    asked = iter([False, False, True])
    train(config, stopped, ranks=ranks, stopping=lambda: next(asked))
    train(config, stopped, ranks=ranks)
    difference = abs(last_loss(whole) - last_loss(stopped))
    return Line("a resumed run's last loss differs by", difference, "nats", difference <= SAME_LOSS)


def two_ranks(devices: list[str], images: Path, root: Path) -> Line:
    """Train with two ranks, on two GPUs or on the CPU, and with one, and compare the last losses."""
    places = devices[:2] if len(devices) > 1 else ["cpu"]
    losses = []
    for count in (1, 2):
        folder = root / f"ranks{count}"
        command = [sys.executable, str(ROOT / "scripts" / "train.py"), "custom", f"--runs-root={folder}"]
        command += [f"--{name.replace('_', '-')}={value}" for name, value in settings(images).items()]
        command += [
            "--init=",
            "--precision=float32",
            f"--processes={count}",
            "--devices",
            *(places if count == 2 else places[:1]),
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"a run with {count} ranks failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        losses.append(last_loss(runs.list_runs(folder)[0].folder))
    difference = abs(losses[1] - losses[0])
    return Line(f"two ranks' last loss ({', '.join(places)}) differs by", difference, "nats", difference <= SAME_LOSS)


def last_loss(run: Path) -> float:
    """Return the validation loss of a run's last epoch, in nats."""
    return float(json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["loss"])


def speed(theirs: str, ours: str, device: torch.device, sizes: Sizes) -> Iterator[Line]:
    """Measure inference and training in bfloat16 beside compiled timm, and the memory of a training step."""
    x = torch.randn(sizes.batch, 3, sizes.side, sizes.side, device=device)
    labels = torch.randint(0, 1000, (sizes.batch,), device=device)
    makers: dict[str, Callable[[], nn.Module]] = {
        "timm": lambda: timm.create_model(theirs, img_size=sizes.side, drop_path_rate=0.0),
        "swinlens": lambda: swin_core.build(ours),
    }
    for kind in ("inference", "training"):
        rates: dict[str, float] = {}
        for name, make in makers.items():
            torch.compiler.reset()
            model = make().to(device).train(kind == "training")
            if torch.cuda.is_available():
                torch.cuda.reset_peak_memory_stats(device)
            if name == "swinlens":
                eager = images_per_second(step(model, x, labels, kind), device, sizes)
                yield Line(f"{ours}, {kind}, without compilation", eager, "images/s")
            fast = torch.compile(model) if sizes.compiles else model
            rates[name] = images_per_second(step(fast, x, labels, kind), device, sizes)
            yield Line(f"{ours}, {kind}, {name}", rates[name], "images/s")
            if kind == "training" and device.type == "cuda":
                yield Line(f"{ours}, {kind}, {name}: memory", torch.cuda.max_memory_allocated(device) / 2**20, "MiB")
        ratio = rates["swinlens"] / rates["timm"]
        yield Line(f"{ours}, {kind} over timm", ratio, "times", ratio >= GOALS[kind])


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
    """Return the median time of a call, after three calls of warm-up on a GPU."""
    seconds = []
    for _ in range(rounds + 3 * (device.type == "cuda")):
        wait(device)
        start = time.perf_counter()
        call()
        wait(device)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[-rounds:])


def wait(device: torch.device) -> None:
    """Wait until a GPU has finished what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def gradcam(device: torch.device, sizes: Sizes) -> Iterator[Line]:
    """Measure Grad-CAM of 1, 4 and 16 classes of one image, in float32."""
    model = swin_core.build("swin_tiny").to(device).eval()
    x = torch.randn(1, 3, sizes.side, sizes.side, device=device)
    for classes in (1, 4, 16):
        targets = image_targets(list(range(classes)))

        def call(targets: Any = targets) -> object:
            return GRAD_CAM.function(model, x, targets, ["layers.3.blocks.1"])

        milliseconds = 1000 * median_seconds(call, device, sizes.rounds)
        yield Line(f"Grad-CAM, Swin-T, classes: {classes}", milliseconds, "ms")


if __name__ == "__main__":
    sys.exit(main())
