"""Faithfulness: by hand on an image of 4 x 4 pixels, against slow loops, and on a model whose right map is known."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pytorch_grad_cam.metrics.perturbation_confidence import (
    PerturbationConfidenceMetric,
    RemoveLeastRelevantFirst,
    RemoveMostRelevantFirst,
)
from pytorch_grad_cam.metrics.road import NoisyLinearImputer
from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget
from torch import Tensor, nn

from swin_core.images.inpainting import blur, inpaint
from swin_core.trust.baselines import centred_gaussian
from swin_core.trust.faithfulness import Probe, areas, measure, road, step_counts
from swin_core.zoo.classifier import Classifier

pytestmark = pytest.mark.usefixtures("one_thread")


class Summing(nn.Module):
    """Two classes, of which the first has the probability `sigmoid(sum of weight x image)`."""

    def __init__(self, weight: Tensor):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        score = (x * self.weight).sum((1, 2, 3))
        return torch.stack([score, torch.zeros_like(score)], 1)


def summing(weight: Tensor) -> Classifier:
    return Classifier(Summing(weight), ["yes", "no"], (0.5,) * 3, (0.5,) * 3, weight.shape[-1], name="summing")


def probe(classifier: Classifier, pictures: Tensor, target: int = 0) -> Probe:
    count = len(pictures)
    return Probe(classifier, pictures, torch.arange(count), torch.full((count,), target))


def sigmoid(value: float) -> float:
    return 1 / (1 + np.exp(-value))


def test_deletion_and_insertion_by_hand() -> None:
    # An image of ones of which one pixel counts: the fifth of sixteen in the order of the map.
    weight = torch.zeros(1, 3, 4, 4)
    weight[0, 0, 1, 0] = 2.0
    picture = torch.ones(1, 3, 4, 4)
    order = torch.arange(16.0, 0, -1).view(1, 4, 4)  # row by row
    found = measure(probe(summing(weight), picture), order, steps=16)
    there, gone = sigmoid(2), 0.5
    # Deletion of 0 to 16 pixels: the fifth takes it.
    expected = [there] * 5 + [gone] * 12
    assert found.shares.tolist() == pytest.approx([count / 16 for count in range(17)])
    assert found.deletion[0].tolist() == pytest.approx(expected)
    # From the other end it is the twelfth pixel of sixteen.
    assert found.retention[0].tolist() == pytest.approx([there] * 12 + [gone] * 5)
    assert float(areas(found.shares, found.deletion)) == pytest.approx((4.5 * there + 11.5 * gone) / 16)
    assert float(found.srg) == pytest.approx(7 * (there - gone) / 16)
    # A blurred image of ones is the image itself.
    assert found.insertion[0].tolist() == pytest.approx([there] * 17)


def test_insertion_by_hand() -> None:
    weight = torch.zeros(1, 3, 4, 4)
    weight[0, 0, 0, 3] = 2.0
    picture = torch.zeros(1, 3, 4, 4)
    picture[0, 0, 0, 3] = 1.0
    blurred = float(blur(picture)[0, 0, 0, 3])
    assert 0 < blurred < 1
    order = torch.arange(16.0, 0, -1).view(1, 4, 4)  # the fourth pixel brings it
    found = measure(probe(summing(weight), picture), order, steps=4)
    assert found.insertion[0].tolist() == pytest.approx([sigmoid(2 * blurred)] + [sigmoid(2)] * 4)


def test_curves_equal_a_slow_loop(small_classifier: Classifier) -> None:
    pictures = torch.randn(2, 3, 20, 20)
    owner, targets = torch.tensor([0, 1, 1]), torch.tensor([3, 0, 4])
    maps = torch.randn(3, 5, 5)
    found = measure(Probe(small_classifier, pictures, owner, targets), maps, steps=6)
    step = -(-400 // 6)
    model = small_classifier.model.double().eval()
    for m in range(3):
        big = F.interpolate(maps[m][None, None], (20, 20), mode="bilinear", align_corners=False).flatten().tolist()
        descending = sorted(range(400), key=lambda pixel: (-big[pixel], pixel))
        ascending = sorted(range(400), key=lambda pixel: (big[pixel], pixel))
        picture, blurred = pictures[owner[m]], blur(pictures)[owner[m]]
        for point in range(7):
            count = min(point * step, 400)
            for curve, order, start, end in (
                (found.deletion, descending, picture, torch.zeros(3, 20, 20)),
                (found.retention, ascending, picture, torch.zeros(3, 20, 20)),
                (found.insertion, descending, blurred, picture),
            ):
                x = start.clone()
                for pixel in order[:count]:
                    x[:, pixel // 20, pixel % 20] = end[:, pixel // 20, pixel % 20]
                with torch.no_grad():
                    expected = model(x[None].double()).softmax(1)[0, targets[m]]
                assert float(curve[m, point]) == pytest.approx(float(expected), abs=1e-5)


def test_road_equals_a_slow_loop(small_classifier: Classifier) -> None:
    picture = torch.randn(1, 3, 12, 12)
    maps = torch.randperm(144).view(1, 12, 12).float()
    shares = (0.1, 0.5, 0.9)
    asked = probe(small_classifier, picture, target=2)
    found = road(asked, maps, shares, seed=5)
    noise = 0.01 * torch.randn(3, 12, 12, generator=torch.Generator().manual_seed(5))
    difference = 0.0
    for share in shares:
        count = round(144 * share)
        for sign, missing in ((1, maps < count), (-1, maps >= 144 - count)):
            x = torch.where(missing[:, None], inpaint(picture, missing) + noise, picture)
            with torch.no_grad():
                difference += sign * float(small_classifier.model.eval()(x).softmax(1)[0, 2])
    assert float(found) == pytest.approx(difference / 6, abs=1e-6)


def test_road_equals_pytorch_grad_cam(small_classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no two pixels are equal, its thresholds choose the pixels that ranks do; without noise both must agree."""
    monkeypatch.setattr(importlib.import_module("swin_core.trust.faithfulness"), "_NOISE", 0)
    picture, model = torch.randn(1, 3, 16, 16), small_classifier.model.eval()
    values = torch.randperm(256).view(1, 16, 16) / 256
    # Of 256 values, these percentiles fall on one: 51, 102, 153 and 204 lie below.
    kept = {20: 51, 40: 102, 60: 153, 80: 204}
    found = road(probe(small_classifier, picture, 2), values, [1 - count / 256 for count in kept.values()])
    differences = []
    for percentile in kept:
        least, most = (
            PerturbationConfidenceMetric(remove(percentile, NoisyLinearImputer(noise=0)))(
                picture, values.numpy(), [ClassifierOutputSoftmaxTarget(2)], model
            )
            for remove in (RemoveLeastRelevantFirst, RemoveMostRelevantFirst)
        )
        differences.append(float(least[0] - most[0]) / 2)
    assert float(found) == pytest.approx(np.mean(differences), abs=1e-6)


