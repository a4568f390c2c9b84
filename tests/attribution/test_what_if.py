"""`what_if` against two calls of `explain`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import swin_core
from swin_core.attribution.strokes import parse_strokes
from swin_core.attribution.what_if import Edit
from swin_core.errors import ConfigError, ImageError
from swin_core.zoo.load import ASSETS

pytestmark = pytest.mark.usefixtures("one_thread")
TULIP = Path(ASSETS) / "samples" / "tulip.jpg"


@pytest.fixture(scope="module")
def classifier() -> swin_core.Classifier:
    return swin_core.load("swin_micro_flowers", device="cpu")


def test_equals_two_explanations(classifier: swin_core.Classifier) -> None:
    mask = np.zeros((4, 4), bool)
    mask[:2, 1:3] = True
    found = swin_core.what_if(classifier, TULIP, mask, ["roses", "tulips"], "hirescam", fill="mean", against="daisy")
    for image, explanation in ((TULIP, found.before), (found.image, found.after)):
        expected = swin_core.explain(classifier, image, ["roses", "tulips"], "hirescam", against="daisy")
        assert np.array_equal(explanation.maps, expected.maps)
        assert np.array_equal(explanation.logits, expected.logits)
        assert (explanation.targets, explanation.against) == (expected.targets, expected.against)
    roses, tulips = (classifier.labels.index(name) for name in ("roses", "tulips"))
    assert found.change.tolist() == [
        found.after.logits[roses] - found.before.logits[roses],
        found.after.logits[tulips] - found.before.logits[tulips],
    ]


def test_keeps_the_target_when_the_answer_changes(classifier: swin_core.Classifier) -> None:
    found = swin_core.what_if(classifier, TULIP, np.eye(8), keep=True, fill="noise")
    assert found.after.targets == found.before.targets == (int(found.before.logits.argmax()),)


def test_covering_the_flower_lowers_its_score(classifier: swin_core.Classifier) -> None:
    middle, corner = np.zeros((8, 8)), np.zeros((8, 8))
    middle[2:6, 2:6] = 1
    corner[:2, :8] = 1  # as many pixels
    changes = [swin_core.what_if(classifier, TULIP, mask, "tulips").change[0] for mask in (middle, corner)]
    assert changes[0] < changes[1]
    assert changes[0] < 0


def test_one_line_for_bad_input(classifier: swin_core.Classifier) -> None:
    with pytest.raises(ConfigError, match="leaves nothing to replace"):
        swin_core.what_if(classifier, TULIP, np.zeros((2, 2)))
    with pytest.raises(ImageError, match="must hold 0 to 1"):
        swin_core.what_if(classifier, torch.randn(3, 64, 64), np.ones((2, 2)))


def test_strokes_are_their_mask(classifier: swin_core.Classifier) -> None:
    text = "b200-500.400-600.600_r-100.100-300.200"
    image = swin_core.read_image(TULIP)
    mask = parse_strokes(text).mask(image.height, image.width)
    expected = swin_core.what_if(classifier, image, mask, "tulips", "hirescam", fill="noise")
    for strokes in (text, parse_strokes(text)):
        found = swin_core.what_if(classifier, image, strokes, "tulips", "hirescam", fill="noise")
        assert np.array_equal(np.asarray(found.image), np.asarray(expected.image))
        assert np.array_equal(found.after.maps, expected.after.maps)
    edit = Edit(parse_strokes(text), "noise")
    assert np.array_equal(np.asarray(edit.apply(image)), np.asarray(expected.image))
    with pytest.raises(ConfigError, match="written as strokes"):
        swin_core.what_if(classifier, image, "paint")
    with pytest.raises(ConfigError, match="filled with blur, mean, noise, neighbours, not 'paint'"):
        Edit(parse_strokes(text), "paint")
