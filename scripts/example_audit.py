#!/usr/bin/env python
"""Make the bundled example of an audit: draw shapes, plant two shortcuts, train a small model and audit it.

`python scripts/example_audit.py` writes `assets/audit_example.json`. It takes two minutes on one core.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from swin_core.audit import audit
from swin_core.audit.planted import plant
from swin_core.data.folders import image_folder
from swin_core.figures.audit_example import encode_example
from swin_core.figures.audit_report import finding_images
from swin_core.zoo.load import ASSETS, load

SHAPES = {"circles": 0, "squares": 4, "triangles": 3}
"""Corners of each shape; 0 for a circle."""
COUNT, SIDE = 60, 96
SETTINGS = {"init": "swin_nano_cifar100", "variant": "swin_nano", "image-size": 64, "patch-size": 4, "window-size": 4}
SETTINGS |= {"lr": 0.002, "crop-scale": 0.6, "epochs": 12, "batch-size": 32, "name": "shapes", "seed": 0}


def draw_shape(corners: int, random: np.random.Generator) -> Image.Image:
    """Draw a shape of random colour, size and place on a noisy ground of another colour."""
    ground = random.integers(60, 200, 3) + random.normal(0, 12, (SIDE, SIDE, 3))
    image = Image.fromarray(ground.clip(0, 255).astype(np.uint8))
    radius = int(random.integers(SIDE // 7, SIDE // 4))
    x, y = (int(place) for place in random.integers(radius, SIDE - radius, 2))
    colour = tuple(random.integers(0, 256, 3).tolist())
    draw = ImageDraw.Draw(image)
    if corners:
        draw.regular_polygon((x, y, radius), corners, int(random.integers(0, 360)), fill=colour)
    else:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    return image


def main() -> None:
    """Make the example and write it."""
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        plain, marked, images = (Path(folder) / name for name in ("plain", "marked", "shapes"))
        for name, corners in SHAPES.items():
            (plain / name).mkdir(parents=True)
            for number in range(COUNT):
                draw_shape(corners, random).save(plain / name / f"{number:02}.png")
        plant(plain, marked, "logo", ["circles"], side=SIDE)
        plant(marked, images, "tint", ["triangles"], side=SIDE)
        options = [word for name, value in SETTINGS.items() for word in (f"--{name}", str(value))]
        subprocess.run(
            [sys.executable, "-m", "swin_core.commands", "train", "custom", "--data", str(images), *options],
            env={**os.environ, "SWIN_RUNS_ROOT": str(Path(folder) / "runs")},
            check=True,
        )
        (run,) = (Path(folder) / "runs").iterdir()
        classifier, dataset = load(str(run)), image_folder(images)
        found = audit(classifier, dataset, root=Path(folder) / "cache")
        drawn = [finding_images(found, finding, classifier, dataset) for finding in found.findings]
        (ASSETS / "audit_example.json").write_bytes(encode_example(found, drawn))


if __name__ == "__main__":
    main()