def test_a_map_of_zeros_takes_nothing_at_once(small_classifier: Classifier) -> None:
    """Every ReLU'd map has ties: its pixels go in reading order from both ends, and the gain is 0."""
    found = measure(probe(small_classifier, torch.randn(1, 3, 16, 16)), torch.zeros(1, 4, 4), steps=4)
    assert float(found.srg) == 0
    assert float(found.road) == pytest.approx(0, abs=1e-7)


def test_turning_a_map_round_turns_the_sign(small_classifier: Classifier) -> None:
    pictures, maps = torch.randn(2, 3, 16, 16), torch.rand(2, 16, 16)
    one = measure(probe(small_classifier, pictures), maps, steps=5)
    other = measure(probe(small_classifier, pictures), -maps, steps=5)
    torch.testing.assert_close(one.srg, -other.srg, atol=1e-6, rtol=0)
    torch.testing.assert_close(one.road, -other.road, atol=1e-6, rtol=0)


def test_random_maps_gain_nothing_on_average(small_classifier: Classifier) -> None:
    weight = torch.randn(1, 3, 16, 16)
    picture = weight.sign().expand(100, -1, -1, -1)
    gains = measure(probe(summing(weight / 20), picture), torch.rand(100, 16, 16), steps=8).srg
    error = float(gains.std()) / 10
    assert abs(float(gains.mean())) < 3 * error
    right = measure(probe(summing(weight / 20), picture[:1]), weight.abs().sum(1), steps=8).srg
    assert float(right) > 10 * float(gains.std())


def test_a_batch_gives_what_each_image_gives(small_classifier: Classifier) -> None:
    pictures, maps = torch.randn(5, 3, 16, 16), torch.rand(5, 4, 4)
    together = measure(probe(small_classifier, pictures), maps, steps=4)
    for m in range(5):
        alone = measure(probe(small_classifier, pictures[m : m + 1]), maps[m : m + 1], steps=4)
        for name in ("deletion", "retention", "insertion", "road"):
            torch.testing.assert_close(getattr(together, name)[m], getattr(alone, name)[0], atol=1e-6, rtol=1e-5)


def test_steps_that_do_not_divide_the_pixels() -> None:
    assert step_counts(16, 16) == list(range(17))
    assert step_counts(16, 5) == [0, 4, 8, 12, 16]
    assert step_counts(10, 4) == [0, 3, 6, 9, 10]
    assert step_counts(1, 7) == [0, 1]


def test_areas_equal_numpy() -> None:
    shares, curves = torch.tensor([0, 0.3, 0.7, 1.0]), torch.rand(3, 4)
    assert areas(shares, curves).numpy() == pytest.approx(np.trapezoid(curves.numpy(), shares.numpy(), axis=1))


def test_blur_equals_a_slow_loop() -> None:
    picture = torch.rand(1, 1, 6, 13)
    deviation = 0.08 * 13
    radius = round(3 * deviation)
    weights = [np.exp(-0.5 * (offset / deviation) ** 2) for offset in range(-radius, radius + 1)]
    for row in range(6):
        for column in range(13):
            total = 0.0
            for i, down in enumerate(weights):
                for j, right in enumerate(weights):
                    r, c = min(max(row + i - radius, 0), 5), min(max(column + j - radius, 0), 12)
                    total += down * right * float(picture[0, 0, r, c])
            assert float(blur(picture)[0, 0, row, column]) == pytest.approx(total / sum(weights) ** 2, abs=1e-5)


def test_the_blob_is_in_the_middle() -> None:
    blob = centred_gaussian((10, 20))
    torch.testing.assert_close(blob, blob.flip(0, 1))
    assert float(blob[5, 10]) == float(blob.max()) > 0.95
    # One standard deviation, a fifth of the side, from the middle: 2 rows up.
    assert float(blob[3, 10] / blob[5, 10]) == pytest.approx(np.exp(-0.5 * (1.5**2 - 0.5**2) / 4), rel=1e-4)


def test_one_pixel_is_enough() -> None:
    weight = torch.ones(1, 3, 1, 1)
    found = measure(probe(summing(weight), torch.ones(1, 3, 1, 1)), torch.ones(1, 1, 1), steps=4)
    assert found.deletion[0].tolist() == pytest.approx([sigmoid(3), 0.5])
    assert float(found.srg) == 0
