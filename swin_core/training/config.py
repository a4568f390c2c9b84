"""The settings of a training run, shared by the command line, the dashboard's form and the run's folder."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass
from pydantic.fields import FieldInfo

from swin_core.data.registry import HOLDOUT
from swin_core.errors import ConfigError
from swin_core.models.config import VARIANTS
from swin_core.runs.files import is_run_name, name_error, read_config
from swin_core.weights.files import read_metadata


@dataclass(frozen=True, config=ConfigDict(strict=True, extra="forbid", use_attribute_docstrings=True))
class _Settings:
    """The fields of `TrainConfig`; pydantic checks their types and ranges and reads the text under each."""

    name: str = "run"
    """Name of the run; its folder is named by start time and this name."""
    data: str = "cifar100"
    """Name of a data set, such as cifar100, or a folder with one folder of images or of arrays for each class."""
    variant: str = "swin_micro"
    """Variant of the model."""
    init: str = ""
    """Weights to start from: a bundled name, a run, a weights file, or timm/MODEL; empty for random weights."""
    image_size: Annotated[int, Field(ge=1, le=4096)] = 32
    """Side of the images in pixels."""
    patch_size: Annotated[int, Field(ge=1, le=64)] = 2
    """Side of a patch in pixels."""
    window_size: Annotated[int, Field(ge=1, le=64)] = 4
    """Window side in tokens."""
    shift: bool = True
    """Whether every second block shifts its windows; off for the ablation of the paper's table 4."""
    relative_position_bias: bool = True
    """Whether attention has the relative position bias; off for the ablation of the paper's table 4."""
    absolute_embedding: bool = False
    """Whether a learned absolute position embedding is added to the patches; on for the ablation of table 4."""
    epochs: Annotated[int, Field(ge=1, le=100_000)] = 16
    """Passes over the training images."""
    patience: Annotated[int, Field(ge=0, le=100_000)] = 0
    """End the run after this many epochs without a better validation (top-1, then loss); 0 for never."""
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = 256
    """Images per step over all devices; the learning rate is meant for this number."""
    accumulate: Annotated[int, Field(ge=1, le=1024)] = 1
    """Micro-batches per step (gradient accumulation); more of them need less memory."""
    optimizer: Literal["muon", "adamw"] = "muon"
    """muon: Muon on the hidden matrices and AdamW on the rest; adamw: AdamW on all."""
    lr: Annotated[float, Field(ge=0, le=100)] = 2e-3
    """Largest learning rate."""
    layer_decay: Annotated[float, Field(ge=0.01, le=1)] = 1.0
    """Factor on the learning rate from each block to the one before it, for fine-tuning; 1 for the same rate."""
    freeze: Annotated[int, Field(ge=0, le=64)] = 0
    """Frozen parts, from the input on: 1 for the patch embedding, 2 for stage 1 too, and so on."""
    weight_decay: Annotated[float, Field(ge=0, le=100)] = 0.05
    """Decoupled weight decay; norms, biases, bias tables and position embeddings have none."""
    schedule: Literal["linear", "cosine"] = "linear"
    """How the learning rate falls to zero after the warm-up."""
    warmup: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Share of all steps in which the learning rate rises from zero."""
    label_smoothing: Annotated[float, Field(ge=0, le=0.999)] = 0.1
    """Share of the target probability that is spread over all classes, in training only."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: weight the loss of each image by the mean number of images of a class over the number of its class."""
    drop_path: Annotated[float, Field(ge=0, le=0.999)] = 0.0
    """Stochastic depth of the last block."""
    ema: Annotated[float, Field(ge=0, le=0.999999)] = 0.995
    """Decay of the moving average of the weights, which is validated and saved; 0 for none."""
    clip: Annotated[float, Field(ge=0, le=1e9)] = 1.0
    """Largest norm of the gradient; 0 for no clipping."""
    crop_padding: Annotated[int, Field(ge=0, le=4095)] = 4
    """Pixels of reflected border for the random crop; used if crop_scale is 1."""
    crop_scale: Annotated[float, Field(ge=0.01, le=1)] = 1.0
    """Smallest share of an image's area that a random resized crop takes; 1 for the padded crop instead."""
    flip: bool = True
    """Whether half of the images are flipped horizontally."""
    randaugment: Annotated[int, Field(ge=0, le=10)] = 0
    """Magnitude of RandAugment, 1 to 10, with two operations per image; 0 for none."""
    colour_jitter: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Largest change of brightness, contrast and saturation, as a share."""
    cutout: Annotated[int, Field(ge=0, le=4096)] = 8
    """Side in pixels of the square that is blanked in each training image; 0 for none."""
    erasing: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the images in which a random rectangle is replaced by noise."""
    without: str = ""
    """Findings file of an audit; the run is trained without what they found. Empty for none."""
    mixup: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Alpha of Mixup's Beta distribution, which blends two images; 0 for none."""
    cutmix: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Alpha of CutMix's Beta distribution, which pastes a rectangle of another image; 0 for none."""
    teacher: str = ""
    """Teacher for knowledge distillation: a bundled name, a run, a weights file, or timm/MODEL; empty for none."""
    distillation: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the distillation loss in the total; used with a teacher."""
    temperature: Annotated[float, Field(ge=0.01, le=100)] = 2.0
    """Distillation temperature; used with a teacher."""
    holdout: Annotated[float, Field(ge=0.001, le=0.5)] = HOLDOUT
    """Share of each class's training images used for validation, if the data set has no validation split."""
    limit: Annotated[int, Field(ge=0, le=10**12)] = 0
    """Most training images and most validation images, drawn at random; 0 for all."""
    strict: bool = False
    """Whether to refuse a folder with files that cannot be used, instead of skipping them."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of matrix products; auto: bfloat16 if the device supports it. Weights stay in float32."""
    checkpointing: bool = False
    """Activation checkpointing: recompute activations in the backward pass; slower, with less memory."""
    compile: bool = False
    """Whether to use torch.compile: it takes a minute or more, then steps are faster."""
    keep_every: Annotated[int, Field(ge=0, le=100_000)] = 0
    """Keep the weights of every so many epochs; 0 keeps the best and the last only."""
    tensorboard: bool = False
    """Whether to write TensorBoard logs into the run's folder; needs the package tensorboard."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """Seed of the weights, the order of images and the augmentation."""


_FIELDS: dict[str, FieldInfo] = _Settings.__pydantic_fields__  # type: ignore[attr-defined]


class TrainConfig(_Settings):
    """All settings of a run. Two runs with the same config on the same machine give the same weights.

    Raises:
        ConfigError: a setting is unknown, has the wrong type, or is out of range.
    """

    def __init__(self, /, **settings: Any):
        try:
            super().__init__(**settings)
        except ValidationError as error:
            raise ConfigError(_message(error)) from error
        for name, high in (("crop_padding", self.image_size - 1), ("cutout", self.image_size)):
            if getattr(self, name) > high:
                raise ConfigError(
                    f"{name} must lie between 0 and {high} for images of {self.image_size} pixels, "
                    f"not {getattr(self, name)}."
                )
        if self.variant not in VARIANTS:
            raise ConfigError(f"unknown variant {self.variant!r}; known are {', '.join(VARIANTS)}.")
        if not is_run_name(self.name):
            raise ConfigError(str(name_error(self.name)))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainConfig":
        """Return the config of a JSON object that `to_dict` wrote."""
        if not isinstance(values, Mapping):
            raise ConfigError(f"settings must be a JSON object, not {type(values).__name__}.")
        return cls(**values)

    @classmethod
    def of_run(cls, folder: Path) -> "TrainConfig":
        """Return the config in a run's folder.

        Raises:
            ConfigError: it is missing or damaged.
        """
        settings, reason = read_config(folder), "its config.json is missing or damaged."
        try:
            if settings:
                return cls.from_dict(settings)
        except ConfigError as error:
            reason = str(error)
        raise ConfigError(f"{str(folder)[:200]!r} is not a run that can be resumed: {reason}")

    def to_dict(self) -> dict[str, Any]:
        """Return all settings as plain values for JSON."""
        return asdict(self)


def _message(error: ValidationError) -> str:
    """Return the first error as one line: the setting, what is allowed, and the value."""
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0])
    if first["type"] == "unexpected_keyword_argument":
        return f"unknown setting {name!r}; known are {', '.join(field.name for field in fields(TrainConfig))}."
    value = f"{first['input']!r:.40}"
    kind: Any = _FIELDS[name].annotation
    if first["type"] == "literal_error":
        return f"{name} must be one of {', '.join(get_args(kind))}, not {value}."
    if first["type"] in ("greater_than_equal", "less_than_equal"):
        low, high = setting_limits()[name]
        return f"{name} must lie between {low:.12g} and {high:.12g}, not {value}."
    return f"{name} must be of type {kind.__name__}, not {value}."


def setting_limits() -> dict[str, tuple[float, float]]:
    """Return the smallest and largest value of each numeric setting."""
    return {name: (field.metadata[0].ge, field.metadata[1].le) for name, field in _FIELDS.items() if field.metadata}


def setting_help() -> dict[str, str]:
    """Return the description of each setting, the text under each field, for `--help` and for forms."""
    return {name: field.description or "" for name, field in _FIELDS.items()}


def recorded_settings(weights: Path) -> dict[str, Any]:
    """Return the settings that a weights file was trained with, as far as its metadata tell."""
    recorded = read_metadata(weights).get("training")
    known = {field.name for field in fields(TrainConfig)}
    settings = recorded.items() if isinstance(recorded, dict) else ()
    return {key: value for key, value in settings if key in known}
