"""A grid as JSON: its values, and all that is needed to compute them again.

A report holds the images' pixels (PNG without metadata), each model's name and the hash of its weights, and for each
cell the call that made it: method, layers and classes. It also records what the last bits of a result depend on:
threads, processor and package versions.
"""

import base64
import hashlib
import io
import json
import math
import platform
from collections.abc import Iterable
from dataclasses import asdict
from importlib import metadata
from typing import Any

import numpy as np
import torch
from PIL import Image

from swin_core.attribution.what_if import Edit
from swin_core.errors import ConfigError
from swin_core.figures.grid import Cell, Grid
from swin_core.trust.assess import Trust

FORMAT = 1
"""Version of the JSON; it changes when older programs could no longer read it."""
BYTES_AT_MOST = 512 * 2**20
"""Maximum size of a report; larger ones are neither written nor read."""
PIXELS_AT_MOST = 100_000_000
"""Maximum number of pixels of all images of a report together; noise takes four bytes of base64 per pixel."""
FUSED_JOIN = " + "
"""Separator of the layer names of a fused map."""
PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "opencv-python-headless",
    "numpy",
    "pillow",
    "matplotlib",
)


def encode_report(grid: Grid) -> bytes:
    """Encode the grid as JSON from which it can be computed again, with a checksum.

    Raises:
        ConfigError: the images are too large for a report.
    """
    report = report_content(grid)
    try:
        encoded = _encode_sealed(report)
    except UnicodeEncodeError:  # a file name may contain bytes that are no text
        encoded = _encode_sealed(json.loads(json.dumps(report, ensure_ascii=False).encode("utf-8", "replace")))
    if len(encoded) > BYTES_AT_MOST:
        raise ConfigError(
            f"a report holds up to {BYTES_AT_MOST // 2**20} MiB, and this one would have {len(encoded) / 2**20:.0f}: "
            "choose fewer or smaller images."
        )
    return encoded


def _encode_sealed(report: dict[str, Any]) -> bytes:
    return json.dumps(report | {"sha256": checksum(report)}, ensure_ascii=False, allow_nan=False).encode()


def checksum(report: dict[str, Any]) -> str:
    """Return the SHA-256 of a report's content, independent of white space and the order of keys."""
    content = {name: value for name, value in report.items() if name != "sha256"}
    text = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def too_large(grid: Grid) -> str:
    """Return why the grid's images are too large for a report, or an empty string; nothing is encoded for this."""
    if sum(image.width * image.height for image in _images(grid)) <= PIXELS_AT_MOST:
        return ""
    return (
        f"The images of a report have up to {PIXELS_AT_MOST // 10**6} million pixels together: choose fewer or "
        "smaller ones."
    )


def _images(grid: Grid) -> list[Image.Image]:
    """Return each image once, also if several rows show it."""
    return list({id(row.image): row.image for row in grid.rows if row.image is not None}.values())


def report_content(grid: Grid, whole: bool = True) -> dict[str, Any]:
    """Return a grid's content in JSON types.

    Args:
        grid: the grid.
        whole: whether maps, logits and images are included.

    Raises:
        ConfigError: the images are too large for a report.
    """
    if whole and (fault := too_large(grid)):
        raise ConfigError(fault)
    images = _images(grid)
    indices = {id(image): index for index, image in enumerate(images)}
    content: dict[str, Any] = {
        "program": "SwinLens",
        "format": FORMAT,
        "versions": versions(),
        "machine": machine(),
        "settings": asdict(grid.look) | {"scale_name": grid.scale_name},
        "columns": list(grid.columns),
        "rows": [
            {
                "title": row.title,
                "truth": row.truth,
                "picture": None if row.image is None else indices[id(row.image)],
                "edit": None if row.edit is None else _edit_content(row.edit),
                "cells": [_cell_content(grid, cell, whole) for cell in row.cells],
            }
            for row in grid.rows
        ],
    }
    return content | ({"pictures": [_png(image) for image in images]} if whole else {})


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that compute and draw."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES}


