"""Explanations as a user meets them: of an image file, and printed."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import swin_core
from swin_core.attribution.explain import explain
from swin_core.errors import ConfigError, TargetError
from swin_core.figures.cell_image import cell_overlay
from swin_core.figures.grid import Cell, Grid, Row


def test_a_path_is_read(small_classifier: swin_core.Classifier, samples: dict[str, Path]) -> None:
    cat = swin_core.read_image(samples["cat"])
    for path in (samples["cat"], str(samples["cat"])):
        np.testing.assert_array_equal(
            explain(small_classifier, path, [1]).maps, explain(small_classifier, cat, [1]).maps
        )


def test_an_explanation_prints_as_one_line(small_classifier: swin_core.Classifier, samples: dict[str, Path]) -> None:
    found = explain(small_classifier, samples["cat"], [1, 2], "gradcam", ["norm"])
    line = repr(found)
    assert "\n" not in line
    assert len(line) < 200
    for word in ("gradcam", small_classifier.name, "norm", found.label(0), f"{found.probabilities[2]:.1%}", "2 x 1 x"):
        assert word in line


def test_an_overlay_is_that_of_a_grids_cell(small_classifier: swin_core.Classifier, samples: dict[str, Path]) -> None:
    explanation = explain(small_classifier, samples["cat"], [1, 2], "gradcam", ["norm", "layers.0"])
    for target, layer in ((0, 0), (1, 1)):
        cell = Cell(explanation, target, layer)
        grid = Grid((Row("", explanation.image, [cell]),), ("small",))
        np.testing.assert_array_equal(
            np.asarray(explanation.overlay(target, layer)), cell_overlay(grid, grid.rows[0], cell)
        )
    for target, layer in ((2, 0), (0, 2), (-1, 0)):
        with pytest.raises(TargetError, match="no map"):
            explanation.overlay(target, layer)


def test_an_overlay_is_found_by_names(small_classifier: swin_core.Classifier, samples: dict[str, Path]) -> None:
    explanation = explain(small_classifier, samples["cat"], ["roses", "daisy"], "gradcam", ["norm", "layers.0"])
    by_name, by_number = explanation.overlay("daisy", "layers.0"), explanation.overlay(1, 1)
    np.testing.assert_array_equal(np.asarray(by_name), np.asarray(by_number))
    for target, layer in (("tulips", 0), (0, "layers.1"), (None, 0), (0.5, 0)):
        with pytest.raises(TargetError, match=r"has the targets roses, daisy and the layers norm, layers\.0") as caught:
            explanation.overlay(target, layer)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)


def test_a_signed_map_is_drawn_in_two_colours(small_classifier: swin_core.Classifier, samples: dict[str, Path]) -> None:
    explanation = explain(small_classifier, samples["cat"], 1, "relevance")
    assert explanation.maps.min() < 0
    cell = Cell(explanation)
    grid = Grid((Row("", explanation.image, [cell]),), ("small",))
    np.testing.assert_array_equal(np.asarray(explanation.overlay()), cell_overlay(grid, grid.rows[0], cell))


def test_an_explanation_is_saved(
    small_classifier: swin_core.Classifier, samples: dict[str, Path], tmp_path: Path
) -> None:
    explanation = explain(small_classifier, samples["cat"], [1, 2], "gradcam", ["norm"])
    explanation.save(tmp_path / "map.png", target=1)
    with Image.open(tmp_path / "map.png") as image:
        np.testing.assert_array_equal(np.asarray(image), np.asarray(explanation.overlay(1)))
    for name, kind in (("map.JPG", "JPEG"), ("map.webp", "WEBP")):
        explanation.save(str(tmp_path / name))
        with Image.open(tmp_path / name) as image:
            assert image.format == kind
    explanation.save(tmp_path / "map.npz")
    with np.load(tmp_path / "map.npz") as arrays:
        np.testing.assert_array_equal(arrays["maps"], explanation.maps)
        np.testing.assert_array_equal(arrays["probabilities"], explanation.probabilities)
        assert tuple(arrays["labels"]) == explanation.labels
        assert tuple(arrays["layers"]) == ("norm",)
    with pytest.raises(ConfigError, match=r"\.png, .*\.npz, not as 'map'"):
        explanation.save(tmp_path / "map")
    with pytest.raises(ConfigError, match="cannot be written: No such file or directory; name another file"):
        explanation.save(tmp_path / "missing" / "map.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.JPG", "map.npz", "map.png", "map.webp"]


def test_a_notebook_shows_every_map(small_classifier: swin_core.Classifier, samples: dict[str, Path]) -> None:
    named = swin_core.Classifier(small_classifier.model, ["<b>", *"abcd"], (0.5,) * 3, (0.5,) * 3, 64, name="<script>")
    explanation = explain(named, samples["cat"], [0, 1], "gradcam", ["norm"])
    page = explanation._repr_html_()
    assert page.count("<img ") == 2
    assert "<script>" not in page
    assert "&lt;b&gt;" in page
    first = re.search(r"base64,([^\"]+)", page)
    assert first is not None
    assert base64.b64decode(first.group(1)) == explanation._repr_png_()
    with Image.open(io.BytesIO(explanation._repr_png_())) as image:
        assert image.size == explanation.overlay().size
