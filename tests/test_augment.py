"""Augmentations of batches against slow loops over single pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from swin_core.training.augment import augment, colour_jitter, cutout, flip, padded_crop, resized_crop
from swin_core.training.config import TrainConfig

CONFIG = TrainConfig(image_size=16, crop_padding=3, cutout=5)


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def bytes_batch(count: int = 40, side: int = 16) -> Tensor:
    """Pictures in which no two places look alike, `(count, side, side, 3)`."""
    return torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8, generator=seeded(1))


def float_batch(count: int = 40, side: int = 16) -> Tensor:
    return torch.rand(count, 3, side, side, generator=seeded(1))


@pytest.mark.parametrize("padding", [1, 4, 15])
def test_padded_crop_is_a_slice_of_the_reflected_picture(padding: int) -> None:
    pictures = bytes_batch()
    cropped = padded_crop(pictures, padding, seeded()).numpy()
    places = set()
    for picture, crop in zip(pictures.numpy(), cropped, strict=True):
        padded = np.pad(picture, ((padding, padding), (padding, padding), (0, 0)), mode="reflect")
        found = [
            (top, left)
            for top in range(2 * padding + 1)
            for left in range(2 * padding + 1)
            if np.array_equal(crop, padded[top : top + 16, left : left + 16])
        ]
        assert found
        places.update(found)
    tops, lefts = ({place[axis] for place in places} for axis in range(2))
    if padding == 1:
        assert tops == lefts == {0, 1, 2}  # both borders are reached
    assert len(tops) > 2
    assert len(lefts) > 2


def test_no_padding_is_no_crop() -> None:
    pictures = bytes_batch()
    assert torch.equal(padded_crop(pictures, 0, seeded()), pictures)


def test_flip_mirrors_about_half_of_the_pictures_and_leaves_the_rest() -> None:
    pictures = float_batch(400, 4)
    mirrored = 0
    for before, after in zip(pictures.numpy(), flip(pictures, seeded()).numpy(), strict=True):
        if not np.array_equal(after, before):
            np.testing.assert_array_equal(after, before[:, :, ::-1])
            mirrored += 1
    assert 150 < mirrored < 250


@pytest.mark.parametrize("side", [1, 5, 16])
def test_cutout_blanks_exactly_one_square_with_the_mean_colour(side: int) -> None:
    pictures = float_batch(200)
    mean = pictures.double().mean((0, 2, 3)).numpy()
    corners = set()
    for before, after in zip(pictures.numpy(), cutout(pictures, side, seeded()).numpy(), strict=True):
        rows, columns = np.nonzero((after != before).any(0))
        top, left = rows.min(), columns.min()
        corners.add((top, left))
        blanked = np.zeros((16, 16), dtype=bool)
        blanked[top : top + side, left : left + side] = True
        np.testing.assert_array_equal((after != before).any(0), blanked)
        np.testing.assert_allclose(after[:, blanked], np.repeat(mean[:, None], side * side, 1), atol=1e-6)
    reached = {place for corner in corners for place in corner}
    assert {0, 16 - side} <= reached <= set(range(16 - side + 1))


def ramps(count: int, side: int) -> Tensor:
    """Pictures whose two channels tell the place of a pixel's centre, across and down, 0 to 1 from edge to edge."""
    places = (torch.arange(side) + 0.5) / side
    across, down = places.expand(side, side), places[:, None].expand(side, side)
    return torch.stack([across, down]).expand(count, 2, side, side)


