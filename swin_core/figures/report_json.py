"""A grid as JSON: the numbers that it shows, and all that is needed to compute them again.

Images are held as their pixels (PNG without metadata), models by name and the hash of their weights, and each cell by
the call that made it: method, layers, classes. What the last bits depend on, the number of
threads, the processor and the versions of packages, is recorded too.
"""

import base64
import hashlib
import io
import json
import math
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from importlib import metadata
from typing import Any

import numpy as np
import torch
from PIL import Image

from swin_core.attribution.explanation import Explanation
from swin_core.errors import ConfigError
from swin_core.figures.grid import Cell, Grid
from swin_core.trust.assess import Measures, Trust

__all__ = [
    "BYTES_AT_MOST",
    "FORMAT",
    "FUSED_JOIN",
    "PIXELS_AT_MOST",
    "TOP",
    "checksum",
    "encode_report",
    "first_choices",
    "machine",
    "report_numbers",
    "too_large",
    "trust_numbers",
    "versions",
]

FORMAT = 1
"""Of the JSON; it changes when an older program could not read it any more."""
BYTES_AT_MOST = 512 * 2**20
"""Size of a report: a larger one is neither written nor read."""
PIXELS_AT_MOST = 100_000_000
"""Of all images of a report together, likewise: those of pure noise have four bytes of base64 each."""
TOP = 5
"""How many of a model's first choices are named."""
FUSED_JOIN = " + "
"""Between the names of layers whose maps were made one."""
PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "grad-cam",
    "opencv-python-headless",
    "numpy",
    "pillow",
    "matplotlib",
    "plotly",
)


def encode_report(grid: Grid) -> bytes:
    """The grid as JSON that can be computed again, with a checksum over it.

    Raises:
        ConfigError: the images are too large for a report.
    """
    numbers = report_numbers(grid)
    try:
        content = _sealed(numbers)
    except UnicodeEncodeError:  # the name of a file may have bytes that are no text
        content = _sealed(json.loads(json.dumps(numbers, ensure_ascii=False).encode("utf-8", "replace")))
    if len(content) > BYTES_AT_MOST:
        raise ConfigError(
            f"A report holds up to {BYTES_AT_MOST // 2**20} MiB, and this one would have {len(content) / 2**20:.0f}: "
            "choose fewer or smaller images."
        )
    return content


def _sealed(numbers: dict[str, Any]) -> bytes:
    return json.dumps(numbers | {"sha256": checksum(numbers)}, ensure_ascii=False, allow_nan=False).encode()


def checksum(numbers: dict[str, Any]) -> str:
    """SHA-256 over the content, whatever its spacing and the order of its names."""
    content = {name: value for name, value in numbers.items() if name != "sha256"}
    text = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def too_large(grid: Grid) -> str:
    """Why the grid's images are too large for a report, known before it is made; empty if they are not."""
    if sum(image.width * image.height for image in _pictures(grid)) <= PIXELS_AT_MOST:
        return ""
    return (
        f"The images of a report have up to {PIXELS_AT_MOST // 10**6} million pixels together: choose fewer or "
        "smaller ones."
    )


def _pictures(grid: Grid) -> list[Image.Image]:
    """Each image once, however many rows show it."""
    return list({id(row.image): row.image for row in grid.rows if row.image is not None}.values())


def report_numbers(grid: Grid, whole: bool = True) -> dict[str, Any]:
    """Everything about a grid in JSON's types.

    Args:
        grid: what to write.
        whole: with the maps, the logits and the images; otherwise only what is said about them.

    Raises:
        ConfigError: the images are too large for a report.
    """
    pictures = _pictures(grid)
    places = {id(image): place for place, image in enumerate(pictures)}
    if whole and (fault := too_large(grid)):
        raise ConfigError(fault)
    numbers: dict[str, Any] = {
        "program": "SwinLens",
        "format": FORMAT,
        "versions": versions(),
        "machine": machine(grid),
        "settings": asdict(grid.look) | {"scale_name": grid.scale_name},
        "columns": list(grid.columns),
        "rows": [
            {
                "title": row.title,
                "truth": row.truth,
                "picture": None if row.image is None else places[id(row.image)],
                "cells": [_cell_numbers(grid, cell, whole) for cell in row.cells],
            }
            for row in grid.rows
        ],
    }
    return numbers | ({"pictures": [_png(image) for image in pictures]} if whole else {})


