"""The settings of a training run: one class that the command line, the page's form and the run's folder share."""

import ast
import inspect
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from swin_core.data.registry import HOLDOUT
from swin_core.errors import ConfigError
from swin_core.models.config import VARIANTS
from swin_core.runs.files import is_run_name, name_error, read_config
from swin_core.weights.files import read_metadata

__all__ = ["TrainConfig", "setting_help", "setting_limits"]


@dataclass(frozen=True)
class TrainConfig:
    """Everything that a run depends on. Two runs of one config on one machine give the same weights."""

    name: str = "run"
    """Name of the run; its folder is the time of the start and this name."""
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
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = 256
    """Images a step, over all devices together; the learning rate is meant for this number."""
    accumulate: Annotated[int, Field(ge=1, le=1024)] = 1
    """Pieces that a step's images are computed in, one after the other; more pieces need less memory."""
    optimizer: Literal["muon", "adamw"] = "muon"
    """muon: Muon on the hidden matrices and AdamW on the rest; adamw: AdamW on all."""
    lr: Annotated[float, Field(ge=0, le=100)] = 2e-3
    """Largest learning rate."""
    layer_decay: Annotated[float, Field(ge=0.01, le=1)] = 1.0
    """Factor on the learning rate from each block to the one before it, for fine-tuning; 1 for one rate everywhere."""
    freeze: Annotated[int, Field(ge=0, le=64)] = 0
    """Parts that keep their first weights, from the input on: 1 the patch embedding, 2 also stage 1, and so on."""
    weight_decay: Annotated[float, Field(ge=0, le=100)] = 0.05
    """Decoupled weight decay; norms, biases, bias tables and embeddings have none."""
    schedule: Literal["linear", "cosine"] = "linear"
    """How the learning rate falls to zero after the warm-up."""
    warmup: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Share of all steps in which the learning rate rises from zero."""
    label_smoothing: Annotated[float, Field(ge=0, le=0.999)] = 0.1
    """Share of the target probability that is spread over all classes, in training."""
    drop_path: Annotated[float, Field(ge=0, le=0.999)] = 0.0
    """Stochastic depth of the last block."""
    ema: Annotated[float, Field(ge=0, le=0.999999)] = 0.995
    """Decay of the moving average of the weights, which is what is validated and saved; 0 for none."""
    clip: Annotated[float, Field(ge=0, le=1e9)] = 1.0
    """Largest norm of the gradient; 0 for no clipping."""
    crop_padding: Annotated[int, Field(ge=0, le=4095)] = 4
    """Pixels of reflected border for the random crop; used where crop_scale is 1."""
    crop_scale: Annotated[float, Field(ge=0.01, le=1)] = 1.0
    """Smallest share of an image's area that a random resized crop takes; 1 for the padded crop instead."""
    flip: bool = True
    """Whether half of the images are mirrored."""
    randaugment: Annotated[int, Field(ge=0, le=10)] = 0
    """Magnitude, 1 to 10, of RandAugment's two random changes to each image; 0 for none."""
    colour_jitter: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Largest change of brightness, contrast and saturation, as a share."""
    cutout: Annotated[int, Field(ge=0, le=4096)] = 8
    """Side in pixels of the square that is blanked in each training image; 0 for none."""
    erasing: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the images in which a random rectangle is replaced by noise."""
    mixup: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Alpha of the Beta distribution by which two images are blended; 0 for none."""
    cutmix: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Alpha of the Beta distribution by which a rectangle comes from another image; 0 for none."""
    teacher: str = ""
    """Model whose probabilities are learned beside the labels: a bundled name, a run, a weights file, or timm/MODEL."""
    distillation: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the loss that comes from the teacher; used where there is one."""
    temperature: Annotated[float, Field(ge=0.01, le=100)] = 2.0
    """Softening of the teacher's and the model's probabilities for each other; used where there is a teacher."""
    holdout: Annotated[float, Field(ge=0.001, le=0.5)] = HOLDOUT
    """Share of each class's training images that validates, where the data set has no validation split."""
    limit: Annotated[int, Field(ge=0, le=10**12)] = 0
    """Use only the first so many training and validation images of a shuffled set; 0 for all."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the matrix products; auto: bfloat16 where the device has it. Weights stay in float32."""
    checkpointing: bool = False
    """Whether activations are computed again for the backward pass instead of kept: slower, with less memory."""
    compile: bool = False
    """Whether torch.compile translates the model first: takes a minute or more, then steps are faster."""
    keep_every: Annotated[int, Field(ge=0, le=100_000)] = 0
    """Epochs between weights that are kept for good; 1 keeps each epoch's, 0 the best and the last only."""
    tensorboard: bool = False
    """Whether the figures are written for TensorBoard too, into the run's folder; needs the package tensorboard."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """Seed of the weights, the order of images and the augmentation."""

    def __post_init__(self) -> None:
        try:
            _model().model_validate(self.__dict__)
        except ValidationError as error:
            raise ConfigError(_one_line(error)) from error
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
        """The config of a JSON object, as `to_dict` wrote it."""
        if not isinstance(values, Mapping):
            raise ConfigError(f"settings must be a JSON object, not {type(values).__name__}.")
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ConfigError(f"unknown setting {unknown[0]!r}; known are {', '.join(known)}.")
        return cls(**values)

    @classmethod
    def of_run(cls, folder: Path) -> "TrainConfig":
        """The config of a run's folder.

        Raises:
            ConfigError: there is none, or it is damaged.
        """
        settings, reason = read_config(folder), "its config.json is missing or damaged."
        try:
            if settings:
                return cls.from_dict(settings)
        except ConfigError as error:
            reason = str(error)
        raise ConfigError(f"{str(folder)[:200]!r} is no run that can be resumed: {reason}")

    def to_dict(self) -> dict[str, Any]:
        """All settings as plain values for JSON."""
        return asdict(self)


@cache
def _model() -> type[BaseModel]:
    """The fields of `TrainConfig` as a pydantic model, which checks types and ranges without converting anything."""
    hints = get_type_hints(TrainConfig, include_extras=True)
    kinds: dict[str, Any] = {field.name: (hints[field.name], field.default) for field in fields(TrainConfig)}
    return create_model("Settings", __config__=ConfigDict(strict=True), **kinds)


def _one_line(error: ValidationError) -> str:
    """The first fault: the setting, what is allowed, and the value."""
    fault = error.errors(include_url=False)[0]
    name = str(fault["loc"][0])
    kind = get_type_hints(TrainConfig)[name]
    value = f"{fault['input']!r:.40}"
    if get_origin(kind) is Literal:
        return f"{name} must be one of {', '.join(get_args(kind))}, not {value}."
    if fault["type"] in ("greater_than_equal", "less_than_equal"):
        low, high = setting_limits()[name]
        return f"{name} must lie between {low:.12g} and {high:.12g}, not {value}."
    return f"{name} must be of type {kind.__name__}, not {value}."


@cache
def setting_limits() -> dict[str, tuple[float, float]]:
    """The smallest and largest value of each numeric setting of `TrainConfig`."""
    limits = {}
    for name, hint in get_type_hints(TrainConfig, include_extras=True).items():
        if get_origin(hint) is Annotated:
            low, high = hint.__metadata__[0].metadata  # Field(ge=..., le=...)
            limits[name] = (low.ge, high.le)
    return limits


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


def recorded_settings(weights: Path) -> dict[str, Any]:
    """The settings of `TrainConfig` that weights were trained with, as far as the file tells."""
    recorded = read_metadata(weights).get("training")
    known = {field.name for field in fields(TrainConfig)}
    settings = recorded.items() if isinstance(recorded, dict) else ()
    return {key: value for key, value in settings if key in known}
