"""How far a classifier's probabilities can be trusted: calibration error, reliability, and a fitted temperature."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from swin_core.data.dataset import DataSet
from swin_core.errors import ConfigError, DataError
from swin_core.evaluation.features import cached_logits
from swin_core.evaluation.predictions import Predictions, true_classes
from swin_core.system.progress import Progress
from swin_core.zoo.classifier import Classifier

BINS = 15
"""Bins of confidence, of equal width, as in Guo et al. (2017)."""
RESAMPLES = 1000
"""Bootstrap samples of an interval."""
LEAST_HALF = 50
"""Images that each half needs to fit and to measure a temperature."""
_TEMPERATURES = 0.05, 20.0


@dataclass(frozen=True)
class Measured:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Bin:
    """The images whose confidence lies in one bin."""

    low: float
    """Lower edge, which belongs to the bin below."""
    high: float
    """Upper edge."""
    count: int
    confidence: float | None
    """Mean probability of the likeliest class, 0 to 1; None in an empty bin."""
    accuracy: float | None
    """Share of right predictions, 0 to 1."""


@dataclass(frozen=True)
class GroupConfidence:
    """Confidence and accuracy of some of the images."""

    name: str
    count: int
    confidence: float
    """Mean probability of the likeliest class, 0 to 1."""
    accuracy: float
    """Share of right predictions, 0 to 1."""
    gap: Measured
    """Confidence minus accuracy: above 0 the model is too sure of itself."""


@dataclass(frozen=True)
class TemperatureFit:
    """The temperature that the logits would be divided by, fitted on one half of the images, measured on the other."""

    temperature: float
    """Above 1 the model is too sure of itself."""
    count: int
    """Images of the half that was measured."""
    before: Measured
    """Calibration error of this half as the model is."""
    after: Measured
    """Calibration error of this half at the temperature."""


@dataclass(frozen=True)
class Calibration:
    """How far the probabilities of a model can be trusted on some images."""

    count: int
    """Images whose class the model knows."""
    accuracy: float
    confidence: float
    """Mean probability of the likeliest class."""
    error: Measured
    """Expected calibration error, 0 to 1; lower is better."""
    bins: tuple[Bin, ...]
    temperature: TemperatureFit | None
    """None if there are too few images, or if each class has a probability of its own."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def calibrate(
    classifier: Classifier,
    dataset: DataSet,
    root: Path | None = None,
    progress: Progress | None = None,
    seed: int = 0,
) -> Calibration:
    """Measure the calibration of a classifier on a split, with its own preprocessing.

    Args:
        classifier: the model.
        dataset: the images; those whose class the model does not know do not count.
        root: folder of the cache of logits; `cache_root()` if None.
        progress: called with the number of images done and their total.
        seed: seed of the halves and of the bootstrap.

    Raises:
        ConfigError: the model is a regression.
        DataError: the model knows no class of the images.
        LayerError: the model has no linear layer before its logits.
    """
    if classifier.activation == "none":
        raise ConfigError(f"{classifier.name} is a regression and has no probabilities; choose a classifier.")
    truth = true_classes(classifier, dataset)
    logits = cached_logits(classifier, dataset, root, progress)
    return calibration(logits, truth, classifier.activation, seed)


def calibration(logits: np.ndarray, truth: np.ndarray, activation: str = "softmax", seed: int = 0) -> Calibration:
    """Return the calibration of logits `(N, classes)` for the true classes `(N,)`.

    Images with NaN or with the class -1 do not count.

    Args:
        logits: of all classes.
        truth: indices of classes.
        activation: "softmax" or "sigmoid", as in `Classifier`.
        seed: seed of the halves and of the bootstrap.

    Raises:
        DataError: no image counts.
    """
    counted = (truth >= 0) & np.isfinite(logits).all(1) if logits.shape[1] else np.zeros(len(truth), bool)
    if not counted.any():
        raise DataError("the model knows no class of these images; choose another model or data set.")
    logits, truth = logits[counted].astype(np.float64), truth[counted]
    confidence = _confidence(logits, activation)
    right = logits.argmax(1) == truth
    return Calibration(
        len(truth),
        float(right.mean()),
        float(confidence.mean()),
        expected_calibration_error(confidence, right, seed=seed),
        reliability(confidence, right),
        _fit(logits, truth, seed) if activation == "softmax" else None,
    )


