"""The caches of the dashboard: how many models they keep, and which thread explains."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

import swin_core
from dashboard.shared import cache
from swin_core.system.cache import LRUCache


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


def test_one_thread_explains_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    by: list[int] = []

    def explain(*_given: object, **_named: object) -> str:
        by.append(threading.get_ident())
        return "explained"

    model = swin_core.Classifier(_two_classes(), ("a", "b"), (0.5,) * 3, (0.5,) * 3, 32, name="any")
    monkeypatch.setattr(swin_core, "load", lambda _name: model)
    monkeypatch.setattr(swin_core, "explain", explain)
    monkeypatch.setattr(cache, "_classifiers", LRUCache(6))
    monkeypatch.setattr(cache, "_explanations", LRUCache(6))
    image = Image.new("RGB", (32, 32))

    def ask(number: int) -> None:
        picture = cache.InputImage(number, "", image, np.asarray(image))
        assert cache.explanation(cache.Request("timm/any", picture, (0,), "gradcam", None)) == "explained"

    with ThreadPoolExecutor(4) as pool:
        asking = set(pool.map(lambda number: (ask(number), threading.get_ident())[1], range(16)))
    assert len(by) == 16
    assert len(set(by)) == 1
    assert not asking & set(by)


def test_narrow_images_are_kept_by_their_bytes() -> None:
    """Sixteen images of 1000 x 48,000 pixels took 2.3 GB."""
    wide = 1000, 12_000  # 36 MB
    for number in range(12):
        cache.read_input_image(("narrow", number), "narrow", "", lambda: Image.new("RGB", wide))
    kept = [number for number in range(12) if cache._images.peek(("narrow", number))]
    assert kept[-1] == 11
    assert sum(3 * wide[0] * wide[1] for _ in kept) <= 256 * 2**20
    cache._images.drop(lambda key: key[0] == "narrow")
