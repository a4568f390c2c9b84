"""Occlusion and RISE against captum and slow loops; replaced regions against their definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import Occlusion
from PIL import Image
from torch import Tensor, nn

import swin_core
from swin_core.attribution.dispatch import attribute
from swin_core.attribution.occlusion import FILLS, fill_regions, replace_region, rise_masks
from swin_core.errors import ConfigError
from swin_core.images.inpainting import blur, inpaint

pytestmark = pytest.mark.usefixtures("one_thread")


class Corner(nn.Module):
    """Class 1 depends on the top left quarter of the image only, class 0 on nothing."""

    def forward(self, x: Tensor) -> Tensor:
        corner = x[:, :, : x.shape[2] // 2, : x.shape[3] // 2].mean((1, 2, 3))
        return torch.stack([torch.zeros_like(corner), 4 * corner], 1)


@pytest.fixture
def corner() -> swin_core.Classifier:
    return swin_core.Classifier(Corner(), ("nothing", "corner"), (0.0,) * 3, (1.0,) * 3, 28)


@pytest.fixture
def tiny() -> swin_core.Classifier:
    torch.manual_seed(0)
    model = swin_core.build("swin_nano", num_classes=3, embed_dim=24, depths=(2, 2), num_heads=(2, 4))
    return swin_core.Classifier(model, "abc", (0.5,) * 3, (0.5,) * 3, 32)


def photo(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize("name", ["corner", "tiny"])
def test_sliding_occlusion_equals_captum(name: str, request: pytest.FixtureRequest) -> None:
    classifier = request.getfixturevalue(name)
    x = classifier.tensor(classifier.view(photo(50, 40)))
    side = round(classifier.image_size / 7)
    expected = Occlusion(classifier.model.eval()).attribute(
        x, sliding_window_shapes=(3, side, side), strides=(3, side // 2, side // 2), target=1
    )
    found = attribute(classifier, x, torch.tensor([1]), "occlusion", signed=True)
    torch.testing.assert_close(found[0, 0], expected[0, 0].float(), atol=1e-5, rtol=1e-4)


def test_rise_equals_a_slow_loop(tiny: swin_core.Classifier, few_masks: int) -> None:
    x = tiny.tensor(tiny.view(photo(40, 40)))
    masks = rise_masks(few_masks, (32, 32))(torch.arange(few_masks))
    expected = np.zeros((32, 32))
    with torch.no_grad():
        for mask in masks:
            expected += float(tiny.model.eval()(x * mask).softmax(1)[0, 2]) * mask.double().numpy()
    found = attribute(tiny, x, torch.tensor([2]), "rise")[0, 0]
    assert found.numpy() == pytest.approx(expected / masks.double().sum(0).numpy(), abs=1e-5)


def test_rise_masks_are_half_covered_and_follow_the_seed() -> None:
    masks = rise_masks(400, (30, 44))(torch.arange(400))
    assert masks.shape == (400, 30, 44)
    assert masks.min() >= 0
    assert masks.max() <= 1 + 1e-6  # rounding of the enlargement
    assert float(masks.mean()) == pytest.approx(0.5, abs=0.01)
    assert torch.equal(rise_masks(400, (30, 44))(torch.tensor([7, 3])), masks[[7, 3]])
    assert not torch.equal(rise_masks(400, (30, 44), seed=1)(torch.arange(400)), masks)


@pytest.mark.parametrize("method", ["occlusion", "rise"])
def test_the_part_that_decides_stands_out(corner: swin_core.Classifier, method: str) -> None:
    x = corner.tensor(np.full((28, 28, 3), 255, np.uint8))
    found = attribute(corner, x, torch.tensor([1]), method)[0, 0]
    inside, outside = found[:12, :12], found[18:, 18:]
    assert inside.min() > outside.max()
    if method == "occlusion":
        assert outside.abs().max() == 0


@pytest.mark.parametrize("fill", FILLS)
def test_only_the_region_changes(fill: str) -> None:
    images = torch.rand(2, 3, 12, 16)
    masks = torch.zeros(2, 12, 16, dtype=torch.bool)
    masks[0, 2:7, 3:9] = True
    masks[1, :, 10:] = True
    found = fill_regions(images, masks, fill)
    outside = ~masks[:, None].expand_as(images)
    assert torch.equal(found[outside], images[outside])
    assert not torch.equal(found, images)
    for number in range(2):  # a batch fills like its images one by one
        alone = fill_regions(images[number : number + 1], masks[number : number + 1], fill)
        torch.testing.assert_close(alone[0], found[number])


def test_fills_are_what_they_say() -> None:
    images, masks = torch.rand(1, 3, 60, 60, dtype=torch.float64), torch.zeros(1, 60, 60, dtype=torch.bool)
    masks[0, 10:50, 5:55] = True
    known = images[0][:, ~masks[0]]
    inside = {fill: fill_regions(images, masks, fill)[0][:, masks[0]] for fill in FILLS}
    assert torch.equal(inside["blur"], blur(images)[0][:, masks[0]])
    assert torch.equal(inside["neighbours"], inpaint(images, masks)[0][:, masks[0]])
    torch.testing.assert_close(inside["mean"], known.mean(1, keepdim=True).expand(-1, 2000))
    torch.testing.assert_close(inside["noise"].mean(1), known.mean(1), atol=0.03, rtol=0)
    torch.testing.assert_close(inside["noise"].std(1), known.std(1), atol=0.03, rtol=0)


def test_an_image_without_known_pixels_is_filled_with_its_mean() -> None:
    images, masks = torch.rand(1, 3, 8, 8), torch.ones(1, 8, 8, dtype=torch.bool)
    torch.testing.assert_close(
        fill_regions(images, masks, "mean"), images.mean((2, 3), keepdim=True).expand(1, 3, 8, 8)
    )


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("size", [(40, 30), (900, 1200)])
def test_replace_region_keeps_the_rest_of_a_photo(fill: str, size: tuple[int, int]) -> None:
    image = photo(*size)
    mask = np.zeros((3, 4), np.uint8)
    mask[1, 2] = 1  # stretched to the image
    before, after = np.asarray(image), np.asarray(replace_region(image, mask, fill))
    inside = np.zeros(before.shape[:2], bool)
    inside[size[1] // 3 : 2 * size[1] // 3, size[0] // 2 : 3 * size[0] // 4] = True
    assert np.array_equal(before[~inside], after[~inside])
    assert (before[inside] != after[inside]).mean() > 0.9
    kept = np.asarray(replace_region(image, mask, fill, keep=True))
    assert np.array_equal(before[inside], kept[inside])
    assert (before[~inside] != kept[~inside]).mean() > 0.9


def test_smooth_fills_of_a_large_photo_equal_those_at_full_size() -> None:
    ramp = np.linspace(0, 255, 600).round().astype(np.uint8)
    image = Image.fromarray(np.repeat(np.tile(ramp, (400, 1))[:, :, None], 3, 2))
    mask = np.zeros((400, 600), bool)
    mask[150:250, 200:400] = True
    filled = np.asarray(replace_region(image, mask, "neighbours")).astype(int)
    assert np.abs(filled - np.asarray(image)).max() <= 2  # the mean of neighbours continues a ramp


def test_blur_and_mean_of_a_large_photo_equal_those_at_full_size() -> None:
    rough = np.random.default_rng(1).integers(0, 256, (5, 6, 3), np.uint8)
    image = Image.fromarray(rough).resize((600, 500), Image.Resampling.BICUBIC)
    mask = np.zeros((500, 600), bool)
    mask[140:330, 210:420] = True
    planes = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
    for fill in ("blur", "mean"):
        expected = fill_regions(planes, torch.from_numpy(mask)[None], fill)[0].permute(1, 2, 0).numpy()
        found = np.asarray(replace_region(image, mask, fill))
        assert np.abs(found - expected).max() <= 3


@pytest.mark.parametrize(
    ("mask", "arguments", "message"),
    [
        (np.zeros((4, 4)), {}, "leaves nothing to replace"),
        (np.ones((4, 4)), {"keep": True}, "leaves nothing to replace"),
        (np.ones((4, 4, 3)), {}, r"a mask has the shape \(h, w\), not \(4, 4, 3\)"),
        (np.ones((0, 4)), {}, r"not \(0, 4\)"),
        (np.ones((4, 4)), {"fill": "magic"}, "filled with blur, mean, noise, neighbours, not 'magic'"),
    ],
)
def test_one_line_for_bad_masks(mask: np.ndarray, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace_region(photo(20, 20), mask, **arguments)  # type: ignore[arg-type]
