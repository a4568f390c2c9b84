"""Augmentations of batches against slow loops over single images."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Generator, Tensor
from torchvision.transforms.v2 import functional

from swin_core.training.augment import augment, colour_jitter, cutout, flip, padded_crop, random_erasing, resized_crop
from swin_core.training.config import TrainConfig
from swin_core.training.mixing import mix
from swin_core.training.randaugment import OPERATIONS, affine, matrices, rand_augment
from swin_core.training.random_draws import Draws, split_batch

CONFIG = TrainConfig(image_size=16, crop_padding=3, cutout=5)


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def draws(count: int = 40, seed: int = 0) -> Draws:
    return Draws((seed,), count)


def bytes_batch(count: int = 40, side: int = 16) -> Tensor:
    """Images in which no two places look alike, `(count, side, side, 3)`."""
    return torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8, generator=seeded(1))


def float_batch(count: int = 40, side: int = 16) -> Tensor:
    return torch.rand(count, 3, side, side, generator=seeded(1))


@pytest.mark.parametrize("padding", [1, 4, 15])
def test_padded_crop_is_a_slice_of_the_reflected_picture(padding: int) -> None:
    pictures = bytes_batch()
    cropped = padded_crop(pictures, padding, draws()).numpy()
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
    assert torch.equal(padded_crop(pictures, 0, draws()), pictures)


def test_flip_mirrors_about_half_of_the_pictures_and_leaves_the_rest() -> None:
    pictures = float_batch(400, 4)
    mirrored = 0
    for before, after in zip(pictures.numpy(), flip(pictures, draws(400)).numpy(), strict=True):
        if not np.array_equal(after, before):
            np.testing.assert_array_equal(after, before[:, :, ::-1])
            mirrored += 1
    assert 150 < mirrored < 250


@pytest.mark.parametrize("side", [1, 5, 16])
def test_cutout_blanks_exactly_one_square_with_the_picture_s_mean_colour(side: int) -> None:
    pictures = float_batch(200)
    corners = set()
    for before, after in zip(pictures.numpy(), cutout(pictures, side, draws(200)).numpy(), strict=True):
        rows, columns = np.nonzero((after != before).any(0))
        top, left = rows.min(), columns.min()
        corners.add((top, left))
        blanked = np.zeros((16, 16), dtype=bool)
        blanked[top : top + side, left : left + side] = True
        np.testing.assert_array_equal((after != before).any(0), blanked)
        mean = before.astype(np.float64).mean((1, 2))
        np.testing.assert_allclose(after[:, blanked], np.repeat(mean[:, None], side * side, 1), atol=1e-6)
    reached = {place for corner in corners for place in corner}
    assert {0, 16 - side} <= reached <= set(range(16 - side + 1))


def ramps(count: int, side: int) -> Tensor:
    """Images whose two channels tell the place of a pixel's centre, across and down, 0 to 1 from edge to edge."""
    places = (torch.arange(side) + 0.5) / side
    across, down = places.expand(side, side), places[:, None].expand(side, side)
    return torch.stack([across, down]).expand(count, 2, side, side)


def test_resized_crop_takes_a_rectangle_within_the_picture() -> None:
    count, side, size, smallest = 300, 64, 32, 0.3
    crops = resized_crop(ramps(count, side), size, smallest, draws(count)).double()
    shapes = []
    for crop in crops.numpy():
        edges = []
        for plane in (crop[0], crop[1].T):
            np.testing.assert_allclose(plane, plane[:1].repeat(size, 0), atol=1e-5)  # not turned
            inner = plane[0, 2:-2]  # beside the image's edge the outermost half pixel is reflected
            step = (inner[-1] - inner[0]) / (len(inner) - 1)
            np.testing.assert_allclose(np.diff(inner), step, atol=1e-5)
            start = inner[0] - 2.5 * step
            edges.append((start, start + size * step))
        for start, end in edges:
            assert -1e-4 < start < end < 1 + 1e-4
        shapes.append([end - start for start, end in edges])
    width, height = np.array(shapes).T
    whole = (width < 0.999) & (height < 0.999)  # neither side was cut to the image's
    assert (width * height)[whole].min() > smallest - 1e-3
    assert (width * height).max() < 1 + 1e-3
    assert (width / height).min() > 3 / 4 - 1e-3
    assert (width / height).max() < 4 / 3 + 1e-3
    assert (width * height).min() < smallest + 0.1
    assert whole.mean() > 0.5


def test_resized_crop_of_the_whole_picture_is_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    def middle(self: Draws, low: float, high: float, *shape: int) -> Tensor:
        return torch.full((40, *shape), (low + high) / 2)  # area 1, aspect 1, in the centre

    monkeypatch.setattr(Draws, "uniform", middle)
    pictures = float_batch()
    torch.testing.assert_close(resized_crop(pictures, 16, 1.0, draws()), pictures, atol=1e-5, rtol=0)


