"""Build a Swin, with random or pretrained weights."""

import os
from dataclasses import replace
from typing import Any

from swin_core.errors import ConfigError
from swin_core.models.config import VARIANTS, SwinConfig
from swin_core.models.swin import Swin
from swin_core.weights.files import load_weights
from swin_core.zoo.load import weights_file


def build(variant: str | SwinConfig, pretrained: str | os.PathLike[str] | None = None, **overrides: Any) -> Swin:
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
    config = VARIANTS.get(variant) if isinstance(variant, str) else variant
    if not isinstance(config, SwinConfig):
        raise ConfigError(f"unknown variant {variant!r:.80}; known are {', '.join(VARIANTS)}.")
    if not isinstance(pretrained, str | os.PathLike | None):
        raise ConfigError(
            f'pretrained={pretrained!r:.40} names no weights; give a name, such as "timm/swin_tiny_patch4_window7_224".'
        )
    known = SwinConfig.__dataclass_fields__
    for name in overrides:
        if name not in known:
            raise ConfigError(f"unknown model setting {name!r}; known are {', '.join(known)}.")
    model = Swin(replace(config, **overrides))
    if pretrained is not None:
        load_weights(model, weights_file(os.fspath(pretrained)))
    return model
