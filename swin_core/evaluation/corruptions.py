"""Accuracy on corrupted images: blur, noise, brightness, contrast and JPEG, each at five strengths.

The strengths are those of ImageNet-C (Hendrycks & Dietterich 2019), which are made for images of 224 pixels. As there,
a larger image is reduced first; on a smaller one a blur is narrower in proportion. An image is corrupted before the
model's own preprocessing.
"""

import io
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from swin_core.data.dataset import DataSet
from swin_core.errors import ConfigError, DataError
from swin_core.evaluation.calibration import Measured, expected_calibration_error
from swin_core.evaluation.predictions import cache_file, cached_predictions, true_classes
from swin_core.system.progress import Progress
from swin_core.zoo.classifier import Classifier

IMAGES = 1000
"""Images that are corrupted, drawn at random from a larger split."""
SIDE = 224
"""Shorter side that the strengths are made for, in pixels."""

_SIGMAS = (1.0, 2.0, 3.0, 4.0, 6.0)
_NOISES = (0.08, 0.12, 0.18, 0.26, 0.38)
_BRIGHTNESS = (0.1, 0.2, 0.3, 0.4, 0.5)
_CONTRASTS = (0.4, 0.3, 0.2, 0.1, 0.05)
_QUALITIES = (25, 18, 15, 10, 7)


def blur(image: Image.Image, strength: int) -> Image.Image:
    """Blur with a Gaussian, on an image of 224 pixels of 1, 2, 3, 4 or 6 pixels; edges are mirrored."""
    sigma = _SIGMAS[strength - 1] * min(image.size) / SIDE
    pixels = gaussian_filter(np.asarray(image, np.float32), (sigma, sigma, 0), mode="mirror")
    return _to_image(pixels)


def noise(image: Image.Image, strength: int) -> Image.Image:
    """Add Gaussian noise, the same each time for the same image, of 8 to 38 % of the range of a pixel."""
    pixels = np.asarray(image, np.float32)
    random = np.random.default_rng(zlib.crc32(np.ascontiguousarray(image).data))
    return _to_image(pixels + 255 * _NOISES[strength - 1] * random.standard_normal(pixels.shape, np.float32))


def brightness(image: Image.Image, strength: int) -> Image.Image:
    """Add 10 to 50 % of the range to the value (V of HSV) of each pixel; hue and saturation stay."""
    pixels = np.asarray(image, np.float32)
    value = pixels.max(2, keepdims=True)
    brighter = np.minimum(value + 255 * _BRIGHTNESS[strength - 1], 255)
    return _to_image(np.where(value > 0, pixels / np.maximum(value, 1) * brighter, brighter))


def contrast(image: Image.Image, strength: int) -> Image.Image:
    """Move each channel towards its mean, so that 40 to 5 % of the differences are left."""
    pixels = np.asarray(image, np.float32)
    mean = pixels.mean((0, 1), keepdims=True, dtype=np.float64).astype(np.float32)
    return _to_image(mean + _CONTRASTS[strength - 1] * (pixels - mean))


def jpeg(image: Image.Image, strength: int) -> Image.Image:
    """Write as JPEG of quality 25, 18, 15, 10 or 7, and read again."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=_QUALITIES[strength - 1])
    return Image.open(stream).convert("RGB")


CORRUPTIONS: Mapping[str, Callable[[Image.Image, int], Image.Image]] = {
    "blur": blur,
    "noise": noise,
    "brightness": brightness,
    "contrast": contrast,
    "jpeg": jpeg,
}
"""Each takes an RGB image and a strength of 1 to 5."""
STRENGTHS = (1, 2, 3, 4, 5)


@dataclass(frozen=True, eq=False)
class Corrupted:
    """What a classifier predicts for images with one corruption at one strength."""

    name: str
    """A key of `CORRUPTIONS`, or empty for the images as they are."""
    strength: int
    """1 to 5; 0 for the images as they are."""
    right: np.ndarray
    """Whether each image that counts is predicted right, `(n,)` bool."""
    confidence: float
    """Mean probability of the likeliest class."""
    error: Measured
    """Expected calibration error."""

    @property
    def accuracy(self) -> float:
        """Share of right predictions, 0 to 1."""
        return float(self.right.mean())


@dataclass(frozen=True, eq=False)
class Robustness:
    """Accuracy of a classifier on images as they are, and corrupted."""

    labels: tuple[str, ...]
    """The model's classes."""
    rows: np.ndarray
    """The images that count, as indices into the data set, `(n,)` int64."""
    truth: np.ndarray
    """The model's index of their classes, `(n,)` int64."""
    results: tuple[Corrupted, ...]
    """The images as they are, then each corruption with its strengths."""

    def per_class(self, result: Corrupted) -> np.ndarray:
        """Return the accuracy of one of the results by class, `(classes,)`; NaN for a class without images."""
        counts = np.bincount(self.truth, minlength=len(self.labels))
        with np.errstate(invalid="ignore"):
            return np.bincount(self.truth, result.right, len(self.labels)) / counts

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        results = [
            {
                "corruption": result.name or None,
                "strength": result.strength,
                "accuracy": result.accuracy,
                "confidence": result.confidence,
                "error": vars(result.error),
                "per_class": [None if np.isnan(share) else float(share) for share in self.per_class(result)],
            }
            for result in self.results
        ]
        return {"count": len(self.rows), "labels": list(self.labels), "results": results}


