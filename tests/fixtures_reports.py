"""What the tests of reports share: a small model, a picture, a grid, and its figures of trust."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import swin_core
from swin_core.explain.compare import compare
from swin_core.explain.grid import Cell, Grid
from swin_core.explain.render import Look
from swin_core.explain.trust import assess


def picture(seed: int = 0, size: tuple[int, int] = (70, 60)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def with_trust(drawn: Grid, model: swin_core.Classifier) -> Grid:
    def measured(cell: Cell) -> Cell:
        found = cell.explanation
        if found is None or cell.map is None or not cell.magnitude:
            return cell
        return replace(cell, trust=assess(model, found.view, cell.map, found.targets[cell.target])[0])

    return replace(drawn, rows=tuple(replace(row, cells=[measured(cell) for cell in row.cells]) for row in drawn.rows))


@pytest.fixture
def small_classifier() -> swin_core.Classifier:
    """As elsewhere, but of 32 pixels: trust is measured often here."""
    torch.manual_seed(0)
    model = swin_core.build("swin_micro", num_classes=5, image_size=32)
    labels = ("daisy", "dandelion", "roses", "sunflowers", "tulips")
    return swin_core.Classifier(model, labels, (0.5,) * 3, (0.5,) * 3, 32, name="small")


@pytest.fixture
def drawn(small_classifier: swin_core.Classifier) -> Grid:
    return compare([("a.png", picture())], [small_classifier], look=Look("cividis", 0.5, 0.1, "shared"))
