"""Corruptions: each against another library or a slow loop, and the accuracy on corrupted images."""

from __future__ import annotations

import colorsys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torchvision.transforms.functional as tv
from PIL import Image

import swin_core
from swin_core.data.dataset import DataSet
from swin_core.data.folders import image_folder
from swin_core.errors import ConfigError
from swin_core.evaluation import corruptions as module
from swin_core.evaluation.corruptions import (
    CORRUPTIONS,
    STRENGTHS,
    blur,
    brightness,
    contrast,
    corrupted_dataset,
    is_measured,
    jpeg,
    noise,
    robustness,
)
from swin_core.evaluation.predictions import predict
from tests.conftest import FLOWERS

pytestmark = pytest.mark.usefixtures("one_thread")


def photo(size: tuple[int, int] = (60, 50)) -> Image.Image:
    with Image.open(Path(__file__).parents[2] / "assets" / "samples" / "rose.jpg") as image:
        return image.convert("RGB").resize(size)


def planes(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def difference(image: Image.Image, expected: torch.Tensor | np.ndarray) -> np.ndarray:
    expected = expected.permute(1, 2, 0).numpy() if isinstance(expected, torch.Tensor) else expected
    return np.abs(np.asarray(image, float) - expected.astype(float))


@pytest.mark.parametrize("strength", STRENGTHS)
def test_blur_is_that_of_torchvision(strength: int) -> None:
    image = photo((224, 260))
    sigma = (1, 2, 3, 4, 6)[strength - 1]
    theirs = tv.gaussian_blur(planes(image).float(), [8 * sigma + 1] * 2, [float(sigma)] * 2)  # four sigmas, as SciPy
    assert difference(blur(image, strength), theirs).max() <= 1
    small = photo((56, 60))
    theirs = tv.gaussian_blur(planes(small).float(), [2 * sigma + 1] * 2, [sigma / 4] * 2)
    assert difference(blur(small, strength), theirs).max() <= 1


@pytest.mark.parametrize("strength", STRENGTHS)
def test_noise_has_its_spread_and_is_the_same_for_the_same_image(strength: int) -> None:
    grey = Image.new("RGB", (200, 200), (128, 128, 128))
    found = noise(grey, strength)
    spread = (0.08, 0.12, 0.18, 0.26, 0.38)[strength - 1] * 255
    expected = 128 + spread * torch.randn(10**6, generator=torch.Generator().manual_seed(0))
    assert np.asarray(found, float).std() == pytest.approx(float(expected.clamp(0, 255).std()), rel=0.02)
    assert np.asarray(found, float).mean() == pytest.approx(127.5, abs=1.5)
    assert noise(grey, strength) == found
    other = Image.new("RGB", (200, 200), (129, 128, 128))
    assert difference(noise(other, strength), np.asarray(found)).mean() > spread / 2


@pytest.mark.parametrize("strength", STRENGTHS)
def test_brightness_is_that_of_colorsys(strength: int) -> None:
    image = photo((12, 9))
    image.putpixel((0, 0), (0, 0, 0))
    pixels = np.asarray(image) / 255
    expected = np.zeros_like(pixels)
    for place in np.ndindex(pixels.shape[:2]):
        hue, saturation, value = colorsys.rgb_to_hsv(*pixels[place])
        expected[place] = colorsys.hsv_to_rgb(hue, saturation, min(1, value + strength / 10))
    assert difference(brightness(image, strength), 255 * expected).max() <= 0.51


@pytest.mark.parametrize("strength", STRENGTHS)
def test_contrast_is_that_of_a_slow_loop(strength: int) -> None:
    image = photo((12, 9))
    pixels = np.asarray(image).tolist()
    share = (0.4, 0.3, 0.2, 0.1, 0.05)[strength - 1]
    found = np.asarray(contrast(image, strength))
    for channel in range(3):
        values = [pixel[channel] for row in pixels for pixel in row]
        mean = sum(values) / len(values)
        for y, row in enumerate(pixels):
            for x, pixel in enumerate(row):
                assert abs(found[y, x, channel] - (mean + share * (pixel[channel] - mean))) <= 0.51


@pytest.mark.parametrize("strength", STRENGTHS)
def test_jpeg_is_that_of_opencv(strength: int) -> None:
    image = photo((96, 80))
    quality = [cv2.IMWRITE_JPEG_QUALITY, (25, 18, 15, 10, 7)[strength - 1]]
    written = cv2.imencode(".jpg", np.asarray(image)[..., ::-1], quality)[1]
    theirs = cv2.imdecode(written, cv2.IMREAD_COLOR)[..., ::-1]
    ours = difference(jpeg(image, strength), theirs)
    assert ours.mean() < 0.5  # two builds of libjpeg
    assert ours.mean() < difference(image, theirs).mean() / 4


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_stronger_is_farther_from_the_image(name: str) -> None:
    image = photo((224, 224))
    distances = [difference(CORRUPTIONS[name](image, strength), np.asarray(image)).mean() for strength in STRENGTHS]
    assert distances == sorted(distances)
    assert distances[0] > 0.5
    black = CORRUPTIONS[name](Image.new("RGB", (9, 1)), 5)
    assert black.size == (9, 1)
    assert black.mode == "RGB"


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataSet:
    """Twenty images of five classes, one larger than the strengths are made for, and one that cannot be read."""
    monkeypatch.setenv("SWIN_CACHE_ROOT", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "STRENGTHS", (2,))
    draw = np.random.default_rng(3)
    for number in range(20):
        folder = tmp_path / "photos" / FLOWERS[number % 5]
        folder.mkdir(parents=True, exist_ok=True)
        side = 500 if number == 5 else 40
        pixels = draw.integers(0, 256, (side, 2 * side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    broken = tmp_path / "photos" / FLOWERS[0] / "00.png"
    broken.write_bytes(broken.read_bytes()[:500])
    return image_folder(tmp_path / "photos")


def test_a_large_image_is_reduced_first(photos: DataSet) -> None:
    row = [name.endswith("05.png") for name in photos.names].index(True)
    found = corrupted_dataset(photos, "contrast", 2).image(row, 16)
    assert found.size == (448, 224)
    assert found == contrast(photos.image(row).resize((448, 224), Image.Resampling.BOX), 2)
    small = corrupted_dataset(photos, "jpeg", 2).image(2, 16)
    assert small == jpeg(photos.image(2), 2)


def test_accuracy_is_that_of_a_slow_loop(small_classifier: swin_core.Classifier, photos: DataSet) -> None:
    seen: list[tuple[int, int]] = []
    found = robustness(small_classifier, photos, progress=lambda *done: seen.append(done))
    assert len(found.rows) == 19
    assert seen[-1] == (6 * 20, 6 * 20)
    assert [(each.name, each.strength) for each in found.results] == [
        ("", 0),
        *((name, 2) for name in CORRUPTIONS),
    ]
    readable = [index for index in range(20) if not photos.names[index].endswith("00.png")]
    for result in found.results:
        right, confidence = [], []
        for index in readable:
            image = photos.image(index)
            if max(image.size) > 448:
                image = image.resize((448, 224), Image.Resampling.BOX) if result.name else image
            image = CORRUPTIONS[result.name](image, result.strength) if result.name else image
            chances = small_classifier.predict([image])[0]
            right.append(int(chances.argmax()) == int(photos.labels[index]))
            confidence.append(float(chances.max()))
        assert result.accuracy == pytest.approx(np.mean(right))
        assert result.confidence == pytest.approx(np.mean(confidence), abs=1e-5)
        counts = np.bincount(photos.labels[readable], minlength=5)
        expected = np.bincount(photos.labels[readable], right, 5) / counts
        np.testing.assert_allclose(found.per_class(result), expected)


def test_a_stopped_measurement_goes_on(
    small_classifier: swin_core.Classifier, photos: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(done: int, total: int) -> None:
        if done > 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        robustness(small_classifier, photos, progress=stop)
    seen: list[int] = []
    monkeypatch.setattr("swin_core.evaluation.predictions.predict", lambda *given: (seen.append(1), predict(*given))[1])
    assert not is_measured(small_classifier, photos)
    first = robustness(small_classifier, photos)
    assert is_measured(small_classifier, photos)
    assert len(seen) == 4  # two were finished
    again = robustness(small_classifier, photos)
    assert len(seen) == 4
    assert again.to_dict() == first.to_dict()


def test_a_part_of_a_large_split_is_drawn(small_classifier: swin_core.Classifier, photos: DataSet) -> None:
    found = robustness(small_classifier, photos, images=7)
    assert 6 <= len(found.rows) <= 7
    np.testing.assert_array_equal(found.truth, photos.labels[found.rows])


def test_other_channels_are_refused(photos: DataSet) -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4 * 64, 2)).eval()
    classifier = swin_core.Classifier(model, ["a", "b"], [0.5] * 4, [0.5] * 4, 8, name="radar")
    with pytest.raises(ConfigError, match="radar takes 4 channels, and corruptions are for RGB images; choose another"):
        robustness(classifier, photos)