def corrupted_dataset(dataset: DataSet, name: str, strength: int, side: int = SIDE) -> DataSet:
    """Return the images of a data set with a corruption.

    Args:
        dataset: the images.
        name: a key of `CORRUPTIONS`.
        strength: 1 to 5.
        side: an image whose shorter side is longer is reduced to this first, in pixels.
    """
    return replace(dataset, read=partial(_read_corrupted, dataset.read, CORRUPTIONS[name], strength, side))


def robustness(
    classifier: Classifier,
    dataset: DataSet,
    images: int = IMAGES,
    seed: int = 0,
    root: Path | None = None,
    progress: Progress | None = None,
) -> Robustness:
    """Measure a classifier on images as they are and under each corruption at each strength.

    Predictions are cached, so that a computation that was stopped goes on from there.

    Args:
        classifier: the model.
        dataset: the images.
        images: number of images, drawn at random from a larger split; 0 for all.
        seed: seed of the draw and of the bootstrap.
        root: folder of the cache; `cache_root()` if None.
        progress: called with the number of images done, over all corruptions, and their total; an error that it raises
            ends the computation.

    Raises:
        ConfigError: the model is a regression, or its input is not RGB or grey.
        DataError: the model knows no class of the images.
    """
    if len(classifier.mean) not in (1, 3):
        raise ConfigError(
            f"{classifier.name} takes {len(classifier.mean)} channels, and corruptions are for RGB images; choose "
            "another model."
        )
    order, part, settings = _plan(classifier, dataset, images, seed)
    results, counted = [], np.zeros(0, np.int64)
    for number, (name, strength, variant) in enumerate(settings):

        def tick(done: int, _: int, before: int = number * len(part)) -> None:
            if progress is not None:
                progress(before + done, len(settings) * len(part))

        changed = corrupted_dataset(part, name, strength, _side(classifier)) if name else part
        predictions = cached_predictions(classifier, changed, root, tick, variant)
        if not number:
            predictions.metrics()  # refuses images of which the model knows no class
            counted = np.flatnonzero(predictions.counted)
        right, confidence = predictions.right[counted], predictions.confidence[counted]
        error = expected_calibration_error(confidence, right, seed=seed)
        results.append(Corrupted(name, strength, right, float(confidence.mean()), error))
        tick(len(part), 0)
    return Robustness(classifier.labels, order[counted], true_classes(classifier, part)[counted], tuple(results))


def is_measured(
    classifier: Classifier, dataset: DataSet, images: int = IMAGES, seed: int = 0, root: Path | None = None
) -> bool:
    """Return whether all predictions that `robustness` needs are on disk, so that it takes no time."""
    _, part, settings = _plan(classifier, dataset, images, seed)
    return all(cache_file(classifier, part, root, variant).is_file() for _, _, variant in settings)


def _plan(
    classifier: Classifier, dataset: DataSet, images: int, seed: int
) -> tuple[np.ndarray, DataSet, list[tuple[str, int, str]]]:
    """Return the rows of the images that are drawn, these images, and each corruption with its name in the cache."""
    order = np.arange(len(dataset))
    if images and images < len(dataset):
        order = np.sort(np.random.default_rng(seed).permutation(len(dataset))[:images])
    settings = [(name, strength) for name in CORRUPTIONS for strength in STRENGTHS]
    side = _side(classifier)
    named = [("", 0, ""), *((name, strength, f"{name} {strength} {side}") for name, strength in settings)]
    return order, dataset.subset(order, dataset.split), named


def _side(classifier: Classifier) -> int:
    return max(SIDE, classifier.image_size)


def _read_corrupted(
    read: Callable[[Any, int | None], Image.Image | np.ndarray],
    corrupt: Callable[[Image.Image, int], Image.Image],
    strength: int,
    side: int,
    source: Any,
    _: int | None,
) -> Image.Image:
    image = read(source, None)  # whole: a decoder that reduces the image would change the corruption
    if isinstance(image, np.ndarray):
        raise DataError(f"corruptions are for RGB images, and this is an array of {image.shape[2]} channels.")
    if (shorter := min(image.size)) > side:
        width, height = (round(length * side / shorter) for length in image.size)
        image = image.resize((width, height), Image.Resampling.BOX)
    return corrupt(image.convert("RGB"), strength)


def _to_image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))
