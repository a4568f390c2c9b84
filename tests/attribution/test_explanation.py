"""Explanations as a user meets them: of an image file, and printed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import swin_core
from swin_core.attribution.explain import explain


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