def versions() -> dict[str, str]:
    """Of Python and of the packages that computed and drew."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES}


def machine(grid: Grid | None = None) -> dict[str, Any]:
    """What the last bits of a number depend on beside versions: threads, processor and device.

    Args:
        grid: whose explanations know with how many threads they were computed; otherwise as of now.
    """
    cells = [] if grid is None else [cell for row in grid.rows for cell in row.cells]
    threads = [cell.explanation.threads for cell in cells if cell.explanation is not None]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {
        "threads": threads[0] if threads else torch.get_num_threads(),
        "device": device,
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or "unknown"


def _png(image: Image.Image) -> str:
    """An image's pixels without loss and without metadata, in base64."""
    stream = io.BytesIO()
    plain = Image.fromarray(np.asarray(image.convert("RGB")))
    plain.save(stream, "PNG", compress_level=4)
    return base64.b64encode(stream.getvalue()).decode("ascii")


def _cell_numbers(grid: Grid, cell: Cell, whole: bool) -> dict[str, Any]:
    found = cell.explanation
    if found is None or cell.map is None:
        return {"error": cell.error}
    target, predicted = found.targets[cell.target], int(found.probabilities.argmax())
    numbers: dict[str, Any] = {
        "model": found.model,
        "weights_hash": found.weights_hash,
        "method": found.method,
        "layer": found.layers[cell.layer],
        "target": target,
        "label": found.labels[target],
        "logit": _number(found.logits[target]),
        "probability": _number(found.probabilities[target]),
        "predicted": found.labels[predicted],
        "predicted_probability": _number(found.probabilities[predicted]),
        "first_choices": [[label, _number(value)] for label, value in first_choices(found)],
        "rather_than": None if found.against is None else found.labels[found.against[cell.target]],
        "magnitude": _number(cell.magnitude),
        "top_of_scale": _number(grid.top(cell)),
        "completeness": None if found.completeness is None else _number(found.completeness[cell.target]),
        "trust": None if cell.trust is None else trust_numbers(cell.trust),
        "note": cell.note,
    }
    if not whole:
        return numbers
    fused = {"fused": found.fused, "layers": found.layers[0].split(FUSED_JOIN)} if found.fused else {}
    call: dict[str, Any] = {"layers": list(found.layers), "fused": ""} | fused
    call |= {"targets": list(found.targets), "against": None if found.against is None else list(found.against)}
    # Where in what the call returns the cell is.
    call |= {"place": [cell.target, cell.layer]}
    return numbers | {"call": call, "logits": _numbers(found.logits), "map": [_numbers(line) for line in cell.map]}


def first_choices(found: Explanation) -> list[tuple[str, float]]:
    """A model's likeliest classes with their probabilities, the likeliest first."""
    order = np.argsort(-found.probabilities, kind="stable")[:TOP]
    return [(found.labels[index], float(found.probabilities[index])) for index in order]


def trust_numbers(trust: Trust) -> dict[str, Any]:
    """The figures of a map and of the maps that know nothing, with their curves."""
    baselines = {"map": trust, "random": trust.random, "centred": trust.centred}
    figures = {
        name: {
            "srg": _number(measures.srg),
            "road": _number(measures.road),
            "deletion": _number(measures.deletion.area),
            "insertion": _number(measures.insertion.area),
        }
        for name, measures in baselines.items()
    }
    curves = {name: _curves(measures) for name, measures in baselines.items()}
    said = {"better": trust.better, "chance": _number(trust.chance), "sentence": trust.sentence}
    return {**said, **figures, "curves": curves}


def _curves(measures: Measures) -> dict[str, Any]:
    curves = {"deletion": measures.deletion, "retention": measures.retention, "insertion": measures.insertion}
    return {
        name: {"shares": _numbers(curve.shares), "probabilities": _numbers(curve.probabilities)}
        for name, curve in curves.items()
    }


def _numbers(values: Sequence[float] | Iterable[float]) -> list[float | None]:
    return [_number(value) for value in values]


def _number(value: float) -> float | None:
    """A number that JSON can hold; None for NaN and the infinities, which it cannot."""
    return float(value) if math.isfinite(value) else None
