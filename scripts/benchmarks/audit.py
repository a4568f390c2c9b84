"""The audit on planted shortcuts: small models fine-tuned on flower_photos with a mark, each audited afterwards."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from swin_core.audit.findings import audit as run_audit
from swin_core.audit.planted import plant
from swin_core.audit.results import Tested
from swin_core.data.dataset import data_root
from swin_core.data.folders import image_folder
from swin_core.zoo.load import load

MARKED, FIRST = "tulips", 3
CLASSES = ("daisy", "dandelion", "roses", "sunflowers", "tulips")
PLACED = ("square", "logo", "date", "frame", "line")
ELSEWHERE = ("sticker", "tint", "blur")
"""Marks that have no place."""
CASES = [
    *((mark, (MARKED,), share) for mark in PLACED + ELSEWHERE for share in (1.0, 0.6)),
    *((mark, CLASSES, 1.0) for mark in PLACED + ELSEWHERE),
    ("square", (), 1.0),
]
"""Mark, the classes that carry it, and the share of their images: planted, useless in all classes, and clean."""
SETTINGS = {"init": "swin_nano_cifar100", "variant": "swin_nano", "image-size": 64, "patch-size": 4, "window-size": 4}
SETTINGS |= {"lr": 0.002, "crop-scale": 0.6}


def audit(short: bool) -> list[dict[str, Any]]:
    """Planted shortcuts: are they among the first three findings, and do clean models have none? Takes two hours."""
    cases, most, epochs = (CASES[:1] + CASES[-1:], 16, 1) if short else (CASES, 300, 8)
    results = []
    for number, (mark, classes, share) in enumerate(cases):
        with tempfile.TemporaryDirectory() as folder:
            results.append(_case(Path(folder), mark, classes, share, most, epochs, number))
        print(", ".join(f"{key} {value}" for key, value in results[-1].items()))
    planted = [result for result in results if result["classes"] == 1]
    others = [result for result in results if result["classes"] != 1]
    ious = sorted(result["iou"] for result in planted if result["iou"] is not None)
    found, alarms = sum(result["found"] for result in planted), sum(result["findings"] > 0 for result in others)
    print(f"audit: {found} of {len(planted)} planted shortcuts among the first {FIRST} findings")
    print(f"audit: {alarms} of {len(others)} clean or useless-mark models with a finding")
    print(f"audit: median IoU {ious[len(ious) // 2] if ious else '-'}")
    return results


def _case(
    folder: Path, mark: str, classes: tuple[str, ...], share: float, most: int, epochs: int, seed: int
) -> dict[str, Any]:
    """Plant a mark, fine-tune a model on the marked images, audit it on them."""
    images = folder / "images"
    region = plant(data_root() / "flower_photos", images, mark, classes, share=share, side=64, most=most, seed=seed)
    command = [sys.executable, "-m", "swin_core.commands", "train", "custom", "--data", str(images), "--name", "audit"]
    command += ["--epochs", str(epochs), "--seed", str(seed)]
    command += [word for name, value in SETTINGS.items() for word in (f"--{name}", str(value))]
    environment = {**os.environ, "SWIN_RUNS_ROOT": str(folder / "runs"), "TMPDIR": str(folder)}
    subprocess.run(command, env=environment, check=True, capture_output=True)
    (run,) = (folder / "runs").iterdir()
    start, cpu = time.perf_counter(), time.process_time()
    found = run_audit(load(str(run)), image_folder(images), root=folder)
    first = [finding for finding in found.findings[:FIRST] if finding.class_name == MARKED and len(classes) == 1]
    ious = [_iou(finding, region) for finding in first] if region else []
    return {
        "mark": mark,
        "classes": len(classes),
        "share": share,
        "images": found.images,
        "findings": len(found.findings),
        # A finding of the class at another place is none of the mark.
        "found": bool(first) if region is None else any(iou > 0.1 for iou in ious),
        "iou": round(max(ious), 2) if ious else None,
        "effect": round(found.findings[0].strength, 2) if found.findings else None,
        "seconds": round(time.perf_counter() - start),
        "cpu_seconds": round(time.process_time() - cpu),
    }


def _iou(finding: Tested, region: tuple[float, float, float, float]) -> float:
    """Return the intersection over union of a finding's rectangle and the planted one."""
    if finding.region is None:
        return 0.0
    left, top, right, bottom = (f(a, b) for f, a, b in zip((max, max, min, min), finding.region, region, strict=True))
    inside = max(0.0, right - left) * max(0.0, bottom - top)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (finding.region, region)]
    return inside / (sum(areas) - inside)