def expected_calibration_error(
    confidence: np.ndarray, right: np.ndarray, bins: int = BINS, seed: int = 0, resamples: int = RESAMPLES
) -> Measured:
    """Return the expected calibration error (Guo et al. 2017, eq. 3) with its bootstrap interval.

    It is the mean over the images of |accuracy - confidence| of their bin. Chance alone makes it larger than 0, and a
    bootstrap sample larger again by about as much: so the interval is the basic one, in which that cancels.

    Args:
        confidence: probability of the likeliest class, `(N,)` in 0 to 1.
        right: whether the likeliest class is the true one, `(N,)` bool.
        bins: bins of equal width, each with its upper edge.
        seed: seed of the bootstrap.
        resamples: bootstrap samples.
    """
    gaps = np.asarray(confidence, np.float64) - right
    places = _places(confidence, bins)

    def error(rows: np.ndarray | slice) -> float:
        return float(np.abs(np.bincount(places[rows], gaps[rows], bins)).sum() / len(gaps))

    value = error(slice(None))
    random = np.random.default_rng(seed)
    samples = [error(random.integers(0, len(gaps), len(gaps))) for _ in range(resamples)]
    low, high = np.quantile(samples, [0.025, 0.975])
    return Measured(value, max(0.0, 2 * value - float(high)), max(value, 2 * value - float(low)))


def reliability(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> tuple[Bin, ...]:
    """Return what the reliability diagram draws: accuracy and confidence of each bin. Arguments are as above."""
    places = _places(confidence, bins)
    counts = np.bincount(places, minlength=bins)
    sums = [np.bincount(places, values, bins) for values in (confidence, right)]
    return tuple(
        Bin(i / bins, (i + 1) / bins, int(n), *(float(each[i] / n) if n else None for each in sums))
        for i, n in enumerate(counts)
    )


def by_group(
    confidence: np.ndarray, right: np.ndarray, groups: np.ndarray, names: Sequence[str]
) -> tuple[GroupConfidence, ...]:
    """Return confidence and accuracy of each group that has images, the most overconfident first.

    The interval of the gap is that of a mean with normal error (1.96 standard errors); of one image it is -1 to 1.

    Args:
        confidence: probability of the likeliest class, `(N,)`.
        right: `(N,)` bool.
        groups: index of each image's group, `(N,)` int64; -1 for none.
        names: names of the groups.
    """
    found = []
    for index, name in enumerate(names):
        rows = groups == index
        if not rows.any():
            continue
        gaps = confidence[rows].astype(np.float64) - right[rows]
        gap, interval = float(gaps.mean()), (-1.0, 1.0)
        if len(gaps) > 1:
            margin = 1.96 * float(gaps.std(ddof=1)) / len(gaps) ** 0.5
            interval = gap - margin, gap + margin
        measured = Measured(gap, *interval)
        shares = float(confidence[rows].mean()), float(right[rows].mean())
        found.append(GroupConfidence(name, int(rows.sum()), *shares, measured))
    return tuple(sorted(found, key=lambda group: -group.gap.value))


def confidence_groups(predictions: Predictions, others: Mapping[str, np.ndarray]) -> tuple[GroupConfidence, ...]:
    """Return confidence and accuracy by true class, then of further groups of the images, such as those of a finding.

    Args:
        predictions: of N images.
        others: which images are in each further group, `(N,)` bool.
    """
    counted = predictions.counted
    confidence, right = predictions.confidence[counted], predictions.right[counted]
    found = by_group(confidence, right, predictions.truth[counted], predictions.labels)
    for name, rows in others.items():
        found += by_group(confidence, right, np.where(rows[counted], 0, -1), [name])
    return found


def fit_temperature(logits: np.ndarray, truth: np.ndarray) -> float:
    """Return the temperature at which the mean cross-entropy is least (Guo et al. 2017, section 4.2).

    Args:
        logits: `(N, classes)`.
        truth: `(N,)`.
    """
    rows = np.arange(len(truth))

    def loss(log_temperature: float) -> float:
        return float(-log_softmax(logits / np.exp(log_temperature), axis=1)[rows, truth].mean())

    found = minimize_scalar(loss, bounds=tuple(np.log(_TEMPERATURES)), method="bounded", options={"xatol": 1e-5})
    return float(np.exp(found.x))


def _fit(logits: np.ndarray, truth: np.ndarray, seed: int) -> TemperatureFit | None:
    half = len(truth) // 2
    if half < LEAST_HALF:
        return None
    order = np.random.default_rng(seed).permutation(len(truth))
    fitted, measured = order[:half], order[half:]
    temperature = fit_temperature(logits[fitted], truth[fitted])
    right = logits[measured].argmax(1) == truth[measured]
    before, after = (
        expected_calibration_error(_confidence(logits[measured] / divisor, "softmax"), right, seed=seed)
        for divisor in (1.0, temperature)
    )
    return TemperatureFit(temperature, len(measured), before, after)


def _confidence(logits: np.ndarray, activation: str) -> np.ndarray:
    largest = logits.max(1)
    if activation == "sigmoid":
        return 1 / (1 + np.exp(-largest))
    return 1 / np.exp(logits - largest[:, None]).sum(1)


def _places(confidence: np.ndarray, bins: int) -> np.ndarray:
    """Return the bin of each image: bin i has the confidences above i / bins, up to (i + 1) / bins."""
    return np.clip(np.ceil(np.asarray(confidence, np.float64) * bins).astype(np.int64) - 1, 0, bins - 1)
