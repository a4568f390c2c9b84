"""A model card: what a weights file does not say about its model, in a TOML file beside it.

    # flowers.pth.card.toml
    architecture = "timm/resnet18"
    labels = ["daisy", "dandelion", "roses", "sunflowers", "tulips"]
    mean = [0.485, 0.456, 0.406]
    std = [0.229, 0.224, 0.225]
    image_size = 224

Fields that are left out are taken from the weights file, else from the architecture.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import tomlkit
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from swin_core.errors import ModelError
from swin_core.system.atomic import atomic_write
from swin_core.weights.files import split_entry
from swin_core.zoo.classifier import LARGEST_INPUT

SUFFIX = ".card.toml"
"""A card is named after its weights file, with this at the end."""

_BYTES_AT_MOST = 16 * 2**20

Label = Annotated[str, Field(min_length=1, max_length=1000, pattern=r"\S")]
Mean = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
Std = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]


class ModelCard(BaseModel):
    """Facts about a model. None where the weights file or the architecture decides.

    Values of another type are refused, not converted.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    architecture: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """Name of the architecture as in `swin_core.load`: `swin_tiny`, `timm/resnet18`, `torchvision/resnet50`."""
    labels: Annotated[list[Label], Field(min_length=1, max_length=100_000)] | None = None
    """Class names in the order of the logits."""
    mean: Annotated[list[Mean], Field(min_length=1, max_length=64)] | None = None
    """Mean of each channel, for pixels in 0 to 1."""
    std: Annotated[list[Std], Field(min_length=1, max_length=64)] | None = None
    """Standard deviation of each channel."""
    image_size: Annotated[int, Field(ge=1, le=LARGEST_INPUT)] | None = None
    """Side of the input in pixels."""
    channels: Annotated[int, Field(ge=1, le=64)] | None = None
    """Channels of the input; 1 for grey."""
    crop_fraction: Annotated[float, Field(gt=0, le=2)] | None = None
    """Fraction of the shorter side that the centre crop keeps."""
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] | None = None
    """How the image is resized."""
    squash: bool | None = None
    """Whether the whole image is squeezed into the square instead of cropped."""
    activation: Literal["softmax", "sigmoid", "none"] | None = None
    """What turns logits into probabilities; "none" for a regression."""

    @model_validator(mode="after")
    def _check_counts(self) -> Self:
        counts = {"channels": self.channels, "mean": self.mean and len(self.mean), "std": self.std and len(self.std)}
        known = {name: count for name, count in counts.items() if count is not None}
        if len(set(known.values())) > 1:
            stated = ", ".join(f"{name} {count}" for name, count in known.items())
            raise ValueError(f"mean and std need one number for each channel; counted: {stated}")
        return self

    def facts(self) -> dict[str, Any]:
        """Return the fields that the card states."""
        return self.model_dump(exclude_none=True)


def card_path(weights: str | os.PathLike[str]) -> Path:
    """Return where the card of a weights file lies; a folder's card is that of the `model.safetensors` in it."""
    weights, _ = split_entry(weights)  # all state dicts of a file share its card
    file = weights / "model.safetensors" if weights.is_dir() else weights
    return file.with_name(file.name + SUFFIX)


def make_card(facts: Mapping[str, Any], name: str = "the card") -> ModelCard:
    """Return a card with the given fields.

    Raises:
        ModelError: an unknown field, a wrong type, or a value out of range; one line that names the card and the field.
    """
    try:
        return ModelCard.model_validate(dict(facts))
    except ValidationError as error:
        raise ModelError(f"{name}: {_first_fault(error)}.") from error


def read_card(weights: str | os.PathLike[str]) -> ModelCard | None:
    """Return the card beside a weights file or in a folder, or None if there is none.

    A checkpoint of a run without a card of its own has that of the run.

    Raises:
        ModelError: the card cannot be read, is not TOML, or has an unknown field or a wrong value.
    """
    path = card_path(weights)
    if path.parent.name == "checkpoints" and not path.is_file():
        path = card_path(path.parent.parent / "model.safetensors")  # a run has one card for all its weights
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            content = file.read(_BYTES_AT_MOST + 1)
        if len(content) > _BYTES_AT_MOST:
            raise ModelError(f"{path.name} is larger than {_BYTES_AT_MOST // 2**20} MiB, so it is no model card.")
        facts = tomllib.loads(content.decode())
    except OSError as error:
        raise ModelError(f"{path.name} cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, not TOML
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise ModelError(f"{path.name} is not TOML: {reason}.") from error
    return make_card(facts, path.name)


def write_card(weights: str | os.PathLike[str], card: ModelCard) -> Path:
    """Write the card of a weights file or folder, the whole card or nothing; return its path.

    Raises:
        ModelError: the card cannot be written.
    """
    path = card_path(weights)
    document = tomlkit.document()
    for name, value in card.facts().items():
        item = tomlkit.item(value)
        if name == "labels":
            item.multiline(True)  # one class a line, which is easier to edit
        document.add(name, item)
    try:
        with atomic_write(path) as file:
            file.write(tomlkit.dumps(document).encode())
    except OSError as error:
        raise ModelError(f"{path.name} cannot be written: {error.strerror or error}.") from error
    return path


def _first_fault(error: ValidationError) -> str:
    """Return the first fault as "field: what is wrong"."""
    first = error.errors(include_input=False, include_url=False)[0]
    location = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        return f"unknown field {location!r}; known are {', '.join(ModelCard.model_fields)}"
    message = " ".join(first["msg"].removeprefix("Value error, ").split())[:200]
    return f"{location}: {message[:1].lower()}{message[1:]}" if location else message