def test_colour_jitter_against_a_loop() -> None:
    pictures, strength = float_batch(), 0.4
    jittered = colour_jitter(pictures, strength, draws())
    factors = draws().uniform(1 - strength, 1 + strength, 3)
    for index, picture in enumerate(pictures.double().numpy()):
        brightness, contrast, saturation = factors[index].tolist()
        picture = picture * brightness
        picture = picture.mean() + contrast * (picture - picture.mean())
        grey = sum(picture[channel] for channel in range(3)) / 3
        expected = np.clip([grey + saturation * (plane - grey) for plane in picture], 0, 1)
        np.testing.assert_allclose(jittered[index].numpy(), expected, atol=1e-6)
    torch.testing.assert_close(colour_jitter(pictures, 0.0, draws()), pictures)


EVERYTHING = {"crop_scale": 0.5, "colour_jitter": 0.3, "randaugment": 7, "erasing": 0.5}


@pytest.mark.parametrize("changes", [{}, EVERYTHING])
def test_the_draws_alone_decide(changes: dict[str, float]) -> None:
    config = replace(CONFIG, **changes)
    batches = []
    for seed, other in ((0, 1), (0, 2), (5, 2)):
        torch.manual_seed(other)
        batches.append(augment(bytes_batch(side=18 if changes else 16), config, draws(seed=seed)))
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
        ({"crop_padding": 0, "flip": False, "cutout": 0, "randaugment": 5}, False),
        ({"crop_padding": 0, "flip": False, "cutout": 0, "erasing": 0.5}, False),
    ],
)
def test_each_setting_switches_its_step(changes: dict[str, float], same: bool) -> None:
    pictures = bytes_batch()
    plain = pictures.permute(0, 3, 1, 2).float() / 255
    assert torch.equal(augment(pictures, replace(CONFIG, **changes), draws()), plain) == same


def test_pictures_are_left_as_they_were() -> None:
    steps: list[Callable[[], Tensor]] = [
        lambda: augment(pictures, CONFIG, draws()),
        lambda: flip(planes, draws()),
        lambda: cutout(planes, 3, draws()),
        lambda: colour_jitter(planes, 0.5, draws()),
        lambda: resized_crop(planes, 8, 0.5, draws()),
        lambda: rand_augment(planes, 9, draws()),
        lambda: random_erasing(planes, 1.0, draws()),
        lambda: mix(planes, torch.arange(40), 0.8, 1.0, draws()),
    ]
    pictures, planes = bytes_batch(), float_batch()
    for step in steps:
        step()
    assert torch.equal(pictures, bytes_batch())
    assert torch.equal(planes, float_batch())


def test_erasing_replaces_one_rectangle_in_its_share_of_the_pictures() -> None:
    pictures = float_batch(400, 32)
    erased = random_erasing(pictures, 0.25, draws(400))
    touched = 0
    for before, after in zip(pictures.numpy(), erased.numpy(), strict=True):
        rows, columns = np.nonzero((after != before).any(0))
        if not len(rows):
            continue
        touched += 1
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert len(rows) == height * width  # all of the rectangle
        assert 0.01 < height * width / 32**2 < 0.4
        noise = after[:, rows, columns]
        assert 0 <= noise.min() <= noise.max() < 1
    assert 70 < touched < 130
    assert torch.equal(random_erasing(pictures, 0.0, draws(400)), pictures)


def same_in_parts(compute: Callable[[slice, Draws], list[Tensor]], count: int) -> None:
    """Assert that parts of a batch, computed alone, equal those of the batch computed at once."""
    whole = compute(slice(0, count), Draws((3, 1), count))
    for parts in (2, 3, 6):
        rows = split_batch(count, parts)
        assert [part.start % 2 for part in rows] == [0] * parts
        found = [compute(part, Draws((3, 1), count, part)) for part in rows]
        for number, one in enumerate(whole):
            assert torch.equal(torch.cat([each[number] for each in found]), one)


