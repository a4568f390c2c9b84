"""What would the model say if a region of the image were not there?"""

from dataclasses import dataclass

import numpy as np
from PIL import Image
from torch import nn

from swin_core.attribution.dispatch import Layers
from swin_core.attribution.explain import Targets, explain
from swin_core.attribution.explanation import Explanation
from swin_core.attribution.occlusion import FILLS, check_fill, replace_region
from swin_core.attribution.strokes import Strokes, parse_strokes
from swin_core.attribution.targets import Against
from swin_core.zoo.classifier import Classifier
from swin_core.zoo.inputs import ImageInput, as_image

__all__ = ["Edit", "WhatIf", "what_if"]


@dataclass(frozen=True)
class Edit:
    """A painted region of an image, and what replaces it.

    Raises:
        ConfigError: an unknown fill.
    """

    strokes: Strokes
    fill: str = "blur"
    """A key of `FILLS`."""
    keep: bool = False
    """Whether only the region is kept and everything else is replaced."""

    def __post_init__(self) -> None:
        check_fill(self.fill)

    def apply(self, image: Image.Image) -> Image.Image:
        """Return the changed image.

        Raises:
            ConfigError: the strokes paint no pixel, or all of them are to be kept.
        """
        return replace_region(image, self.strokes.mask(image.height, image.width), self.fill, keep=self.keep)

    def __str__(self) -> str:
        """Return one line for a caption."""
        return f"{'all but the painted' if self.keep else 'painted'} region replaced by {FILLS[self.fill]}"


@dataclass(frozen=True)
class WhatIf:
    """An image before and after a region of it was replaced."""

    image: Image.Image
    """The changed image."""
    before: Explanation
    """The explanation of the original image."""
    after: Explanation
    """The explanation of the changed image, of the same target classes."""

    @property
    def change(self) -> np.ndarray:
        """Change of each target's logit, `(K,)`; negative where the region supported the class."""
        targets = list(self.before.targets)
        return self.after.logits[targets] - self.before.logits[targets]


def what_if(
    classifier: Classifier | nn.Module,
    image: ImageInput,
    mask: np.ndarray | Image.Image | Strokes | str,
    targets: Targets = None,
    method: str | None = None,
    layers: Layers = None,
    *,
    fill: str = "blur",
    keep: bool = False,
    against: Against = None,
) -> WhatIf:
    """Replace a region of an image and explain both images.

    Args:
        classifier: as in `explain`.
        image: as in `explain`, but no normalised tensor.
        mask: the region, an array `(h, w)` or an image of one channel, which is stretched to the image; pixels above 0
            are replaced. Or strokes, also as text; see `parse_strokes`.
        targets: as in `explain`; None for the most likely class of the original image.
        method: as in `explain`.
        layers: as in `explain`.
        fill: what replaces the region: "blur", "mean", "noise" or "neighbours"; see `fill_regions`.
        keep: keep only the region and replace everything else.
        against: as in `explain`.

    Raises:
        As `explain`, `replace_region` and `parse_strokes`.
    """
    original = as_image(image)
    if isinstance(mask, str):
        mask = parse_strokes(mask)
    if isinstance(mask, Strokes):
        mask = mask.mask(original.height, original.width)
    changed = replace_region(original, mask, fill, keep=keep)
    before = explain(classifier, original, targets, method, layers, against=against)
    after = explain(classifier, changed, before.targets, before.method, layers, against=before.against)
    return WhatIf(changed, before, after)
