"""Build a Swin, with random or pretrained weights."""

import os
from typing import Any

from swin_core.models import swin
from swin_core.models.config import SwinConfig
from swin_core.weights.files import load_weights
from swin_core.zoo.load import weights_file


def build(variant: str | SwinConfig, pretrained: str | os.PathLike[str] | None = None, **overrides: Any) -> swin.Swin:
    """Return a Swin with random weights, or with pretrained weights that are adapted to it.

    `load_weights` says how weights for another image size, window, patch size or number of channels are adapted. With
    another number of classes the head stays random, so a model for fine-tuning is one call:
    `build("swin_tiny", num_classes=5, pretrained="timm/swin_tiny_patch4_window7_224")`.

    Args:
        variant: a key of `VARIANTS`, or a config.
        pretrained: a name as `load` takes it: a bundled model, a run, a weights file, or "timm/<model>".
        overrides: fields of `SwinConfig` to replace, such as `num_classes=5` or `window_size=8`.

    Raises:
        ConfigError: the variant or a field is unknown, or a value is out of range.
        ModelError: there is no model of the name `pretrained`.
        WeightsError: the weights are of another variant, or damaged.
    """
    model = swin.build(variant, **overrides)
    if pretrained is not None:
        load_weights(model, weights_file(str(pretrained)))
    return model
