"""The mean map of a class: equal to a slow loop over single images, and right about a planted border."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import swin_core
from swin_core.comparisons.class_mean import BORDER_AREA, border_share, class_mean, hot_spot, mean_map
from swin_core.data.dataset import DataSet
from swin_core.errors import ConfigError, DataError, LayerError, TargetError

pytestmark = pytest.mark.usefixtures("one_thread")

CLASSES = ("rose", "tulips", "spoon", "nothing")


@pytest.fixture
def flowers() -> DataSet:
    """Random images of several sizes: 23 roses, 5 tulips, one spoon, nothing of the last class."""
    draw = np.random.default_rng(0)
    labels = np.array([0] * 23 + [1] * 5 + [2])
    pictures = [draw.integers(0, 256, (40 + n, 50, 3), dtype=np.uint8) for n in range(len(labels))]
    names = tuple(map(str, range(len(labels))))
    return DataSet("made_up", "test", CLASSES, labels, names, pictures, lambda source, size: Image.fromarray(source))


def test_mean_and_spread_are_those_of_single_explanations(
    small_classifier: swin_core.Classifier, flowers: DataSet
) -> None:
    ticks: list[tuple[int, int]] = []
    found = class_mean(small_classifier, flowers, "rose", progress=lambda *done: ticks.append(done))
    pictures = [flowers.image(index) for index in range(23)]
    maps = [swin_core.explain(small_classifier, picture, "roses").maps[0, 0].astype(float) for picture in pictures]
    scaled = np.stack([one / one.mean() for one in maps if one.any()])
    np.testing.assert_allclose(found.mean, scaled.mean(0), rtol=1e-4)
    np.testing.assert_allclose(found.spread, scaled.std(0), rtol=1e-3, atol=1e-5)
    views = np.stack([small_classifier.view(picture).astype(float) for picture in pictures])
    np.testing.assert_allclose(found.image, views.mean(0), atol=0.5)
    assert (found.label, found.count, found.empty) == ("roses", 23, 23 - len(scaled))
    assert ticks == [(16, 23), (23, 23)]
    assert found.mean.mean() == pytest.approx(1, rel=1e-5)


def test_of_many_images_some_are_drawn_by_the_seed(small_classifier: swin_core.Classifier, flowers: DataSet) -> None:
    first, again, other = (class_mean(small_classifier, flowers, "rose", 4, seed=seed) for seed in (0, 0, 1))
    assert first.count == 4
    np.testing.assert_array_equal(first.mean, again.mean)
    assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize("shape", [(7, 7), (16, 12), (224, 224), (1, 1), (3, 8)])
def test_an_even_map_has_the_borders_own_area_there(shape: tuple[int, int]) -> None:
    assert border_share(np.full(shape, 3, np.float32)) == pytest.approx(BORDER_AREA)


def test_border_share_counts_what_lies_there() -> None:
    attribution = np.zeros((16, 16), np.float32)
    attribution[8, 8] = 1
    assert border_share(attribution) == 0
    attribution[0, 5] = 3  # in the outer eighth: two of sixteen rows
    assert border_share(attribution) == pytest.approx(0.75)
    coarse = np.zeros((4, 4), np.float32)
    coarse[1, 1], coarse[0, 1] = 1, 1  # the border takes half of the first row of cells
    assert border_share(coarse) == pytest.approx(0.25)


class Corner(nn.Module):
    """Its only class is the brightness of the upper left corner."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 1, 1, bias=False)
        nn.init.ones_(self.layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.layer(x)
        weight = torch.zeros_like(seen)
        weight[:, :, :2, :2] = 1
        score = (seen * weight).sum((1, 2, 3))
        return torch.stack([score, -score, 0 * score], 1)


def corner() -> swin_core.Classifier:
    return swin_core.Classifier(Corner(), ("rose", "tulip", "spoon"), (0.0,) * 3, (1.0,) * 3, 16, name="corner")


def test_a_model_that_reads_a_corner_is_found_out(flowers: DataSet) -> None:
    found = class_mean(corner(), flowers, "rose", method="hirescam", layer="layer")
    assert found.border == pytest.approx(1)
    assert found.mean[:2, :2].mean() == pytest.approx(16 * 16 / 4, rel=1e-5)
    assert not found.mean[2:].any()
    assert not found.mean[:, 2:].any()


def test_maps_that_are_all_empty_are_refused(flowers: DataSet) -> None:
    with pytest.raises(LayerError, match="all 1 maps of 'spoon' are empty"):
        class_mean(corner(), flowers, "spoon", method="hirescam", layer="layer")


@pytest.mark.parametrize(
    ("ask", "error"),
    [
        (lambda model, data: class_mean(model, data, "rose", 0), ConfigError),
        (lambda model, data: class_mean(model, data, "lion"), DataError),
        (lambda model, data: class_mean(model, data, "nothing"), DataError),
        (lambda model, data: class_mean(model, data, "spoon"), TargetError),
        (lambda model, data: class_mean(model, data, "rose", layer="no_layer"), LayerError),
    ],
)
def test_faults_are_one_line(
    small_classifier: swin_core.Classifier,
    flowers: DataSet,
    ask: Callable[[swin_core.Classifier, DataSet], object],
    error: type[Exception],
) -> None:
    with pytest.raises(error) as raised:
        ask(small_classifier, flowers)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("side", [1, 3, 7, 8, 14, 56])
def test_the_hot_spot_is_found_by_a_slow_loop(side: int) -> None:
    draw = np.random.default_rng(side)
    for _ in range(5):
        values = draw.random((side, side)).astype(np.float32) ** 3
        parts = min(side, 8)
        # Each cell cut into parts x parts pieces, so that every edge of a part lies between two pieces.
        pieces = np.kron(values.astype(np.float64), np.ones((parts, parts)))
        blocks = [
            pieces[row * side : (row + 1) * side, column * side : (column + 1) * side].mean()
            for row in range(parts)
            for column in range(parts)
        ]
        found = hot_spot(values)
        assert found.times == pytest.approx(max(blocks) / np.mean(blocks))
        row, column = divmod(int(np.argmax(blocks)), parts)
        third = [int((number + 0.5) / parts * 3) for number in (row, column)]
        assert found.place == PLACES[third[0]][third[1]]


PLACES = (
    ("upper left corner", "upper edge", "upper right corner"),
    ("left edge", "middle", "right edge"),
    ("lower left corner", "lower edge", "lower right corner"),
)


def test_the_hot_spot_in_words() -> None:
    values = np.full((8, 8), 0.8)
    values[7, 7] = 0.8 * 16.4  # 16.4 / (79.4 / 64)
    assert str(hot_spot(values)) == "13 times an even share, lower right corner"
    assert str(hot_spot(np.ones((7, 7)))) == "1.0 times an even share, upper left corner"


def test_images_that_cannot_be_read_are_left_out(small_classifier: swin_core.Classifier) -> None:
    draw = np.random.default_rng(0)
    images = [Image.fromarray(draw.integers(0, 256, (64, 64, 3), dtype=np.uint8)) for _ in range(4)]

    def read(row: int) -> Image.Image:
        if row == 2:
            raise DataError("cut short")
        return images[row]

    found = mean_map(small_classifier, read, np.arange(4), 1)
    without = mean_map(small_classifier, images.__getitem__, np.array([0, 1, 3]), 1)
    assert (found.count, found.unreadable) == (3, 1)
    np.testing.assert_allclose(found.mean, without.mean, rtol=1e-5)
    with pytest.raises(DataError, match="none of the 1 images can be read"):
        mean_map(small_classifier, read, np.array([2]), 1)
