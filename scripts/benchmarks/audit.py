"""The audit on planted shortcuts: small models fine-tuned on flower_photos with a mark, each audited afterwards."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from swin_core.audit.findings import audit as run_audit
from swin_core.audit.kept import write_findings
from swin_core.audit.planted import plant
from swin_core.audit.results import Tested
from swin_core.data.dataset import DataSet, data_root
from swin_core.data.folders import image_folder
from swin_core.evaluation.accuracy import named_split
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
OTHER_CLASSES = {"square": "daisy", "line": "dandelion", "sticker": "roses", "tint": "sunflowers"}
"""Marks in other classes than `MARKED`."""
CASES: dict[str, tuple[str, tuple[str, ...], float]] = {
    **{mark: (mark, (MARKED,), 1.0) for mark in MARKS},
    **{f"{mark}-60": (mark, (MARKED,), 0.6) for mark in MARKS},
    **{f"{mark}-{marked}": (mark, (marked,), 1.0) for mark, marked in OTHER_CLASSES.items()},
    **{f"{mark}-useless": (mark, CLASSES, 1.0) for mark in MARKS},
    **{f"clean-{number}": ("square", (), 1.0) for number in range(1, 13)},
}
"""Mark, the classes that carry it, and the share of their images, by name: planted in all or 60 % of one class, useless
in all classes alike, and none: 20 planted and 20 others."""
SHORT = ("square", "clean-1")
SETTINGS = {"init": "swin_nano_cifar100", "variant": "swin_nano", "image-size": 64, "patch-size": 4, "window-size": 4}
SETTINGS |= {"lr": 0.002, "crop-scale": 0.6, "holdout": 0.2}
ACCURACIES = ("worst group", "mean of the groups", "mean without the mark")
"""What a repair is measured by, all on held-out images. A group is a class with the mark drawn on all its images, or a
class without it. The last one is the average that a repair may lower by a point at most."""


def audit(short: bool) -> list[dict[str, Any]]:
    """Planted shortcuts: are they among the first three findings, and do clean models have none? Takes hours, goes on
    where it was stopped, and prints the table after each case."""
    folder = cache_root() / "benchmarks" / ("planted-short" if short else "planted")
    folder.mkdir(parents=True, exist_ok=True)
    cases = SHORT if short else tuple(CASES)
    print(f"audit: results and models are kept in {folder}; remove a case's file and folder to run it again")
    for name in cases:
        if not (folder / f"{name}.json").is_file():
            result = _case(name, folder / name, *((60, 8) if short else (300, 8)))
            with atomic_write(folder / f"{name}.json") as stream:
                stream.write(json.dumps(result, indent=1).encode())
            shutil.rmtree(folder / name / "work", ignore_errors=True)
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
    repaired = [result for result in results if "after" in result]
    gains = [np.subtract(_accuracies(result["after"]), _accuracies(result["before"])) for result in repaired]
    columns = ["case", "mark turns", "first finding", "flip, control", "drop, control", "IoU", *ACCURACIES, "CPU time"]
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for result in results:
        first = result["first"][0] if result["first"] else None
        cells = [
            result["case"],
            "" if result["turned"] is None else ", ".join(map(percent, result["turned"])),
            f"none of {result['tested']} candidates" if first is None else first["what"],
            "" if first is None else ", ".join(map(percent, first["flips"])),
            "" if first is None else ", ".join(f"{100 * drop:.0f} %" for drop in first["drops"]),
            "" if result["iou"] is None else f"{result['iou']:.2f}",
            *(_repaired(result) if "after" in result else ("",) * len(ACCURACIES)),
            f"{result['cpu_seconds']} s",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    found, alarms = (sum(result[name] for result in part) for name, part in (("found", planted), ("alarm", others)))
    missed = [result["case"] for result in planted if not result["found"]]
    points = [
        f"audit: points that a repair adds to the {name}: {', '.join(f'{100 * gain:+.0f}' for gain in sorted(column))}"
        f"; median {100 * np.median(column):+.0f}"
        for name, column in zip(ACCURACIES, zip(*gains, strict=True), strict=bool(gains))
    ]
    return [
        *lines,
        f"audit: {len(results)} of {len(cases)} cases have been run",
        f"audit: {found} of {len(planted)} planted shortcuts among the first {FIRST} findings; missed: "
        f"{', '.join(missed) or 'none'}",
        f"audit: {alarms} of {len(others)} clean or useless-mark models with a finding",
        *points,
        f"audit: median IoU {float(np.median(ious)):.2f}" if ious else "audit: no IoU",
    ]


def _case(name: str, folder: Path, most: int, epochs: int) -> dict[str, Any]:
    """Plant a mark, fine-tune a model on the marked images, audit it on them, and repair it if the mark was found.

    The model is kept, so that another audit of it takes no training. A case that was stopped goes on after the last
    training that is done; its audit begins again, so that its time is whole.
    """
    mark, classes, share = CASES[name]
    source, work, seed = data_root() / "flower_photos", folder / "work", zlib.crc32(name.encode()) % 1000
    images, run = work / "images", folder / "run"
    work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work) as temporary:
        scratch = Path(temporary)
        if not images.is_dir():
            plant(source, scratch / "images", mark, classes, share=share, side=64, most=most, seed=seed)
            (scratch / "images").rename(images)
        if not run.is_dir():
            _train(run, images, epochs, seed)
        region = plant(source, scratch / "marked", mark, CLASSES, side=64, most=most, seed=seed)
        plant(source, scratch / "plain", mark, (), side=64, most=most, seed=seed)
        held_out = set(named_split(str(run), str(images), "val").names)
        sets = [_part(scratch / part, held_out) for part in ("marked", "plain")]
        classifier, dataset = load(str(run)), image_folder(images)
        start, cpu = time.perf_counter(), time.process_time()
        found = run_audit(classifier, dataset, root=scratch)
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
        # A finding of the class of another kind or at another place is none of the mark.
        kind = ELSEWHERE.get(mark, "place")
        first = [
            finding for finding in found.findings[:FIRST] if finding.class_name in classes and finding.kind == kind
        ]
        ious = [_iou(finding, region) for finding in first] if region else [1.0] * len(first)
        hits = [finding for finding, iou in zip(first, ious, strict=True) if iou > 0.1 and len(classes) == 1]
        predicted = [_predicted(classifier, part) for part in sets]
        result: dict[str, Any] = {
            "case": name,
            "mark": mark,
            "classes": len(classes),
            "share": share,
            "images": found.images,
            "turned": [_turned(*pair, classes[0]) for pair in zip(sets, predicted, strict=True)]
            if len(classes) == 1
            else None,
            "findings": len(found.findings),
            "tested": len(found.findings) + len(found.tested),
            "found": bool(hits),
            "alarm": len(classes) != 1 and bool(found.findings),
            "iou": round(max(ious), 2) if region and hits else None,
            "first": [_summary(finding) for finding in found.findings[:FIRST]],
            "next": [_summary(candidate) for candidate in found.tested[:FIRST]],
            "held_out": len(held_out),
            "seconds": round(seconds),
            "cpu_seconds": round(cpu_seconds),
        }
        if hits:
            repaired = work / "repaired"
            if not repaired.is_dir():
                file = write_findings(scratch / "audits" / "repair", found, hits[:1])
                _train(repaired, images, epochs, seed, "--without", str(file))
            after = load(str(repaired))
            result["before"] = [_by_class(*pair) for pair in zip(sets, predicted, strict=True)]
            result["after"] = [_by_class(part, _predicted(after, part)) for part in sets]
        return result


def _summary(tested: Tested) -> dict[str, Any]:
    """Return what a finding, or a candidate without one, is, and its effects."""
    pairs = ((tested.flip, tested.flip_control), (tested.drop, tested.drop_control))
    flips, drops = ([each.value for each in pair if each is not None] for pair in pairs)
    where = "" if tested.region is None else f" {[round(edge, 2) for edge in tested.region]}"
    return {"what": f"{describe(tested)}, {tested.class_name}{where}", "flips": flips, "drops": drops}


def _part(folder: Path, names: Collection[str]) -> DataSet:
    """Return the images of a folder that have one of some names."""
    dataset = image_folder(folder)
    return dataset.subset([row for row, name in enumerate(dataset.names) if name in names], "val")


def _predicted(classifier: Classifier, dataset: DataSet) -> np.ndarray:
    """Return the data set's label of each predicted class, `(N,)`; the model was trained on the same class folders."""
    order = [dataset.classes.index(label) for label in classifier.labels]
    return np.array(order)[predict(classifier, dataset).predicted]


