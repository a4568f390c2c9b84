"""Recipes: named settings with their purpose, source, training time and accuracy."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from swin_core.errors import ConfigError
from swin_core.runs import remarks_on
from swin_core.training.config import TrainConfig


@dataclass(frozen=True)
class Recipe:
    """Named settings."""

    config: TrainConfig
    purpose: str
    """What the recipe is for, in one line."""
    source: str
    """Where the settings come from."""
    time: str
    """Training time and hardware, or that it has not been measured."""
    result: str
    """Accuracy and on which images, or that it has not been measured."""


OWN_SETTINGS = ("name", "seed")
"""Settings of a run that do not change what its metrics stand for."""

_NOT_MEASURED = "not yet measured here"

RECIPES: dict[str, Recipe] = {
    "fast-cifar100": Recipe(
        TrainConfig(name="fast-cifar100"),
        purpose="A 2.7 million parameter Swin on CIFAR-100 from scratch, in a few epochs on a CPU.",
        source="Muon on the hidden matrices (Jordan et al. 2024), short warm-up, linear decay, light augmentation",
        time="at most 48 minutes for its 16 epochs on two CPU cores with AVX-512",
        result="64.6 % top-1 and 88.4 % top-5 on the 10,000 test images",
    ),
    "main-cifar100": Recipe(
        TrainConfig(
            name="main-cifar100",
            variant="swin_milli",
            epochs=32,
            drop_path=0.05,
            ema=0.998,
            cutout=0,
            mixup=0.2,
            cutmix=1.0,
        ),
        purpose="The bundled CIFAR-100 model: a 6.0 million parameter Swin from scratch, in two hours on a CPU.",
        source="fast-cifar100 with a wider model and twice the epochs; CutMix mixes half of the images "
        "to reduce overfitting",
        time="112 minutes on two CPU cores with AMX",
        result="72.2 % top-1 and 91.8 % top-5 on the 10,000 test images",
    ),
    "paper-cifar100": Recipe(
        TrainConfig(
            name="paper-cifar100",
            variant="swin_tiny",
            epochs=150,
            batch_size=128,
            optimizer="adamw",
            lr=1e-4,
            schedule="cosine",
            label_smoothing=0.0,
            ema=0.0,
            cutout=0,
        ),
        purpose="The reproduced report's training on CIFAR-100: Swin-T from scratch, learning rate 1e-4, 150 epochs.",
        source="the report's learning rate, epochs and data; batch, crop and decay are ours, since it names none; "
        "patch and window fit 32 pixels",
        time=f"{_NOT_MEASURED}; the check before the start estimates it",
        result=f"{_NOT_MEASURED}; the report has 46.04 % top-1 and 76.03 % top-5 on the test images",
    ),
    "best-cifar100": Recipe(
        TrainConfig(
            name="best-cifar100",
            variant="swin_mini",
            epochs=300,
            optimizer="adamw",
            lr=1e-3,
            schedule="cosine",
            warmup=1 / 30,
            drop_path=0.1,
            ema=0.9998,
            cutout=0,
            randaugment=9,
            erasing=0.25,
            mixup=0.8,
            cutmix=1.0,
        ),
        purpose="The highest accuracy on CIFAR-100 from scratch, for GPUs.",
        source="Lee et al. 2021, Vision Transformer for Small-Size Datasets: C 96, (2, 6, 4), patch 2, window 4; long "
        "training with heavy augmentation",
        time=f"{_NOT_MEASURED}; days on a CPU",
        result=f"{_NOT_MEASURED}; 76.9 to 77.3 % top-1 are published for this shape",
    ),
    "flowers": Recipe(
        TrainConfig(
            name="flowers",
            data="flowers",
            variant="swin_milli",
            init="swin_milli_cifar100",
            image_size=128,
            patch_size=4,
            window_size=8,
            epochs=20,
            batch_size=64,
            optimizer="adamw",
            lr=8e-4,
            schedule="cosine",
            drop_path=0.1,
            ema=0.995,
            crop_scale=0.35,
            cutout=0,
            colour_jitter=0.3,
            cutmix=0.3,
        ),
        purpose="Fine-tunes any weights on flower_photos, with resized bias tables and a new head.",
        source="the report's fine-tuning: new 5-class head, small learning rate; sizes for a small Swin",
        time="17 minutes on two CPU cores with AVX-512 and bfloat16",
        result="90.7 % top-1 on the 364 validation images",
    ),
    "custom": Recipe(
        TrainConfig(
            name="custom",
            data="",
            init="swin_micro_cifar100",
            image_size=128,
            patch_size=4,
            window_size=8,
            epochs=10,
            batch_size=64,
            optimizer="adamw",
            lr=8e-4,
            layer_decay=0.8,
            schedule="cosine",
            drop_path=0.1,
            ema=0.99,
            crop_scale=0.35,
            cutout=0,
            holdout=0.1,
        ),
        purpose="Your own data: a folder with one folder of images, or of arrays of any channels, for each class.",
        source="the flowers recipe, with a smaller rate for the early layers (Bao et al. 2021)",
        time="depends on the data; the check before the start estimates it",
        result="depends on the data",
    ),
}
"""Recipes by name; `swinlens train RECIPE` runs one, and any setting can be replaced on the command line."""


def recipe(name: str, /, **overrides: Any) -> TrainConfig:
    """Return the config of a recipe with some settings replaced.

    Raises:
        ConfigError: the recipe or a setting is unknown, or a value is out of range.
    """
    if name not in RECIPES:
        raise ConfigError(f"unknown recipe {name!r}; known are {', '.join(RECIPES)}.")
    return replace(RECIPES[name].config, **overrides)


def nearest_recipe(settings: Mapping[str, Any]) -> str:
    """Return the recipe from which the fewest settings differ."""
    return min(RECIPES, key=lambda name: len(changed_settings(settings, name)))


def changed_settings(
    settings: Mapping[str, Any], recipe: str, ignored: Collection[str] = OWN_SETTINGS
) -> dict[str, Any]:
    """Return the settings that differ from a recipe's, without the ignored ones and those that recipes lack."""
    usual = RECIPES[recipe].config.to_dict()
    compared = usual.keys() - set(ignored)
    return {name: value for name, value in settings.items() if name in compared and usual[name] != value}


def marks(settings: Mapping[str, Any], changes: Sequence[Mapping[str, Any]] = ()) -> tuple[str, ...]:
    """Return what has to be said beside the metrics of a run, since they are not those of its recipe.

    Args:
        settings: the run's settings.
        changes: as `runs.read_changes` returns them.

    Returns:
        The settings that differ from the nearest recipe, a limit of images, and each change on the way. Empty for a
        recipe as it is.
    """
    name = nearest_recipe(settings)
    ignored = (*OWN_SETTINGS, "limit") if RECIPES[name].config.data else (*OWN_SETTINGS, "limit", "data")
    changed = changed_settings(settings, name, ignored)
    settings_text = ", ".join(f"{key} none" if value == "" else f"{key} {value}" for key, value in changed.items())
    differs = (f"{name} with {settings_text}",) if changed else ()
    return (*differs, *remarks_on(settings, changes))
