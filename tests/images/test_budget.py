"""The decoding budget under threads."""

from __future__ import annotations

import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from swin_core.images import arrays, read
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


def test_what_is_kept_stays_counted_until_the_block_ends() -> None:
    """The last of several reservations, also in nested blocks; other threads hold nothing of it."""
    budget = ByteBudget(100)
    with budget.keep():
        with budget.keep(), budget.reserve(70):
            pass
        assert budget._free == 30
        with budget.reserve(60):  # waits for ever if the one before still counts
            assert budget._free == 40
        assert budget._free == 40
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(reserved, budget, 40).result() == 0
        assert budget._free == 40
        with pytest.raises(ZeroDivisionError), budget.reserve(50):
            raise ZeroDivisionError
        assert budget._free == 100
        with budget.reserve(10):
            pass
    assert budget._free == 100


def reserved(budget: ByteBudget, size: int) -> int:
    """Reserve bytes for a moment; return how many were free meanwhile."""
    with budget.reserve(size):
        return budget._free


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


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_plain_lossless_images_use_the_budget(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenCV decodes them; eight threads with PNGs of 7000 x 7000 pixels took 2.3 GB."""
    content = encoded(np.zeros((64, 64, 3), np.uint8), kind, lossless=True)
    budget = ByteBudget(PIXEL_BYTES * 64 * 64)
    monkeypatch.setattr(read, "decoding", budget)
    free: list[int] = []
    real = read.lossless_pixels

    def watched(content: bytes, size: tuple[int, int]) -> np.ndarray | None:
        free.append(budget._free)
        return real(content, size)

    monkeypatch.setattr(read, "lossless_pixels", watched)
    assert read.read_image(content).size == (64, 64)
    assert (free, budget._free) == ([0], budget.most)


def test_arrays_use_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both kinds need their bytes and a copy; the shape of an .npz is known only once it is inflated."""
    budget, sizes = ByteBudget(10**6), []
    real = budget.reserve
    monkeypatch.setattr(budget, "reserve", lambda size: (sizes.append(size), real(size))[1])
    monkeypatch.setattr(arrays, "decoding", budget)
    values = np.zeros((50, 40, 3), np.float32)
    for save in (np.save, np.savez_compressed):
        stream = io.BytesIO()
        save(stream, values)
        np.testing.assert_array_equal(arrays.read_array(stream.getvalue()), values)
    assert len(sizes) == 2
    assert min(sizes) >= values.nbytes
    assert sizes[1] >= 2 * values.nbytes
    assert budget._free == budget.most
