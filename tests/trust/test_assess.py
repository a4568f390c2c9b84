"""Trust: a planted object whose right map is known wins by every measure, and what knows nothing is not believed."""

from __future__ import annotations

import dataclasses
import threading

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import swin_core
from swin_core.errors import ConfigError, TargetError
from swin_core.trust.assess import RANDOM_MAPS, assess
from swin_core.trust.baselines import centred_gaussian
from swin_core.trust.mosaics import focus
from swin_core.zoo.classifier import Classifier

pytestmark = pytest.mark.usefixtures("one_thread")

SIDE = 32


class RedPatch(nn.Module):
    """Says "red" the surer the more of the image is red and not green or blue."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.4))

    def forward(self, x: Tensor) -> Tensor:
        assert len(x) > 0  # as some models do
        redness = (x[:, 0] - x[:, 1].relu() - x[:, 2].relu() - 0.5).relu()  # blurred, nothing is red enough
        score = self.gain * (redness.sum((1, 2)) - 15)
        return torch.stack([score, -score], 1)


@pytest.fixture
def red() -> Classifier:
    return Classifier(RedPatch(), ["red", "not red"], (0.5,) * 3, (0.5,) * 3, SIDE, name="red patch")


@pytest.fixture
def scene() -> np.ndarray:
    """Grey noise with a red square of 8 pixels in the upper left."""
    view = np.random.default_rng(0).integers(100, 156, (SIDE, SIDE, 3)).astype(np.uint8)
    view[3:11, 4:12] = (250, 20, 20)
    return view


def right_map(grid: int = SIDE) -> np.ndarray:
    found = np.zeros((SIDE, SIDE), np.float32)
    found[3:11, 4:12] = 1
    return found.reshape(grid, SIDE // grid, grid, SIDE // grid).mean((1, 3))


@pytest.mark.parametrize("grid", [32, 16, 8])
def test_the_planted_object_wins_by_every_measure(red: Classifier, scene: np.ndarray, grid: int) -> None:
    (found,) = assess(red, scene, right_map(grid), 0)
    for other in (found.random, found.centred):
        assert found.srg > other.srg + 0.1
        assert found.deletion.area < other.deletion.area - 0.1
        assert found.insertion.area > other.insertion.area + 0.1
        assert found.retention.area > other.retention.area + 0.1
        assert found.road > other.road + 0.1
    assert found.better
    assert found.srg > found.chance
    assert "'red' more than" in found.sentence
    cells = np.array([[True, False], [False, False]])
    blob = centred_gaussian((SIDE, SIDE)).numpy()
    assert focus(right_map(grid), cells) > focus(blob, cells) + 0.5  # type: ignore[operator]


def test_wrong_maps_are_not_believed(red: Classifier, scene: np.ndarray) -> None:
    blob = centred_gaussian((SIDE, SIDE)).numpy()
    maps = np.stack([1 - right_map(), blob, np.zeros((SIDE, SIDE), np.float32), np.roll(right_map(), 16, 1)])
    found = assess(red, scene, maps, 0)
    assert [one.better for one in found] == [False] * 4
    assert found[1].srg == pytest.approx(found[1].centred.srg)
    assert found[2].srg == 0
    assert "no more than" in found[0].sentence


def test_better_than_chance_but_not_than_the_middle(red: Classifier) -> None:
    view = np.random.default_rng(0).integers(100, 156, (SIDE, SIDE, 3)).astype(np.uint8)
    view[12:20, 12:20] = (250, 20, 20)  # where a guess would be right
    near = np.zeros((SIDE, SIDE), np.float32)
    near[8:24, 8:20] = 1
    (found,) = assess(red, view, near, 0)
    assert found.chance < found.srg < found.centred.srg
    assert not found.better
    assert "no better than guessing the centre" in found.sentence


def test_one_view_of_many_maps_equals_many_views(red: Classifier, scene: np.ndarray) -> None:
    maps = np.random.default_rng(1).random((3, 8, 8), np.float32)
    once = assess(red, scene, maps, [0, 1, 0], steps=5)
    thrice = assess(red, np.stack([scene] * 3), torch.from_numpy(maps), [0, 1, 0], steps=5)
    assert once == thrice
    assert [one.target for one in once] == [0, 1, 0]
    alone = assess(red, scene, maps[0], 0, steps=5)[0]
    # The random maps of the first of three are those of one alone, and all its figures too.
    assert alone.srg == pytest.approx(once[0].srg)
    assert alone.random.srg == pytest.approx(once[0].random.srg)


def test_curves_hold_together(red: Classifier, scene: np.ndarray) -> None:
    (found,) = assess(red, scene, right_map(8), 0, steps=4)
    for measures in (found, found.random, found.centred):
        assert measures.deletion.shares == (0, 0.25, 0.5, 0.75, 1)
        assert measures.deletion.probabilities[0] == pytest.approx(measures.insertion.probabilities[-1])
        assert measures.deletion.probabilities[-1] == pytest.approx(measures.retention.probabilities[-1])
        assert measures.srg == pytest.approx(measures.retention.area - measures.deletion.area)
        for curve in (measures.deletion, measures.retention, measures.insertion):
            assert curve.area == pytest.approx(np.trapezoid(curve.probabilities, curve.shares))


def test_progress_ends_at_its_end(red: Classifier, scene: np.ndarray) -> None:
    seen: list[tuple[int, int]] = []
    assess(red, scene, np.ones((2, 4, 4), np.float32), 0, steps=4, progress=lambda *pair: seen.append(pair))
    (total,) = {count for _, count in seen}
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (total, total)
    # Two maps, each with the blob and the random maps: three curves of three inner points, and ROAD at five shares.
    assert total == 2 * (2 + RANDOM_MAPS) * (3 * 3 + 2 * 5) + 3


def test_threads_at_once_and_nothing_left_behind() -> None:
    model = swin_core.build("swin_nano", num_classes=4, image_size=32).train()
    small = Classifier(model, ["a", "b", "c", "d"], (0.5,) * 3, (0.5,) * 3, SIDE)
    views = np.random.default_rng(0).integers(0, 256, (4, SIDE, SIDE, 3)).astype(np.uint8)
    maps = np.random.default_rng(0).random((4, 4, 4), np.float32)
    expected = [assess(small, views[n], maps[n], n, steps=2)[0] for n in range(4)]
    found: dict[int, object] = {}

    def run(n: int) -> None:
        found[n] = assess(small, views[n], maps[n], n, steps=2)[0]

    threads = [threading.Thread(target=run, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[n] for n in range(4)] == expected
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_what_does_not_fit_is_refused(red: Classifier, scene: np.ndarray) -> None:
    for target in (2, -1):
        with pytest.raises(TargetError, match="outside the model's 2 classes"):
            assess(red, scene, right_map(), target)
    nan = right_map()
    nan[0, 0] = np.nan
    with pytest.raises(ConfigError, match="not finite"):
        assess(red, scene, nan, 0)
    for views, maps, targets in (
        (np.stack([scene] * 2), np.ones((3, 4, 4)), 0),
        (scene, np.ones((3, 4, 4)), [0, 1]),
        (scene, np.ones((0, 4, 4)), []),
        (scene, np.ones(4), 0),
    ):
        with pytest.raises(ConfigError, match="do not fit"):
            assess(red, views, maps, targets)
    for steps in (1, 0, -3):
        with pytest.raises(ConfigError, match=f"at least 2 steps, not {steps}"):
            assess(red, scene, right_map(), 0, steps=steps)


@pytest.mark.parametrize("side", [1, 2, 3])
@pytest.mark.parametrize("steps", [2, 3, 1000])
def test_curves_of_few_points_and_pixels(side: int, steps: int) -> None:
    """More steps than pixels are a step a pixel, and one pixel has no order, so that nothing is to be gained."""
    few = Classifier(RedPatch(), ["red", "not red"], (0.5,) * 3, (0.5,) * 3, side)
    view = np.random.default_rng(0).integers(0, 256, (side, side, 3)).astype(np.uint8)
    seen: list[tuple[int, int]] = []
    (found,) = assess(
        few, view, np.random.default_rng(1).random((2, 2)), 0, steps=steps, progress=lambda *pair: seen.append(pair)
    )
    pixels = side**2
    step = -(-pixels // steps)
    assert found.deletion.shares == pytest.approx([*np.arange(0, pixels, step) / pixels, 1])
    assert seen[-1][0] == seen[-1][1]
    assert len(found.deletion.probabilities) == len(found.deletion.shares)
    if side == 1:
        assert (found.srg, found.road, found.better) == (0, 0, False)


def test_a_constant_image_has_a_verdict(red: Classifier) -> None:
    (found,) = assess(red, np.full((SIDE, SIDE, 3), 128, np.uint8), right_map(), 1, steps=3)
    assert not found.better
    assert all(np.isfinite(value) for value in dataclasses.astuple(found.deletion)[1])
