"""Replace a chosen region of an image, or each part of it in turn to see which ones a class depends on."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from swin_core.attribution.method import Method
from swin_core.attribution.pixel_gradients import plain_logits
from swin_core.attribution.targets import Attribution, TargetSelector
from swin_core.errors import ConfigError, ImageError
from swin_core.images.inpainting import blur, inpaint
from swin_core.system.batches import images_at_once
from swin_core.zoo.contract import activate, activation_of

__all__ = ["FILLS", "check_fill", "fill_regions", "replace_region", "rise", "rise_masks", "sliding_occlusion"]

FILLS = {"blur": "the blurred image", "mean": "the mean colour", "noise": "noise", "neighbours": "neighbouring pixels"}
"""What can replace a region, with a title."""

_FILL_SIDES = dict.fromkeys(FILLS, 256) | {"blur": 64}
"""Longer side, in pixels, at which a fill is computed before it is enlarged; a blurred image needs fewer."""
_AT_ONCE = 16
"""Most inputs in one forward pass."""
_WINDOWS = 7
"""Windows of sliding occlusion that fit side by side; they move by half a window."""
_RISE_MASKS, _RISE_CELLS, _RISE_SHARE = 1000, 7, 0.5


def check_fill(fill: str) -> None:
    """Raise `ConfigError` if this is no key of `FILLS`."""
    if fill not in FILLS:
        raise ConfigError(f"a region can be filled with {', '.join(FILLS)}, not {fill!r}.")


def fill_regions(images: Tensor, masks: Tensor, fill: str = "blur", seed: int = 0) -> Tensor:
    """Replace a region of each image.

    Args:
        images: `(N, C, H, W)`, floating point.
        masks: `(N, H, W)`, bool; True is replaced.
        fill: "blur", the image blurred by 8 % of its longer side; "mean", the mean colour of the pixels outside the
            region; "noise", Gaussian noise with their mean and standard deviation; "neighbours", each pixel the mean of
            its neighbours (ROAD).
        seed: seed of the noise. It is the same for all images.

    Returns:
        `(N, C, H, W)`; pixels outside the region are unchanged.

    Raises:
        ConfigError: an unknown fill.
    """
    check_fill(fill)
    if fill == "neighbours":
        return inpaint(images, masks)
    if fill == "blur":
        return torch.where(masks[:, None], blur(images), images)
    # A region that covers the whole image has no outside: the image's own statistics are used.
    outside = (~masks | masks.all((1, 2), True))[:, None].to(images)
    count = outside.sum((2, 3), keepdim=True)
    mean = (images * outside).sum((2, 3), keepdim=True) / count
    if fill == "noise":
        deviation = (((images - mean) ** 2 * outside).sum((2, 3), keepdim=True) / count).sqrt()
        noise = torch.randn(images.shape[1:], generator=torch.Generator().manual_seed(seed)).to(images)
        mean = mean + deviation * noise
    return torch.where(masks[:, None], mean, images)


def replace_region(
    image: Image.Image, mask: np.ndarray | Image.Image, fill: str = "blur", *, keep: bool = False
) -> Image.Image:
    """Return an RGB image with a region replaced.

    Args:
        image: any PIL image.
        mask: the region, an array `(h, w)` or an image of one channel; pixels above 0 are replaced. It is stretched to
            the image if its size differs.
        fill: a key of `FILLS`, see `fill_regions`. It is computed on a copy of at most 256 pixels and enlarged.
        keep: keep only the region and replace everything else.

    Raises:
        ConfigError: an unknown fill, or a mask that is not `(h, w)`, marks nothing, or with `keep` everything.
        ImageError: the image has no pixels.
    """
    image = image.convert("RGB")
    if not all(image.size):
        raise ImageError("the image has no pixels.")
    check_fill(fill)
    region = np.asarray(mask)
    if region.ndim != 2 or not region.size:
        raise ConfigError(f"a mask has the shape (h, w), not {region.shape}.")
    stretched = Image.fromarray((region > 0) ^ keep).resize(image.size, Image.Resampling.NEAREST)
    box = stretched.getbbox()
    if box is None:
        raise ConfigError("the mask leaves nothing to replace; mark a part of the image.")
    side = _FILL_SIDES[fill]
    working = image.copy()
    working.thumbnail((side, side))
    # Any replaced pixel in a cell counts. All of the blurred image is needed, since it is enlarged smoothly.
    shares = np.array(stretched.convert("L").resize(working.size, Image.Resampling.BOX))
    gaps = torch.from_numpy((shares > 0) | (fill == "blur"))
    pixels = torch.from_numpy(np.array(working)).permute(2, 0, 1)[None].float()
    filled = fill_regions(pixels, gaps[None], fill)[0].permute(1, 2, 0)
    content = Image.fromarray(filled.clamp(0, 255).round().to(torch.uint8).numpy())
    across, down = working.width / image.width, working.height / image.height
    part = (box[0] * across, box[1] * down, box[2] * across, box[3] * down)
    size = (box[2] - box[0], box[3] - box[1])
    resampling = Image.Resampling.NEAREST if fill in ("mean", "noise") else Image.Resampling.BICUBIC
    image.paste(content.resize(size, resampling, part), box, stretched.crop(box))
    return image


def sliding_occlusion(model: nn.Module, x: Tensor, select: TargetSelector) -> Attribution:
    """Fall of the score when a grey square covers a place (Zeiler and Fergus 2014, section 4.2).

    The square is zero after normalisation, the mean colour of the training data. Seven fit side by side, and it moves
    by half its width.

    Args:
        model: any classifier.
        x: normalised images, `(B, C, H, W)`.
        select: chooses the targets from the logits.

    Returns:
        Signed maps `(B, H, W)`: at each pixel the mean fall over the squares that cover it.
    """
    sides = [max(1, round(side / _WINDOWS)) for side in x.shape[2:]]
    steps = [max(1, side // 2) for side in sides]
    corners = [
        range(0, max(1, full - side + step), step) for full, side, step in zip(x.shape[2:], sides, steps, strict=True)
    ]
    masks = torch.zeros(len(corners[0]) * len(corners[1]), *x.shape[2:], dtype=torch.bool, device=x.device)
    for number, (top, left) in enumerate((top, left) for top in corners[0] for left in corners[1]):
        masks[number, top : top + sides[0], left : left + sides[1]] = True
    logits = plain_logits(model, x)
    targets = select(logits)
    outputs = torch.cat([_masked_logits(model, x, ~part) for part in masks.split(_masks_at_once(x))])
    cover = masks.flatten(1).double()  # (N, H * W); autocast leaves float64 alone
    maps = []
    for target in targets:
        falls = [target.score(logits) - target.score(output) for output in outputs]  # N of (B,)
        sums = torch.stack(falls, 1).double() @ cover
        maps.append([(sums / cover.sum(0)).view(len(x), *x.shape[2:]).to(x)])
    return Attribution(logits, targets, maps)


OCCLUSION = Method(
    "occlusion",
    "Sliding occlusion",
    sliding_occlusion,
    "pixels",
    "many passes",
    "How much the class score falls when a grey square covers a place (Zeiler and Fergus 2014).",
    signed=True,
)


def rise(model: nn.Module, x: Tensor, select: TargetSelector) -> Attribution:
    """Mean of 1,000 random masks, weighted by the class probability under each (RISE, Petsiuk et al. 2018, eq. 6).

    E[M] in eq. 6 is taken from the masks, pixel by pixel: places that more of them show do not stand out by chance.

    Args:
        model: any classifier.
        x: normalised images, `(B, C, H, W)`; masked pixels become zero, the mean colour of the training data.
        select: chooses the targets from the logits.

    Returns:
        Maps `(B, H, W)`. With contrast classes the weight is the difference of the two probabilities, and maps may be
        negative.
    """
    masks = rise_masks(_RISE_MASKS, (x.shape[2], x.shape[3]))
    logits = plain_logits(model, x)
    targets = select(logits)
    # In float64, which autocast leaves alone.
    maps = [torch.zeros(len(x), *x.shape[2:], dtype=torch.float64, device=x.device) for _ in targets]
    shown = torch.zeros(x.shape[2:], dtype=torch.float64, device=x.device)
    for index in torch.arange(_RISE_MASKS).split(_masks_at_once(x)):
        part = masks(index).to(shown)
        shown += part.sum(0)
        probabilities = activate(_masked_logits(model, x, part).double(), activation_of(model))
        for target, sums in zip(targets, maps, strict=True):
            weights = torch.stack([target.score(rows) for rows in probabilities])  # (N, B)
            sums += torch.einsum("nb,nhw->bhw", weights, part)
    return Attribution(logits, targets, [[(sums / shown).to(x)] for sums in maps])


RISE = Method(
    "rise",
    "RISE",
    rise,
    "pixels",
    "many passes",
    "Mean of 1,000 random masks, weighted by the class probability under each (Petsiuk et al. 2018).",
)


def rise_masks(count: int, size: tuple[int, int], seed: int = 0) -> Callable[[Tensor], Tensor]:
    """Return a function from indices `(N,)` to masks `(N, H, W)`, 0 to 1 (Petsiuk et al. 2018, section 3.2).

    A mask is a grid of 8 x 8 cells, each on or off with equal chance, enlarged bilinearly so that 7 x 7 cells fill the
    image, and shifted by less than a cell.
    """
    generator = torch.Generator().manual_seed(seed)
    cell = [-(-side // _RISE_CELLS) for side in size]
    cells = _RISE_CELLS + 1
    grids = (torch.rand(count, 1, cells, cells, generator=generator) < _RISE_SHARE).float()
    shifts = torch.stack([torch.randint(side, (count,), generator=generator) for side in cell], 1)

    def make(index: Tensor) -> Tensor:
        index = index.cpu()
        large = F.interpolate(grids[index], [side * cells for side in cell], mode="bilinear", align_corners=False)
        cut = [
            plane[0, down : down + size[0], right : right + size[1]]
            for plane, (down, right) in zip(large, shifts[index].tolist(), strict=True)
        ]
        return torch.stack(cut)

    return make


def _masks_at_once(x: Tensor) -> int:
    """Return the number of masks that are laid over all images of a batch in one pass."""
    return max(1, images_at_once(x.device, max(x.shape[2:]), _AT_ONCE) // len(x))


def _masked_logits(model: nn.Module, x: Tensor, masks: Tensor) -> Tensor:
    """Return the logits `(N, B, classes)` of images `(B, C, H, W)` times each of the masks `(N, H, W)`."""
    masked = x[None] * masks[:, None, None].to(x)
    return plain_logits(model, masked.flatten(0, 1)).unflatten(0, (len(masks), len(x)))
