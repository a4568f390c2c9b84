"""The caches of the dashboard: how many models they keep, and which thread explains."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

import swin_core
from dashboard.shared import cache
from swin_core.errors import ImageError
from swin_core.images.budget import PIXEL_BYTES, decoding
from swin_core.images.read import read_image
from swin_core.system.cache import LRUCache
from tests.fixtures.images import encoded


def _two_classes() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 2))


def test_a_hundred_changes_of_model_keep_six(monkeypatch: pytest.MonkeyPatch) -> None:
    alive: weakref.WeakSet[swin_core.Classifier] = weakref.WeakSet()

    def load(name: str) -> swin_core.Classifier:
        model = _two_classes()
        alive.add(made := swin_core.Classifier(model, ("a", "b"), (0.5,) * 3, (0.5,) * 3, 32, name=name))
        return made

    monkeypatch.setattr(swin_core, "load", load)
    monkeypatch.setattr(cache, "_classifiers", LRUCache(6))
    for number in range(100):
        cache.classifier(f"timm/model{number}")
    gc.collect()
    assert len(alive) == 6


@dataclass
class Explained:
    image: np.ndarray
    region: tuple[int, int, int, int]


def test_one_thread_explains_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    by: list[int] = []

    def explain(*_given: object, **_named: object) -> Explained:
        by.append(threading.get_ident())
        return Explained(np.zeros(3), (0, 0, 32, 32))

    model = swin_core.Classifier(_two_classes(), ("a", "b"), (0.5,) * 3, (0.5,) * 3, 32, name="any")
    monkeypatch.setattr(swin_core, "load", lambda _name: model)
    monkeypatch.setattr(swin_core, "explain", explain)
    monkeypatch.setattr(cache, "_classifiers", LRUCache(6))
    monkeypatch.setattr(cache, "_explanations", LRUCache(6))
    monkeypatch.setattr(cache, "_crops", LRUCache(6))
    image = Image.new("RGB", (32, 32))

    def ask(number: int) -> None:
        picture = cache.InputImage(number, "", image, np.asarray(image))
        cache.explanation(cache.Request("timm/any", picture, (0,), "gradcam", None))

    with ThreadPoolExecutor(4) as pool:
        asking = set(pool.map(lambda number: (ask(number), threading.get_ident())[1], range(16)))
    assert len(by) == 16
    assert len(set(by)) == 1
    assert not asking & set(by)


def test_explanations_of_an_image_share_what_the_models_see(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_explanations", LRUCache(6))
    monkeypatch.setattr(cache, "_crops", LRUCache(6))
    photo = Image.effect_noise((64, 64), 50).convert("RGB")
    picture = cache.InputImage("photo", "", photo, np.asarray(photo))
    first, second = (
        cache.explanation(cache.Request("swin_nano_cifar100", picture, (target,), "gradcam", None)) for target in (0, 1)
    )
    assert first.image is second.image
    np.testing.assert_array_equal(first.image, np.asarray(photo))


@pytest.mark.parametrize("size", [(1000, 12_000), (3600, 3400), (2000, 1000)])
def test_the_images_of_a_visitor_stay_in_the_cache(size: tuple[int, int]) -> None:
    """Eight photos of 49 million pixels took 4.9 GB: none fitted, and each rerun read all of them again."""
    reads = []

    def read() -> Image.Image:
        reads.append(size)
        return Image.new("RGB", size)

    for _ in range(2):
        images = [cache.read_input_image(("large", number), "large", "", read).pil for number in range(8)]
    assert len(reads) == 8
    width, height = images[0].size
    assert width * height <= 8_000_000
    assert abs(width / height - size[0] / size[1]) < 0.01
    assert min(width, height) >= 500
    assert (images[0].size == size) == (size == (2000, 1000))
    cache._images.drop(lambda key: key[0] == "large")


def test_an_image_is_counted_as_decoded_until_it_is_reduced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight tabs with photos of 50 million pixels each held 150 MB that no budget knew of."""
    content = encoded(np.zeros((1200, 1100, 3), np.uint8), "PNG")
    small = encoded(np.zeros((30, 20, 3), np.uint8), "JPEG")
    free = []
    real = cache._reduced

    def watched(image: Image.Image) -> Image.Image:
        free.append(decoding._free)
        return real(image)

    monkeypatch.setattr(cache, "_reduced", watched)
    monkeypatch.setattr(cache, "_images", LRUCache(6))
    monkeypatch.setattr(cache, "_MOST_PIXELS", 1000)
    for number, each in enumerate((content, small)):
        image = cache.read_input_image(number, "", "", partial(read_image, each))
        assert decoding._free == decoding.most
        assert image.pil.width * image.pil.height <= 1000
    assert [decoding.most - left for left in free] == [PIXEL_BYTES * 1200 * 1100, PIXEL_BYTES * 30 * 20]


def test_an_image_that_is_damaged_leaves_the_budget_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_images", LRUCache(6))
    content = encoded(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8), "PNG")[:900]
    with pytest.raises(ImageError, match="damaged"):
        cache.read_input_image("damaged", "", "", partial(read_image, content))
    assert decoding._free == decoding.most