def _turned(dataset: DataSet, predicted: np.ndarray, class_name: str) -> float:
    """Return the share of images of other classes that the model takes for the marked one, `class_name`.

    It tells whether the model uses the mark at all, by another way than the audit.
    """
    marked = dataset.classes.index(class_name)
    return float((predicted[dataset.labels != marked] == marked).mean())


def _by_class(dataset: DataSet, predicted: np.ndarray) -> list[float]:
    """Return the accuracy of each class."""
    right = predicted == dataset.labels
    return [float(right[dataset.labels == label].mean()) for label in range(len(dataset.classes))]


def _accuracies(groups: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """Return what `ACCURACIES` names, from the accuracy of each class with the mark and of each without it."""
    return float(np.min(groups)), float(np.mean(groups)), float(np.mean(groups[1]))


def _repaired(result: dict[str, Any]) -> list[str]:
    """Return the table's cells of a repair, one for each of `ACCURACIES`."""
    pairs = zip(_accuracies(result["before"]), _accuracies(result["after"]), strict=True)
    return [" to ".join(map(percent, pair)) for pair in pairs]


def _train(run: Path, images: Path, epochs: int, seed: int, *options: str) -> None:
    """Fine-tune a small model on a folder; the folder `run` is there once the training has ended."""
    command = [sys.executable, "-m", "swin_core.commands", "train", "custom", "--data", str(images), "--name", "audit"]
    command += ["--epochs", str(epochs), "--seed", str(seed), *options]
    command += [word for name, value in SETTINGS.items() for word in (f"--{name}", str(value))]
    with tempfile.TemporaryDirectory(dir=images.parent) as folder:
        runs = Path(folder) / "runs"
        environment = {**os.environ, "SWIN_RUNS_ROOT": str(runs), "TMPDIR": folder}
        ended = subprocess.run(command, env=environment, capture_output=True, text=True)
        if ended.returncode:
            raise RuntimeError(f"the training of {run} failed: {ended.stderr[-2000:]}")
        (trained,) = runs.iterdir()
        trained.rename(run)


def _iou(finding: Tested, region: tuple[float, float, float, float]) -> float:
    """Return the intersection over union of a finding's rectangle and the planted one."""
    if finding.region is None:
        return 0.0
    left, top, right, bottom = (f(a, b) for f, a, b in zip((max, max, min, min), finding.region, region, strict=True))
    inside = max(0.0, right - left) * max(0.0, bottom - top)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (finding.region, region)]
    return inside / (sum(areas) - inside)
