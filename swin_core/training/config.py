"""The settings of a training run, and the recipes: named settings with their source and what to expect of them."""

import ast
import inspect
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from swin_core.errors import ConfigError
from swin_core.variants import VARIANTS

__all__ = ["RECIPES", "Recipe", "TrainConfig", "recipe", "setting_help"]


@dataclass(frozen=True)
class TrainConfig:
    """Everything that a run depends on. Two runs of one config on one machine give the same weights."""

    name: str = "run"
    """Name of the run; its folder is the time of the start and this name."""
    data: str = "cifar100"
    """Data set: cifar100, flowers, or a folder with one folder of pictures for each class."""
    variant: str = "swin_micro"
    """Variant of the model."""
    init: str = ""
    """Weights to start from: a bundled name or a weights file; empty for random weights."""
    image_size: int = 32
    """Side of the pictures in pixels."""
    patch_size: int = 2
    """Side of a patch in pixels."""
    window_size: int = 4
    """Window side in tokens."""
    epochs: int = 16
    """Passes over the training pictures."""
    batch_size: int = 256
    """Pictures a step."""
    optimizer: Literal["muon", "adamw"] = "muon"
    """muon: Muon on the hidden matrices and AdamW on the rest; adamw: AdamW on all."""
    lr: float = 2e-3
    """Largest learning rate."""
    weight_decay: float = 0.05
    """Decoupled weight decay; norms, biases, bias tables and embeddings have none."""
    schedule: Literal["linear", "cosine"] = "linear"
    """How the learning rate falls to zero after the warm-up."""
    warmup: float = 0.05
    """Share of all steps in which the learning rate rises from zero."""
    label_smoothing: float = 0.1
    """Share of the target probability that is spread over all classes, in training."""
    drop_path: float = 0.0
    """Stochastic depth of the last block."""
    ema: float = 0.995
    """Decay of the moving average of the weights, which is what is validated and saved; 0 for none."""
    clip: float = 1.0
    """Largest norm of the gradient; 0 for no clipping."""
    crop_padding: int = 4
    """Pixels of reflected border for the random crop; used where crop_scale is 1."""
    crop_scale: float = 1.0
    """Smallest share of a picture's area that a random resized crop takes; 1 for the padded crop instead."""
    flip: bool = True
    """Whether half of the pictures are mirrored."""
    cutout: int = 8
    """Side in pixels of the square that is blanked in each training picture; 0 for none."""
    colour_jitter: float = 0.0
    """Largest change of brightness, contrast and saturation, as a share."""
    holdout: float = 0.02
    """Share of each class's training pictures that validates, where the data set has no validation split."""
    limit: int = 0
    """Use only the first so many training and validation pictures of a shuffled set; 0 for all."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Arithmetic of the matrix products; weights and their updates stay in float32."""
    seed: int = 0
    """Seed of the weights, the order of pictures and the augmentation."""

    def __post_init__(self) -> None:
        for field in fields(self):
            _check_type(field.name, getattr(self, field.name), get_type_hints(type(self))[field.name])
        ranges: dict[str, tuple[float, float]] = {
            "image_size": (1, 4096),
            "patch_size": (1, 64),
            "window_size": (1, 64),
            "epochs": (1, 100_000),
            "batch_size": (1, 1_000_000),
            "lr": (0, 100),
            "weight_decay": (0, 100),
            "warmup": (0, 1),
            "label_smoothing": (0, 0.999),
            "drop_path": (0, 0.999),
            "ema": (0, 0.999999),
            "clip": (0, 1e9),
            "crop_padding": (0, self.image_size - 1),
            "crop_scale": (0.01, 1),
            "cutout": (0, self.image_size),
            "colour_jitter": (0, 1),
            "holdout": (0.001, 0.5),
            "limit": (0, 10**12),
            "seed": (0, 2**31 - 1),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"{name} must lie between {low:g} and {high:g}, not {value:g}.")
        if self.variant not in VARIANTS:
            raise ConfigError(f"unknown variant {self.variant!r}; known are {', '.join(VARIANTS)}.")
        allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-."
        if not self.name or self.name[0] in "-." or set(self.name) - set(allowed) or len(self.name) > 64:
            raise ConfigError(
                f"name {self.name[:80]!r} must be 1 to 64 letters, digits, '_', '-' or '.', not '-' or '.' at first."
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainConfig":
        """The config of a JSON object, as `to_dict` wrote it."""
        if not isinstance(values, Mapping):
            raise ConfigError(f"settings must be a JSON object, not {type(values).__name__}.")
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ConfigError(f"unknown setting {unknown[0]!r}; known are {', '.join(known)}.")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """All settings as plain values for JSON."""
        return asdict(self)


def _check_type(name: str, value: object, kind: Any) -> None:
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ConfigError(f"{name} must be one of {', '.join(get_args(kind))}, not {value!r}.")
        return
    right = isinstance(value, int | float) if kind is float else isinstance(value, kind)
    if not right or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(f"{name} must be of type {kind.__name__}, not {value!r}.")


@cache
def setting_help() -> dict[str, str]:
    """What each setting of `TrainConfig` means: the text under each field, for `--help` and for forms."""
    tree = ast.parse(inspect.getsource(TrainConfig)).body[0]
    assert isinstance(tree, ast.ClassDef)
    texts = {}
    for node, following in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            assert isinstance(following, ast.Expr)
            assert isinstance(following.value, ast.Constant)
            texts[node.target.id] = str(following.value.value)
    return texts


@dataclass(frozen=True)
class Recipe:
    """Settings under a name, with where they come from and what they are for."""

    config: TrainConfig
    source: str
    """Where the settings come from."""
    purpose: str
    """One line: what the recipe is for."""


RECIPES: dict[str, Recipe] = {
    "fast-cifar100": Recipe(
        TrainConfig(name="fast-cifar100"),
        source="Muon on the hidden matrices, few epochs, light augmentation; made for two CPU cores",
        purpose="A 2.7 million parameter Swin on CIFAR-100 from scratch in a few epochs.",
    ),
    "flowers": Recipe(
        TrainConfig(
            name="flowers",
            data="flowers",
            init="swin_micro_cifar100",
            image_size=128,
            patch_size=4,
            window_size=8,
            epochs=16,
            batch_size=64,
            optimizer="adamw",
            lr=8e-4,
            schedule="cosine",
            drop_path=0.1,
            ema=0.99,
            crop_scale=0.35,
            cutout=0,
            colour_jitter=0.3,
        ),
        source="the seed report's fine-tuning: new 5-class head, small learning rate; sizes for a small Swin",
        purpose="Fine-tunes weights on flower_photos at a larger size, with resized bias tables and a new head.",
    ),
}
"""Recipes by name; `scripts/train.py RECIPE` runs one, and any setting can be replaced on the command line."""


def recipe(name: str, /, **overrides: Any) -> TrainConfig:
    """The config of a recipe, with some settings replaced.

    Raises:
        ConfigError: the recipe or a setting is unknown, or a value is out of range.
    """
    if name not in RECIPES:
        raise ConfigError(f"unknown recipe {name!r}; known are {', '.join(RECIPES)}.")
    unknown = sorted(set(overrides) - {field.name for field in fields(TrainConfig)})
    if unknown:
        raise ConfigError(f"unknown setting {unknown[0]!r}; known are {', '.join(setting_help())}.")
    return replace(RECIPES[name].config, **overrides)
