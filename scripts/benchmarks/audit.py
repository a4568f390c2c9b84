"""The audit on planted shortcuts: small models fine-tuned on flower_photos with a mark, each audited afterwards."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from swin_core.audit.findings import audit as run_audit
from swin_core.audit.kept import write_finding
from swin_core.audit.planted import plant
from swin_core.audit.repair import compare_repair
from swin_core.audit.results import Tested
from swin_core.data.dataset import data_root
from swin_core.data.folders import image_folder
from swin_core.zoo.load import load

MARKED, FIRST = "tulips", 3
CLASSES = ("daisy", "dandelion", "roses", "sunflowers", "tulips")
PLACED = ("square", "logo", "date", "frame", "line")
ELSEWHERE = {"sticker": "content", "tint": "global", "blur": "global"}
"""Marks that have no place, with the kind of their finding."""
CASES = [
    *((mark, (MARKED,), share) for mark in (*PLACED, *ELSEWHERE) for share in (1.0, 0.6)),
    *((mark, CLASSES, 1.0) for mark in (*PLACED, *ELSEWHERE)),
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
    gains = sorted(round(each["worst_after"] - each["worst_before"], 2) for each in results if "worst_after" in each)
    print(f"audit: gain of the worst group by a repair, least to most: {gains}")
    print(f"audit: median IoU {ious[len(ious) // 2] if ious else '-'}")
    return results


def _case(
    folder: Path, mark: str, classes: tuple[str, ...], share: float, most: int, epochs: int, seed: int
) -> dict[str, Any]:
    """Plant a mark, fine-tune a model on the marked images, audit it on them, and repair it if the mark was found."""
    images = folder / "images"
    region = plant(data_root() / "flower_photos", images, mark, classes, share=share, side=64, most=most, seed=seed)
    run = _trained(folder, images, epochs, seed)
    start, cpu = time.perf_counter(), time.process_time()
    classifier, dataset = load(str(run)), image_folder(images)
    found = run_audit(classifier, dataset, root=folder)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    # A finding of the class of another kind or at another place is none of the mark.
    kind = ELSEWHERE.get(mark, "place")
    first = [finding for finding in found.findings[:FIRST] if finding.class_name == MARKED and finding.kind == kind]
    ious = [_iou(finding, region) for finding in first] if region else [1.0] * len(first)
    hits = [finding for finding, iou in zip(first, ious, strict=True) if iou > 0.1 and len(classes) == 1]
    result = {
        "mark": mark,
        "classes": len(classes),
        "share": share,
        "images": found.images,
        "findings": len(found.findings),
        "found": bool(hits),
        "iou": round(max(ious), 2) if region and hits else None,
        "effect": round(found.findings[0].strength, 2) if found.findings else None,
        "seconds": round(seconds),
        "cpu_seconds": round(cpu_seconds),
    }
    if hits:
        file = write_finding(folder / "audits" / "repair", found, hits[0])
        after = load(str(_trained(folder, images, epochs, seed, "--without", str(file))))
        repair = compare_repair(classifier, after, dataset, hits[0])
        for name, pair in (("worst", repair.worst), ("mean", repair.mean)):
            result |= {f"{name}_before": round(pair[0], 2), f"{name}_after": round(pair[1], 2)}
    return result


def _trained(folder: Path, images: Path, epochs: int, seed: int, *options: str) -> Path:
    """Fine-tune a small model on a folder; return its run."""
    command = [sys.executable, "-m", "swin_core.commands", "train", "custom", "--data", str(images), "--name", "audit"]
    command += ["--epochs", str(epochs), "--seed", str(seed), *options]
    command += [word for name, value in SETTINGS.items() for word in (f"--{name}", str(value))]
    runs = folder / f"runs{len(options)}"
    environment = {**os.environ, "SWIN_RUNS_ROOT": str(runs), "TMPDIR": str(folder)}
    subprocess.run(command, env=environment, check=True, capture_output=True)
    (run,) = runs.iterdir()
    return run


def _iou(finding: Tested, region: tuple[float, float, float, float]) -> float:
    """Return the intersection over union of a finding's rectangle and the planted one."""
    if finding.region is None:
        return 0.0
    left, top, right, bottom = (f(a, b) for f, a, b in zip((max, max, min, min), finding.region, region, strict=True))
    inside = max(0.0, right - left) * max(0.0, bottom - top)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (finding.region, region)]
    return inside / (sum(areas) - inside)
