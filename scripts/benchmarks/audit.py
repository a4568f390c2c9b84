"""The audit on planted shortcuts: small models fine-tuned on flower_photos with a mark, each audited afterwards."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from swin_core.audit.findings import audit as run_audit
from swin_core.audit.kept import write_finding
from swin_core.audit.planted import plant
from swin_core.audit.repair import compare_repair
from swin_core.audit.results import Tested
from swin_core.data.dataset import data_root
from swin_core.data.folders import image_folder
from swin_core.evaluation.predictions import cache_root, predict
from swin_core.figures.audit_text import describe
from swin_core.figures.text import percent
from swin_core.system.atomic import atomic_write
from swin_core.zoo.classifier import Classifier
from swin_core.zoo.load import load

MARKED, FIRST = "tulips", 3
CLASSES = ("daisy", "dandelion", "roses", "sunflowers", "tulips")
ELSEWHERE = {"sticker": "content", "tint": "global", "blur": "global"}
"""Marks that have no place, with the kind of their finding."""
MARKS = ("blur", "date", "line", "sticker", "tint", "square", "logo", "frame")
CASES: dict[str, tuple[str, tuple[str, ...], float]] = {
    **{mark: (mark, (MARKED,), 1.0) for mark in MARKS},
    **{f"{mark}-60": (mark, (MARKED,), 0.6) for mark in MARKS},
    **{f"{mark}-useless": (mark, CLASSES, 1.0) for mark in MARKS},
    **{f"clean-{number}": ("square", (), 1.0) for number in (1, 2, 3)},
}
"""Mark, the classes that carry it, and the share of their images, by name: planted in all or 60 % of one class, useless
in all classes alike, and none."""
SHORT = ("square", "clean-1")
SETTINGS = {"init": "swin_nano_cifar100", "variant": "swin_nano", "image-size": 64, "patch-size": 4, "window-size": 4}
SETTINGS |= {"lr": 0.002, "crop-scale": 0.6}


def audit(short: bool) -> list[dict[str, Any]]:
    """Planted shortcuts: are they among the first three findings, and do clean models have none? Takes hours, goes on
    where it was stopped, and prints the table after each case."""
    folder = cache_root() / "benchmarks" / ("audit-short" if short else "audit")
    folder.mkdir(parents=True, exist_ok=True)
    cases = SHORT if short else tuple(CASES)
    print(f"audit: results and models are kept in {folder}; remove a case's files to run it again")
    for name in cases:
        if not (folder / f"{name}.json").is_file():
            with tempfile.TemporaryDirectory() as temporary:
                result = _case(name, Path(temporary), folder, *((16, 1) if short else (300, 8)))
            with atomic_write(folder / f"{name}.json") as stream:
                stream.write(json.dumps(result, indent=1).encode())
            print(*table(folder, cases), sep="\n", flush=True)
    print(*table(folder, cases), sep="\n")
    return _kept(folder, cases)


def _kept(folder: Path, cases: Sequence[str]) -> list[dict[str, Any]]:
    files = (folder / f"{name}.json" for name in cases)
    return [json.loads(file.read_bytes()) for file in files if file.is_file()]


def table(folder: Path, cases: Sequence[str] = tuple(CASES)) -> list[str]:
    """Return the lines of a table of the cases that have been run, and what they say together.

    Args:
        folder: where the results are, a file for each case.
        cases: the names of all cases.
    """
    results = _kept(folder, cases)
    planted = [result for result in results if result["classes"] == 1]
    others = [result for result in results if result["classes"] != 1]
    ious = [result["iou"] or 0.0 for result in planted if result["mark"] not in ELSEWHERE]
    repaired = [result for result in results if "worst_after" in result]
    gains = [
        ", ".join(
            f"{100 * gain:+.0f}" for gain in sorted(each[f"{part}_after"] - each[f"{part}_before"] for each in repaired)
        )
        for part in ("worst", "mean")
    ]
    lines = ["| case | mark turns | first finding | flip, control | drop, control | IoU | worst group | CPU time |"]
    lines.append("|---|" + "---|" * 7)
    for result in results:
        first = result["first"][0] if result["first"] else None
        cells = [
            result["case"],
            "" if result["turned"] is None else ", ".join(map(percent, result["turned"])),
            f"none of {result['tested']} candidates" if first is None else first["what"],
            "" if first is None else ", ".join(map(percent, first["flips"])),
            "" if first is None else ", ".join(f"{100 * drop:.0f} %" for drop in first["drops"]),
            "" if result["iou"] is None else f"{result['iou']:.2f}",
            f"{percent(result['worst_before'])} to {percent(result['worst_after'])}" if "worst_after" in result else "",
            f"{result['cpu_seconds']} s",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    found, alarms = (sum(result[name] for result in part) for name, part in (("found", planted), ("alarm", others)))
    missed = [result["case"] for result in planted if not result["found"]]
    return [
        *lines,
        f"audit: {len(results)} of {len(cases)} cases have been run",
        f"audit: {found} of {len(planted)} planted shortcuts among the first {FIRST} findings; missed: "
        f"{', '.join(missed) or 'none'}",
        f"audit: {alarms} of {len(others)} clean or useless-mark models with a finding",
        f"audit: points that the worst group gains by a repair, least to most: {gains[0]}",
        f"audit: points that the mean of the groups gains: {gains[1]}",
        f"audit: median IoU {float(np.median(ious)):.2f}" if ious else "audit: no IoU",
    ]


def _case(name: str, folder: Path, kept: Path, most: int, epochs: int) -> dict[str, Any]:
    """Plant a mark, fine-tune a model on the marked images, audit it on them, and repair it if the mark was found.

    The model is kept, so that another audit of it takes no training.
    """
    mark, classes, share = CASES[name]
    source, images, seed = data_root() / "flower_photos", folder / "images", zlib.crc32(name.encode()) % 1000
    region = plant(source, images, mark, classes, share=share, side=64, most=most, seed=seed)
    run = kept / name
    if not run.is_dir():
        shutil.move(_trained(folder, images, epochs, seed), run)
    start, cpu = time.perf_counter(), time.process_time()
    classifier, dataset = load(str(run)), image_folder(images)
    found = run_audit(classifier, dataset, root=folder)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    # A finding of the class of another kind or at another place is none of the mark.
    kind = ELSEWHERE.get(mark, "place")
    first = [finding for finding in found.findings[:FIRST] if finding.class_name == MARKED and finding.kind == kind]
    ious = [_iou(finding, region) for finding in first] if region else [1.0] * len(first)
    hits = [finding for finding, iou in zip(first, ious, strict=True) if iou > 0.1 and len(classes) == 1]
    result: dict[str, Any] = {
        "case": name,
        "mark": mark,
        "classes": len(classes),
        "share": share,
        "images": found.images,
        "turned": _turned(classifier, source, folder, mark, most, seed) if len(classes) == 1 else None,
        "findings": len(found.findings),
        "tested": len(found.findings) + len(found.tested),
        "found": bool(hits),
        "alarm": len(classes) != 1 and bool(found.findings),
        "iou": round(max(ious), 2) if region and hits else None,
        "first": [_summary(finding) for finding in found.findings[:FIRST]],
        "next": [_summary(candidate) for candidate in found.tested[:FIRST]],
        "seconds": round(seconds),
        "cpu_seconds": round(cpu_seconds),
    }
    if hits:
        file = write_finding(folder / "audits" / "repair", found, hits[0])
        after = load(str(_trained(folder, images, epochs, seed, "--without", str(file))))
        repair = compare_repair(classifier, after, dataset, hits[0])
        for part, pair in (("worst", repair.worst), ("mean", repair.mean)):
            result |= {f"{part}_before": round(pair[0], 2), f"{part}_after": round(pair[1], 2)}
    return result


def _summary(tested: Tested) -> dict[str, Any]:
    """Return what a finding, or a candidate without one, is, and its effects."""
    pairs = ((tested.flip, tested.flip_control), (tested.drop, tested.drop_control))
    flips, drops = ([each.value for each in pair if each is not None] for pair in pairs)
    where = "" if tested.region is None else f" {[round(edge, 2) for edge in tested.region]}"
    return {"what": f"{describe(tested)}, {tested.class_name}{where}", "flips": flips, "drops": drops}


def _turned(classifier: Classifier, source: Path, folder: Path, mark: str, most: int, seed: int) -> tuple[float, float]:
    """Return the share of images of other classes that the model takes for the marked one, with the mark and without.

    It tells whether the model uses the mark at all, by another way than the audit.
    """
    shares = []
    for classes in (CLASSES, ()):
        target = folder / f"turned{len(classes)}"
        plant(source, target, mark, classes, side=64, most=min(most, 50), seed=seed)
        dataset = image_folder(target)
        others = np.flatnonzero(dataset.labels != dataset.classes.index(MARKED))
        result = predict(classifier, dataset.subset(others, dataset.split))
        shares.append(float((result.predicted == classifier.labels.index(MARKED)).mean()))
    return shares[0], shares[1]


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