@pytest.mark.parametrize("count", [40, 41])
def test_a_batch_in_pieces_is_augmented_and_mixed_like_the_whole_one(count: int) -> None:
    pictures, labels = bytes_batch(count, 18), torch.arange(count)
    config = replace(CONFIG, **EVERYTHING)

    def compute(rows: slice, drawn: Draws) -> list[Tensor]:
        batch = augment(pictures[rows], config, drawn)
        mixed = mix(batch, labels[rows], 0.8, 1.0, drawn)
        return [mixed.images, mixed.partners, mixed.shares]

    same_in_parts(compute, count)


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.8, 0.0), (0.0, 1.0), (0.8, 1.0)])
def test_mixed_pictures_are_made_of_neighbours_in_their_shares(mixup: float, cutmix: float) -> None:
    count = 201
    pictures = torch.arange(count).float().view(-1, 1, 1, 1).expand(-1, 2, 10, 12).contiguous()
    mixed = mix(pictures, torch.arange(count) + 1000, mixup, cutmix, draws(count))
    blended = pasted = 0
    for index, picture in enumerate(mixed.images.double().numpy()):
        neighbour = index ^ 1 if index ^ 1 < count else index
        assert int(mixed.partners[index]) == neighbour + 1000
        share = float(mixed.shares[index])
        # Each pixel tells which image it comes from, so that the mean tells the share.
        if neighbour != index:
            assert (picture.mean() - neighbour) / (index - neighbour) == pytest.approx(share, abs=1e-4)
        assert (picture[0] == picture[1]).all()
        values = set(np.unique(picture.round(4)))
        if values <= {index, neighbour}:
            rows, columns = np.nonzero(picture[0] == neighbour)
            pasted += len(values) == 2
            if len(rows):
                assert len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        else:
            blended += 1
    assert (blended > 50) == (mixup > 0)
    assert (pasted > 40) == (cutmix > 0)
    shares = mixed.shares[: count - 1]
    assert torch.allclose(shares[::2] if not cutmix else shares[:0], shares[1::2] if not cutmix else shares[:0])


def test_beta_numbers_have_the_distribution_s_moments() -> None:
    drawn = Draws((0,), 40_000).beta(0.8)[::2].double()
    assert float(drawn.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(drawn.var()) == pytest.approx(1 / (4 * (2 * 0.8 + 1)), abs=0.003)


STRENGTHS = {"brightness": 0.9, "colour": 0.9, "contrast": 0.9, "sharpness": 0.9}
TORCHVISION: dict[str, Callable[[Tensor, float], Tensor]] = {
    "brightness": lambda picture, amount: functional.adjust_brightness(picture, 1 + amount),
    "colour": lambda picture, amount: functional.adjust_saturation(picture, 1 + amount),
    "contrast": lambda picture, amount: functional.adjust_contrast(picture, 1 + amount),
    "sharpness": lambda picture, amount: functional.adjust_sharpness(picture, 1 + amount),
    "posterize": lambda picture, amount: functional.posterize(picture, 8 - round(4 * abs(amount))),
    "solarize": lambda picture, amount: functional.solarize(picture, 1 - abs(amount)),
    "autocontrast": lambda picture, amount: functional.autocontrast(picture),
    "equalize": lambda picture, amount: functional.equalize(picture),
}


@pytest.mark.parametrize("name", list(OPERATIONS))
def test_changes_of_colour_are_torchvision_s(name: str) -> None:
    pictures = bytes_batch(12, 20).permute(0, 3, 1, 2).float() / 255
    pictures[3] = 64 / 255  # of one value
    pictures[4, :, :10] = 128 / 255  # half of it of one value
    amount = torch.linspace(-1, 1, 12) * STRENGTHS.get(name, 1.0)
    changed = OPERATIONS[name](pictures, amount)
    for picture, strength, found in zip(pictures, amount.tolist(), changed, strict=True):
        torch.testing.assert_close(found, TORCHVISION[name](picture, strength), atol=2e-6, rtol=0)


def test_geometric_changes_are_torchvision_s() -> None:
    pictures, side = float_batch(5, 32), 32
    amounts = torch.tensor([0.5, -0.8, 0.3, -0.4, 0.7])
    found = affine(pictures, matrices(torch.arange(5), amounts, side, side))
    shift = 150 / 331 * side
    expected = [
        {"shear": [math.degrees(math.atan(0.3 * 0.5)), 0.0]},
        {"shear": [0.0, -math.degrees(math.atan(0.3 * 0.8))]},
        {"translate": [-0.3 * shift, 0]},
        {"translate": [0, 0.4 * shift]},
        {"angle": 0.7 * 30},
    ]
    for picture, options, moved in zip(pictures, expected, found, strict=True):
        plain = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}
        same = functional.affine(
            picture, **(plain | options), interpolation=functional.InterpolationMode.BILINEAR, center=None
        )
        torch.testing.assert_close(moved, same, atol=1e-4, rtol=0)


def test_randaugment_makes_two_changes_of_its_magnitude_at_most() -> None:
    pictures = float_batch(300, 12)
    weak, strong = (rand_augment(pictures, magnitude, draws(300)) for magnitude in (1, 10))
    assert 0 <= min(weak.min(), strong.min()) <= max(weak.max(), strong.max()) <= 1
    untouched = [(changed == pictures).flatten(1).all(1).float().mean() for changed in (weak, strong)]
    assert all(share < 0.15 for share in untouched)
    assert (weak - pictures).abs().mean() < (strong - pictures).abs().mean()
