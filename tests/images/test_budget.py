"""The decoding budget under threads."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from swin_core.images import read
from swin_core.images.budget import PIXEL_BYTES, ByteBudget
from tests.fixtures.images import encoded


def test_tasks_stay_within_the_budget_and_all_run() -> None:
    budget, lock = ByteBudget(100), threading.Lock()
    held, most, done = 0, 0, 0

    def task(size: int) -> None:
        nonlocal held, most, done
        with budget.reserve(size):
            with lock:
                held += min(size, 100)
                most = max(most, held)
            time.sleep(0.002)
            with lock:
                held -= min(size, 100)
                done += 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(task, [30, 60, 100, 250, 1, 40] * 10))
    assert (done, held) == (60, 0)
    assert 60 < most <= 100


def test_an_error_frees_its_part() -> None:
    budget = ByteBudget(10)
    with pytest.raises(ZeroDivisionError), budget.reserve(10):
        raise ZeroDivisionError
    with budget.reserve(10):
        pass


def test_images_that_do_not_fit_together_are_decoded_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8), "PNG")
    monkeypatch.setattr(read, "decoding", ByteBudget(PIXEL_BYTES * 64 * 64))
    inside, most = 0, 0
    real = read.to_rgb

    def watched(*arguments: object) -> Image.Image:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.005)
        result = real(*arguments)  # type: ignore[arg-type]
        inside -= 1
        return result

    monkeypatch.setattr(read, "to_rgb", watched)
    with ThreadPoolExecutor(4) as pool:
        images = list(pool.map(lambda _: read.read_image(content), range(8)))
    assert most == 1
    assert all(image.size == (64, 64) for image in images)
