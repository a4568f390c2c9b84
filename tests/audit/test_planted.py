"""Planted shortcuts: where the marks are, and where they are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from swin_core.audit.planted import MARKS, plant
from swin_core.errors import ConfigError
from tests.fixtures.audit import write_images


@pytest.mark.parametrize("name", MARKS)
def test_a_mark_changes_its_region_and_nothing_else(name: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    region = MARKS[name](image, np.random.default_rng(0))
    changed = (np.asarray(image) != pixels).any(2)
    assert changed.any()
    if region is not None:
        left, top, right, bottom = (round(100 * edge) for edge in region)
        outside = changed.copy()
        outside[top:bottom, left:right] = False
        assert not outside.any()
        assert changed[top:bottom, left:right].any(0).mean() > 0.5


def test_only_the_asked_share_of_the_asked_classes_is_marked(tmp_path: Path) -> None:
    source = write_images(tmp_path / "source", 10, marked=())
    region = plant(source, tmp_path / "planted", "square", ["green"], share=0.6, side=32)
    assert region == (0.84, 0.84, 1.0, 1.0)
    for name, marked in (("green", 6), ("blue", 0), ("marked", 0)):
        files = sorted((tmp_path / "planted" / name).iterdir())
        assert len(files) == 10
        assert sum(Image.open(file).getpixel((31, 31)) == (255, 0, 0) for file in files) == marked


def test_unknown_marks_and_classes_are_refused(tmp_path: Path) -> None:
    source = write_images(tmp_path / "source", 1)
    with pytest.raises(ConfigError, match="unknown mark 'star': choose one of square"):
        plant(source, tmp_path / "out", "star", ["green"])
    with pytest.raises(ConfigError, match="no class 'rose' to mark; there are blue, green, marked"):
        plant(source, tmp_path / "out", "square", ["rose"])