def machine() -> dict[str, Any]:
    """Return what the last bits of a result depend on besides versions: threads, device and processor."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            processor = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        processor = platform.processor() or "unknown"
    return {
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "processor": processor,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _png(image: Image.Image) -> str:
    """Encode an image's pixels as PNG without metadata, in base64."""
    stream = io.BytesIO()
    Image.fromarray(np.asarray(image.convert("RGB"))).save(stream, "PNG", compress_level=4)
    return base64.b64encode(stream.getvalue()).decode("ascii")


def _edit_content(edit: Edit) -> dict[str, Any]:
    """Return what was replaced in a row's image; the values of the cells are those of the changed image."""
    return {"strokes": edit.strokes.text(), "fill": edit.fill, "keep": edit.keep}


def _cell_content(grid: Grid, cell: Cell, whole: bool) -> dict[str, Any]:
    explanation = cell.explanation
    if explanation is None or cell.map is None:
        return {"error": cell.error}
    labels, probabilities, against = explanation.labels, explanation.probabilities, explanation.against
    target, predicted = explanation.targets[cell.target], int(probabilities.argmax())
    content: dict[str, Any] = {
        "model": explanation.model,
        "weights_hash": explanation.weights_hash,
        "method": explanation.method,
        "layer": explanation.layers[cell.layer],
        "target": target,
        "label": labels[target],
        "logit": _number(explanation.logits[target]),
        "activation": explanation.activation,
        "probability": _number(probabilities[target]),
        "before": None
        if cell.before is None
        else {"logit": _number(cell.before.logits[target]), "probability": _number(cell.before.probabilities[target])},
        "predicted": labels[predicted],
        "predicted_probability": _number(probabilities[predicted]),
        "first_choices": [[label, _number(value)] for label, value in explanation.top_classes()],
        "rather_than": None if against is None else labels[against[cell.target]],
        "magnitude": _number(cell.magnitude),
        "top_of_scale": _number(grid.top(cell)),
        "completeness": None if explanation.completeness is None else _number(explanation.completeness[cell.target]),
        "trust": None if cell.trust is None else _trust_content(cell.trust),
        "note": cell.note,
    }
    if not whole:
        return content
    layers = explanation.layers[0].split(FUSED_JOIN) if explanation.fused else list(explanation.layers)
    call = {
        "layers": layers,
        "fused": explanation.fused,
        "targets": list(explanation.targets),
        "against": None if against is None else list(against),
        # The cell's target and layer in the result of the call.
        "place": [cell.target, cell.layer],
    }
    return content | {
        "call": call,
        "logits": _numbers(explanation.logits),
        "map": [_numbers(line) for line in cell.map],
    }


def _trust_content(trust: Trust) -> dict[str, Any]:
    """Return the measures and curves of a map and of its baseline maps."""
    content: dict[str, Any] = {"better": trust.better, "chance": _number(trust.chance), "sentence": trust.sentence}
    content["curves"] = {}
    for name, measures in {"map": trust, "random": trust.random, "centred": trust.centred}.items():
        curves = {"deletion": measures.deletion, "retention": measures.retention, "insertion": measures.insertion}
        content[name] = {
            "srg": _number(measures.srg),
            "road": _number(measures.road),
            "deletion": _number(measures.deletion.area),
            "insertion": _number(measures.insertion.area),
        }
        content["curves"][name] = {
            kind: {"shares": _numbers(curve.shares), "probabilities": _numbers(curve.probabilities)}
            for kind, curve in curves.items()
        }
    return content


def _numbers(values: Iterable[float]) -> list[float | None]:
    return [_number(value) for value in values]


def _number(value: float) -> float | None:
    """Return a number for JSON, which has no NaN and no infinity: None stands for them."""
    return float(value) if math.isfinite(value) else None
