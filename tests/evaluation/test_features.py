"""Features and logits: those of a plain forward pass, kept in parts, and the nearest images by a slow loop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import Tensor, nn

import swin_core
from swin_core.data.dataset import DataSet
from swin_core.data.folders import image_folder
from swin_core.errors import LayerError
from swin_core.evaluation import features as module
from swin_core.evaluation.features import (
    cached_features,
    cached_logits,
    find_head,
    has_any_features,
    has_features,
    image_features,
    nearest,
)

pytestmark = pytest.mark.usefixtures("one_thread")

COUNT = 23


@pytest.fixture
def photos(tmp_path: Path) -> DataSet:
    """23 images of two classes, one of which cannot be read."""
    draw = np.random.default_rng(3)
    for number in range(COUNT):
        file = tmp_path / "photos" / "ab"[number % 2] / f"{number:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (70, 80, 3), dtype=np.uint8)).save(file)
    found = image_folder(tmp_path / "photos")
    broken = tmp_path / "photos" / found.names[9]
    broken.write_bytes(broken.read_bytes()[:200])
    return found


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Several parts of several batches, the last ones not full, in a cache of their own."""
    monkeypatch.setattr("swin_core.system.batches.MOST_ON_CPU", 3)
    monkeypatch.setattr(module, "CHUNK", 8)
    monkeypatch.setenv("SWIN_CACHE_ROOT", str(tmp_path / "cache"))


def test_they_are_those_of_a_forward_pass(
    small_classifier: swin_core.Classifier, photos: DataSet, no_hooks_left: Callable[[nn.Module], object]
) -> None:
    model = small_classifier.model
    no_hooks_left(model)
    found, logits = cached_features(small_classifier, photos), cached_logits(small_classifier, photos)
    assert found.shape == (COUNT, model.head.in_features)
    assert np.isnan(found[9]).all()
    assert np.isnan(logits[9]).all()
    for index in set(range(COUNT)) - {9}:
        pixels = small_classifier.tensor(small_classifier.view(photos.image(index)))
        with torch.no_grad():
            expected = model(pixels)[0].numpy()
        # The head is linear: its own weights turn the features into the logits.
        weight, bias = model.head.weight.detach().numpy(), model.head.bias.detach().numpy()
        np.testing.assert_allclose(found[index] @ weight.T + bias, expected, atol=1e-5)
        np.testing.assert_allclose(logits[index], expected, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "convnext_atto", "vit_tiny_patch16_224"])
def test_they_are_what_timm_calls_the_pre_logits(name: str) -> None:
    settings = {"img_size": 32} if "vit" in name else {}
    model = timm.create_model(name, num_classes=4, **settings).eval()
    classifier = swin_core.Classifier(model, list("abcd"), 0.5, 0.5, 32)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))
    with torch.no_grad():
        pixels = classifier.tensor(classifier.view(image))
        expected = model.forward_head(model.forward_features(pixels), pre_logits=True)[0]
    np.testing.assert_allclose(image_features(classifier, [image])[0], expected.numpy(), atol=1e-5)


def test_a_convolution_may_be_the_head() -> None:
    body = nn.Conv2d(3, 6, 3)
    model = nn.Sequential(body, nn.ReLU(), nn.Conv2d(6, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    classifier = swin_core.Classifier(model, ["a", "b"], 0.5, 0.5, 16)
    assert find_head(classifier) is model[2]
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    with torch.no_grad():
        expected = body(classifier.tensor(classifier.view(image))).relu().mean((2, 3))[0]
    np.testing.assert_allclose(image_features(classifier, [image])[0], expected.numpy(), atol=1e-6)


def test_a_single_logit_of_two_classes_has_a_head() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 5), nn.ReLU(), nn.Linear(5, 1)).eval()
    assert find_head(swin_core.Classifier(model, ["cat", "dog"], 0.5, 0.5, 8)) is model[3]


class _NoHead(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def test_a_model_without_a_head_is_refused(photos: DataSet) -> None:
    classifier = swin_core.Classifier(_NoHead(), list("abc"), 0.5, 0.5, 16, name="means")
    with pytest.raises(LayerError, match="means has no linear layer before its logits, so it has no features; choose"):
        cached_features(classifier, photos)


def test_a_stopped_computation_resumes(
    small_classifier: swin_core.Classifier, photos: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(done: int, total: int) -> None:
        assert total == COUNT
        if done > 12:
            raise KeyboardInterrupt

    assert not has_any_features()
    with pytest.raises(KeyboardInterrupt):
        cached_features(small_classifier, photos, progress=stop)
    assert has_any_features()
    assert not has_features(small_classifier, photos)
    computed: list[int] = []
    compute = module._compute
    monkeypatch.setattr(module, "_compute", lambda *given: (computed.append(len(given[2])), compute(*given))[1])
    seen: list[int] = []
    resumed = cached_features(small_classifier, photos, progress=lambda done, _: seen.append(done))
    assert computed == [8, 7]  # the first part was finished
    assert seen[-1] == COUNT
    assert has_features(small_classifier, photos)
    np.testing.assert_array_equal(cached_features(small_classifier, photos), resumed)
    assert computed == [8, 7]


def test_other_weights_and_other_images_are_computed_anew(
    small_classifier: swin_core.Classifier, photos: DataSet
) -> None:
    before = cached_features(small_classifier, photos)
    assert not has_features(small_classifier, photos.subset(range(10), "all"))
    with torch.no_grad():
        small_classifier.model.norm.weight.mul_(2)
    assert not has_features(small_classifier, photos)
    assert not np.allclose(cached_features(small_classifier, photos), before, equal_nan=True)


@pytest.mark.parametrize("content", [b"", b"no archive"])
def test_a_damaged_part_is_computed_again(
    small_classifier: swin_core.Classifier, photos: DataSet, tmp_path: Path, content: bytes
) -> None:
    before = cached_features(small_classifier, photos)
    for file in (tmp_path / "cache" / "features").iterdir():
        file.write_bytes(content)
    np.testing.assert_array_equal(cached_features(small_classifier, photos), before)


def test_the_cache_keeps_its_limit(
    small_classifier: swin_core.Classifier, photos: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_FILES", 2)
    assert cached_features(small_classifier, photos).shape[0] == COUNT  # three parts
    assert len(list((tmp_path / "cache" / "features").iterdir())) == 2


def test_nearest_is_that_of_a_slow_loop() -> None:
    draw = np.random.default_rng(0)
    features, query = draw.normal(size=(40, 7)).astype(np.float32), draw.normal(size=7).astype(np.float32)
    features[3] = np.nan
    distances = {}
    for index, row in enumerate(features):
        if index != 3:
            cosine = sum(a * b for a, b in zip(row, query, strict=True))
            cosine /= sum(a * a for a in row) ** 0.5 * sum(b * b for b in query) ** 0.5
            distances[index] = 1 - cosine
    order = sorted(distances, key=lambda index: distances[index])
    found, far = nearest(features, query, 9)
    assert found.tolist() == order[:9]
    np.testing.assert_allclose(far, [distances[index] for index in order[:9]], atol=1e-5)
    assert sorted(nearest(features, query, 1000)[0].tolist()) == sorted(distances)
    # The length of a vector does not count.
    assert nearest(5 * features, query, 9)[0].tolist() == order[:9]
