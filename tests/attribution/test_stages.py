"""The strip of stages: equal to explanations of single layers, and true to the sums of relevance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import swin_core
from swin_core.attribution.layers import stage_layers
from swin_core.attribution.lrp import relevance
from swin_core.attribution.stages import explain_stages, has_stages, spread_evenly, strip_layers
from swin_core.errors import LayerError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def cat(samples: dict[str, Path]) -> Image.Image:
    return swin_core.read_image(samples["cat"])


def test_each_stage_is_what_its_layer_says_alone(small_classifier: swin_core.Classifier, cat: Image.Image) -> None:
    found = explain_stages(small_classifier, cat, ["roses", "tulips"], "hirescam", against="daisy")
    assert found.layers == stage_layers(small_classifier) == strip_layers(small_classifier, "hirescam")
    assert found.against == (0, 0)
    for place, layer in enumerate(found.layers):
        alone = swin_core.explain(small_classifier, cat, ["roses", "tulips"], "hirescam", layer, against="daisy")
        height, width = found.maps.shape[2:]
        expected = F.interpolate(torch.tensor(alone.maps), (height, width), mode="bilinear")
        np.testing.assert_allclose(found.maps[:, place], expected[:, 0], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("against", [None, "daisy"])
def test_relevance_keeps_the_sums_of_each_stage(
    small_classifier: swin_core.Classifier, cat: Image.Image, against: str | None
) -> None:
    found = explain_stages(small_classifier, cat, ["roses", "tulips"], "relevance", against=against)
    assert found.layers == ("input", *stage_layers(small_classifier))
    x = small_classifier.tensor(np.stack([found.view, found.view]))
    others = None if against is None else torch.tensor([0, 0])
    expected = relevance(small_classifier.model, x, torch.tensor([2, 4]), others)
    np.testing.assert_allclose(found.maps.sum((2, 3), dtype=float), expected.sums, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found.maps[:, 0], expected.pixels, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("grid", "size"), [((2, 2), (4, 6)), ((7, 3), (50, 50)), ((5, 5), (5, 5)), ((1, 1), (3, 3))])
def test_spreading_keeps_mass_and_is_even(grid: tuple[int, int], size: tuple[int, int]) -> None:
    cells = np.random.default_rng(0).normal(size=(3, *grid))
    spread = spread_evenly(cells, size)
    assert spread.shape == (3, *size)
    np.testing.assert_allclose(spread.sum((1, 2)), cells.sum((1, 2)))
    if size[0] % grid[0] == size[1] % grid[1] == 0:
        times = (size[0] // grid[0], size[1] // grid[1])
        np.testing.assert_allclose(spread, np.kron(cells, np.ones((1, *times))) / np.prod(times))


def test_a_method_without_stages_says_so(small_classifier: swin_core.Classifier, cat: Image.Image) -> None:
    assert has_stages("gradcam")
    assert has_stages("relevance")
    assert not has_stages("rollout")
    with pytest.raises(LayerError) as error:
        explain_stages(small_classifier, cat, method="rollout")
    assert "\n" not in str(error.value)
