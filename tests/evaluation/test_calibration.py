"""Calibration: against torchmetrics, slow loops and a second way to fit the temperature."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchmetrics.functional.classification import multiclass_calibration_error

import swin_core
from swin_core.data.dataset import DataSet
from swin_core.errors import ConfigError, DataError
from swin_core.evaluation.calibration import (
    by_group,
    calibrate,
    calibration,
    expected_calibration_error,
    fit_temperature,
    reliability,
)
from tests.fixtures.images import small_cifar

CLASSES = 6


def read_array(pixels: np.ndarray, _: int | None) -> Image.Image:
    return Image.fromarray(pixels)


def logits_and_truth(count: int = 400, seed: int = 0, sharpness: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits from which the true classes are drawn, times a sharpness: with 1 the probabilities are right."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(size=(count, CLASSES)) * 1.5
    truth = (logits + draw.gumbel(size=logits.shape)).argmax(1)
    return (sharpness * logits).astype(np.float32), truth


def confidence_and_right(sharpness: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    logits, truth = logits_and_truth(sharpness=sharpness)
    chances = torch.from_numpy(logits).softmax(1).numpy()
    return chances.max(1), chances.argmax(1) == truth


@pytest.mark.parametrize("bins", [5, 15])
def test_error_is_that_of_torchmetrics_and_of_a_slow_loop(bins: int) -> None:
    logits, truth = logits_and_truth(sharpness=3)
    chances = torch.from_numpy(logits).softmax(1)
    theirs = multiclass_calibration_error(chances, torch.from_numpy(truth), CLASSES, n_bins=bins, norm="l1")
    ours = expected_calibration_error(*confidence_and_right(), bins, resamples=10).value
    assert ours == pytest.approx(float(theirs), abs=1e-6)
    slow = 0.0
    confidence, right = confidence_and_right()
    for number in range(bins):
        members = [i for i, c in enumerate(confidence) if number / bins < c <= (number + 1) / bins]
        if members:
            gap = sum(right[i] for i in members) / len(members) - sum(confidence[i] for i in members) / len(members)
            slow += len(members) / len(confidence) * abs(gap)
    assert ours == pytest.approx(slow, abs=1e-6)


def test_edges_belong_to_the_bin_below() -> None:
    found = reliability(np.array([0.0, 0.2, 0.2001, 1.0]), np.array([True, True, False, True]), 5)
    assert [each.count for each in found] == [2, 1, 0, 0, 1]
    assert (found[0].accuracy, found[0].confidence) == (1.0, pytest.approx(0.1))
    assert (found[2].accuracy, found[2].confidence) == (None, None)


def test_interval_holds_the_true_error() -> None:
    """Of right probabilities, whose true error is 0, and of wrong ones, whose error a large sample tells."""
    large = logits_and_truth(100_000, 99, 3.0)
    chances = torch.from_numpy(large[0]).softmax(1).numpy()
    true_error = expected_calibration_error(chances.max(1), chances.argmax(1) == large[1], resamples=2).value
    for sharpness, true in ((1.0, 0.0), (3.0, true_error)):
        inside = 0
        for seed in range(40):
            logits, truth = logits_and_truth(300, seed, sharpness)
            chances = torch.from_numpy(logits).softmax(1).numpy()
            found = expected_calibration_error(chances.max(1), chances.argmax(1) == truth, seed=seed, resamples=100)
            assert found.low <= found.value <= found.high
            inside += found.low <= true + 0.02 and true <= found.high
        assert inside >= 34


def test_temperature_is_that_of_gradient_descent() -> None:
    logits, truth = logits_and_truth(2000, sharpness=2.5)
    log_temperature = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_temperature], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(torch.from_numpy(logits) / log_temperature.exp(), torch.from_numpy(truth))
        loss.backward()
        return loss

    optimizer.step(closure)
    assert fit_temperature(logits, truth) == pytest.approx(float(log_temperature.detach().exp()), rel=1e-3)
    assert fit_temperature(logits, truth) == pytest.approx(2.5, rel=0.1)  # how the logits were made


def test_the_temperature_is_measured_on_images_that_it_was_not_fitted_on() -> None:
    logits, truth = logits_and_truth(2000, sharpness=3)
    found = calibration(logits, truth)
    assert found.temperature is not None
    assert found.temperature.count == 1000
    assert found.temperature.after.high < found.temperature.before.low
    order = np.random.default_rng(0).permutation(2000)
    assert found.temperature.temperature == pytest.approx(fit_temperature(logits[order[:1000]], truth[order[:1000]]))
    assert calibration(logits[:90], truth[:90]).temperature is None


def test_images_that_do_not_count_are_left_out() -> None:
    logits, truth = logits_and_truth(200)
    more = np.concatenate([logits, logits[:2], np.full((1, CLASSES), np.nan, np.float32)])
    more_truth = np.concatenate([truth, [-1, -1, 3]])
    assert calibration(more, more_truth) == calibration(logits, truth)
    with pytest.raises(DataError, match="the model knows no class of these images; choose another model or data set"):
        calibration(logits, np.full(200, -1))
    with pytest.raises(DataError, match="knows no class"):
        calibration(np.zeros((5, 0), np.float32), np.zeros(5, np.int64))


def test_each_class_on_its_own_has_no_temperature() -> None:
    logits, truth = logits_and_truth(200)
    found = calibration(logits, truth, "sigmoid")
    assert found.temperature is None
    assert found.confidence == pytest.approx(float(torch.from_numpy(logits).sigmoid().amax(1).mean()), abs=1e-6)


def test_groups_are_those_of_a_slow_loop() -> None:
    confidence, right = confidence_and_right()
    groups = np.arange(len(confidence)) % 3 - 1
    found = by_group(confidence, right, groups, ["even", "odd", "none of them"])
    assert {group.name for group in found} == {"even", "odd"}
    assert found[0].gap.value >= found[1].gap.value
    for group in found:
        members = [i for i in range(len(groups)) if groups[i] == ["even", "odd"].index(group.name)]
        gaps = np.array([confidence[i] - right[i] for i in members])
        assert group.count == len(members)
        assert group.gap.value == pytest.approx(gaps.mean())
        assert group.gap.high - group.gap.low == pytest.approx(2 * 1.96 * gaps.std(ddof=1) / len(gaps) ** 0.5, rel=1e-5)
        assert group.accuracy == pytest.approx(np.mean([right[i] for i in members]))


@pytest.mark.usefixtures("one_thread")
def test_a_classifier_is_measured_by_its_own_predictions(
    small_classifier: swin_core.Classifier, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setenv("SWIN_CACHE_ROOT", str(tmp_path))
    pixels = small_cifar()["pixels"]
    labels = np.arange(len(pixels)) % 5
    names = tuple(map(str, range(len(pixels))))
    dataset = DataSet("made", "all", small_classifier.labels, labels, names, pixels, read_array)
    found = calibrate(small_classifier, dataset)
    chances = small_classifier.predict([dataset.image(index) for index in range(len(dataset))])
    assert found.accuracy == pytest.approx((chances.argmax(1) == labels).mean())
    assert found.confidence == pytest.approx(chances.max(1).mean(), abs=1e-5)
    expected = expected_calibration_error(chances.max(1), chances.argmax(1) == labels)
    assert found.error.value == pytest.approx(expected.value, abs=1e-5)


def test_a_regression_is_refused() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2)).eval()
    classifier = swin_core.Classifier(model, ["x", "y"], 0.5, 0.5, 8, activation="none", name="place")
    dataset = DataSet(
        "made", "all", ("x",), np.zeros(1, np.int64), ("0",), np.zeros((1, 8, 8, 3), np.uint8), read_array
    )
    with pytest.raises(ConfigError, match="place is a regression and has no probabilities; choose a classifier"):
        calibrate(classifier, dataset)


def test_one_image_tells_nothing_about_its_group() -> None:
    (group,) = by_group(np.array([0.6]), np.array([True]), np.array([0]), ["one"])
    assert (group.gap.value, group.gap.low, group.gap.high) == (pytest.approx(-0.4), -1, 1)