def test_resized_crop_takes_a_rectangle_within_the_picture() -> None:
    count, side, size, smallest = 300, 64, 32, 0.3
    crops = resized_crop(ramps(count, side), size, smallest, seeded()).double()
    shapes = []
    for crop in crops.numpy():
        edges = []
        for plane in (crop[0], crop[1].T):
            np.testing.assert_allclose(plane, plane[:1].repeat(size, 0), atol=1e-5)  # not turned
            inner = plane[0, 2:-2]  # beside the picture's edge the outermost half pixel is reflected
            step = (inner[-1] - inner[0]) / (len(inner) - 1)
            np.testing.assert_allclose(np.diff(inner), step, atol=1e-5)
            start = inner[0] - 2.5 * step
            edges.append((start, start + size * step))
        for start, end in edges:
            assert -1e-4 < start < end < 1 + 1e-4
        shapes.append([end - start for start, end in edges])
    width, height = np.array(shapes).T
    whole = (width < 0.999) & (height < 0.999)  # neither side was cut to the picture's
    assert (width * height)[whole].min() > smallest - 1e-3
    assert (width * height).max() < 1 + 1e-3
    assert (width / height).min() > 3 / 4 - 1e-3
    assert (width / height).max() < 4 / 3 + 1e-3
    assert (width * height).min() < smallest + 0.1
    assert whole.mean() > 0.5


def test_resized_crop_of_the_whole_picture_is_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    def middle(self: Tensor, low: float, high: float, **_options: object) -> Tensor:
        return self.fill_((low + high) / 2)  # area 1, aspect 1, in the centre

    monkeypatch.setattr(Tensor, "uniform_", middle)
    pictures = float_batch()
    torch.testing.assert_close(resized_crop(pictures, 16, 1.0, seeded()), pictures, atol=1e-5, rtol=0)


def test_colour_jitter_against_a_loop() -> None:
    pictures, strength = float_batch(), 0.4
    jittered = colour_jitter(pictures, strength, seeded())
    factors = torch.empty(3, len(pictures)).uniform_(1 - strength, 1 + strength, generator=seeded())
    for index, picture in enumerate(pictures.double().numpy()):
        brightness, contrast, saturation = factors[:, index].tolist()
        picture = picture * brightness
        picture = picture.mean() + contrast * (picture - picture.mean())
        grey = sum(picture[channel] for channel in range(3)) / 3
        expected = np.clip([grey + saturation * (plane - grey) for plane in picture], 0, 1)
        np.testing.assert_allclose(jittered[index].numpy(), expected, atol=1e-6)
    torch.testing.assert_close(colour_jitter(pictures, 0.0, seeded()), pictures)


@pytest.mark.parametrize("changes", [{}, {"crop_scale": 0.5, "colour_jitter": 0.3, "cutout": 0}])
def test_the_generator_alone_decides(changes: dict[str, float]) -> None:
    config = replace(CONFIG, **changes)
    batches = []
    for seed, other in ((0, 1), (0, 2), (5, 2)):
        torch.manual_seed(other)
        batches.append(augment(bytes_batch(side=18 if changes else 16), config, seeded(seed)))
    assert batches[0].shape == (40, 3, 16, 16)
    assert batches[0].dtype == torch.float32
    assert 0 <= batches[0].min() <= batches[0].max() <= 1
    assert torch.equal(batches[0], batches[1])
    assert not torch.equal(batches[0], batches[2])


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"crop_padding": 0, "flip": False, "cutout": 0}, True),
        ({"flip": False, "cutout": 0}, False),
        ({"crop_padding": 0, "cutout": 0}, False),
        ({"crop_padding": 0, "flip": False}, False),
        ({"crop_padding": 0, "flip": False, "cutout": 0, "colour_jitter": 0.5}, False),
        ({"crop_padding": 0, "flip": False, "cutout": 0, "crop_scale": 0.5}, False),
    ],
)
def test_each_setting_switches_its_step(changes: dict[str, float], same: bool) -> None:
    pictures = bytes_batch()
    plain = pictures.permute(0, 3, 1, 2).float() / 255
    assert torch.equal(augment(pictures, replace(CONFIG, **changes), seeded()), plain) == same


def test_pictures_are_left_as_they_were() -> None:
    steps: list[Callable[[], Tensor]] = [
        lambda: augment(pictures, CONFIG, seeded()),
        lambda: flip(planes, seeded()),
        lambda: cutout(planes, 3, seeded()),
        lambda: colour_jitter(planes, 0.5, seeded()),
        lambda: resized_crop(planes, 8, 0.5, seeded()),
    ]
    pictures, planes = bytes_batch(), float_batch()
    for step in steps:
        step()
    assert torch.equal(pictures, bytes_batch())
    assert torch.equal(planes, float_batch())
