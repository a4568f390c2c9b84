"""A classifier: a model with its preprocessing and its class names."""

import copy
import hashlib
import math
import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from swin_core.class_names import unique_labels
from swin_core.errors import ConfigError, ImageError, ModelError
from swin_core.images.preprocessing import crop_region, crop_square, grey, normalise, to_float
from swin_core.models.config import PRECISIONS
from swin_core.models.precision import many_images, uses_bfloat16
from swin_core.system.batches import images_at_once
from swin_core.zoo.contract import (
    ACTIVATIONS,
    LogitsModel,
    Trial,
    activate,
    expected_channels,
    expected_size,
    inner_model,
    settle,
    unwrapped,
)
from swin_core.zoo.labels import labels_of

# timm is imported where it is used: it doubles the time to import this package, and bundled models do not need it.

IMAGENET_COUNTS = (1000, 11221, 11821, 21841, 21842, 21843)
"""Numbers of classes of the ImageNet data sets that timm can name."""
LARGEST_INPUT = 1536
"""Largest side of an input, in pixels; at 4096, a file whose metadata asks for it would take more than 6 GB."""
_SMALLEST_STD = 1e-7  # a smaller one turns rounding errors of pixels into large inputs
RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
"""Pillow's filters by the names of `interpolation`."""

# One lock for each model, shared by all its classifiers: hooks of one explanation must not see another's forward pass.
_locks: "weakref.WeakKeyDictionary[nn.Module, threading.RLock]" = weakref.WeakKeyDictionary()
# The hash of each model's weights, with the versions of the tensors that it was taken from.
_hashes: "weakref.WeakKeyDictionary[nn.Module, tuple[tuple[int, ...], str]]" = weakref.WeakKeyDictionary()
_guard = threading.Lock()


class Classifier:
    """A model with its preprocessing and its class names.

    A trial image passes through the model once, which settles how its output becomes logits. `logits_model` is the
    module from images to logits `(B, classes)` that everything uses; `model` is the bare model, whose layers have the
    names that users know: the one inside `DataParallel`, `AveragedModel` or a compiled model.

    Args:
        model: any classifier of images `(B, channels, S, S)`, in any precision. It may return logits `(B, classes)`, a
            tuple, a dictionary or an object that holds them, or end in a softmax or sigmoid, which is not applied
            twice. A single logit is that of the second of two classes.
        labels: class names in the order of the logits, also as an array, `{index: name}` or `{name: index}`; repeated
            names get their index added. None names the classes "class 0", "class 1" and so on. A single logit takes
            two names, or one, which stands for the class of positive logits.
        mean: mean of each channel, or of all, for pixels in 0 to 1; the input is normalised with it. With a value above
            1, pixels are in 0 to 255, or in 0 to 65535.
        std: standard deviation of each channel, or of all.
        image_size: side S of the input in pixels.
        name: the model's name; by default that of its class.
        crop_fraction: fraction of the shorter side that the centre crop keeps; above 1 the crop has a black border.
        interpolation: "nearest", "bilinear", "bicubic" or "lanczos".
        squash: squeeze the whole image into the square instead of cropping it.
        description: one line about the model.
        weights_hash: SHA-256 of the weights in hexadecimal; by default computed from the tensors when it is read.
        activation: "softmax" for one class of all, "sigmoid" for each class on its own, "none" for a regression, whose
            outputs are shown as they are. None: the one that the model ends in; else "sigmoid" for a single logit and
            "softmax" for several.
        output: key or index of the logits in the model's output; by default "logits" or the first that fits.
        precision: of matrix products where only the outputs count: `predict`, predictions and features of a data set,
            audit and trust. "auto" is bfloat16 on devices that have it and for models in float32; "float32";
            "bfloat16". Explanations take the model's own. By default `SWIN_PRECISION`, else "auto".

    Raises:
        ConfigError: an argument that is out of range, or that contradicts another one.
        ModelError: the model does not take images of this size and these channels, returns no logits, or has another
            number of classes.
    """

    def __init__(
        self,
        model: nn.Module,
        labels: Sequence[str] | Mapping[Any, Any] | np.ndarray | None,
        mean: Sequence[float] | float,
        std: Sequence[float] | float,
        image_size: int,
        *,
        name: str = "",
        crop_fraction: float = 1.0,
        interpolation: str = "bicubic",
        squash: bool = False,
        description: str = "",
        weights_hash: str = "",
        activation: str | None = None,
        output: str | int | None = None,
        precision: str = "",
    ):
        if not isinstance(model, nn.Module):
            raise ConfigError(f"a classifier needs a torch module, not {type(model).__name__}.")
        model = unwrapped(model)
        self.mean, self.std = _per_channel(mean, std, expected_channels(model) or 3)
        if not min(self.std) >= _SMALLEST_STD or not all(map(math.isfinite, (*self.mean, *self.std))):
            raise ConfigError("mean and std need one finite number per channel, and each std must be above 0.")
        self.image_size = _side(image_size)
        if not isinstance(crop_fraction, int | float):
            raise ConfigError(f"crop_fraction is a number in (0, 2], not {str(crop_fraction)[:40]!r}.")
        if not 1 <= self.image_size <= LARGEST_INPUT or not 0 < crop_fraction <= 2:
            raise ConfigError(f"image_size must be 1 to {LARGEST_INPUT} pixels, and crop_fraction in (0, 2].")
        if interpolation not in RESAMPLING:
            raise ConfigError(f"interpolation must be one of {', '.join(RESAMPLING)}, not {interpolation!r}.")
        if activation not in (None, *ACTIVATIONS):
            raise ConfigError(f"activation must be one of {', '.join(ACTIVATIONS)}, not {activation!r}.")
        self.precision = chosen_precision(precision)
        self.model = model
        self.name = name or type(model).__name__
        self.crop_fraction, self.interpolation, self.squash = crop_fraction, interpolation, squash
        self.description = description
        largest = max(*self.mean, *self.std)
        self.white = 1.0 if largest <= 1 else 255.0 if largest <= 255 else 65535.0
        """Value of a white pixel in the units of mean and std."""
        with _guard:
            self.lock = _locks.setdefault(model, threading.RLock())
        names = None if labels is None else _listed(labels)
        trial = Trial(
            self.name, len(self.mean), self.image_size, None if names is None else len(names), activation, output
        )
        with self.lock:
            self.logits_model, classes, self.activation = settle(model, trial)
        pair = isinstance(self.logits_model, LogitsModel) and self.logits_model.pair
        self.labels = unique_labels(_named(names, classes, pair, self.activation, self.name))
        if weights_hash:
            _hashes[model] = self._versions(), weights_hash

    @classmethod
    def from_timm(cls, model: nn.Module, name: str = "") -> "Classifier":
        """Return a timm model as a classifier with timm's preprocessing, and ImageNet's labels if its head fits.

        Raises:
            ModelError: the model has no head, or its input is not a square.
        """
        settings = getattr(model, "pretrained_cfg", {})
        architecture = settings.get("architecture", type(model).__name__)
        count = getattr(model, "num_classes", 0)
        if not isinstance(count, int) or not count:
            raise no_head(name or type(model).__name__)
        preprocessing = timm_preprocessing(model, name or type(model).__name__)
        if expected_channels(model) not in (None, len(preprocessing["mean"])):  # timm's numbers are those of RGB
            preprocessing |= {key: sum(preprocessing[key]) / len(preprocessing[key]) for key in ("mean", "std")}
        return cls(
            model,
            default_labels(count),
            **preprocessing,
            name=name or f"timm/{architecture}",
            description=f"{architecture} from timm, {settings.get('tag') or 'no pretrained tag'}",
        )

    def copy(self) -> "Classifier":
        """Return this classifier with a copy of its model."""
        twin = copy.copy(self)
        twin.logits_model = copy.deepcopy(self.logits_model)
        twin.model = inner_model(twin.logits_model)
        with _guard:
            twin.lock = _locks.setdefault(twin.model, threading.RLock())
        return twin

    def __repr__(self) -> str:
        """Return one line: name, number of classes, image size, device."""
        return f"<Classifier: {self.name}, {self.num_classes} classes, {self.image_size} pixels, on {self.device}>"

    def to(self, device: str | torch.device) -> "Classifier":
        """Move the model to a device and return this classifier.

        Raises:
            ConfigError: there is no such device.
        """
        try:
            if torch.empty(0, device=device).is_meta:
                raise RuntimeError("tensors on it have no values")
        except (AssertionError, RuntimeError, TypeError) as error:
            here = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
            raise ConfigError(f"there is no device {str(device)[:40]!r} here; available: {', '.join(here)}.") from error
        with self.lock:
            self.model.to(device)
        return self

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        """Device of the model's parameters."""
        return next((p.device for p in self.model.parameters()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the model's parameters, in which it computes."""
        return next((p.dtype for p in self.model.parameters() if p.is_floating_point()), torch.float32)

    @property
    def uses_bfloat16(self) -> bool:
        """Whether `precision` means bfloat16 for this model on its device."""
        return self.dtype == torch.float32 and uses_bfloat16(self.precision, self.device)

    @property
    def products(self) -> str:
        """Type of the matrix products of batches, "bfloat16" or the model's `dtype`, for records of measurements."""
        return "bfloat16" if self.uses_bfloat16 else str(self.dtype).removeprefix("torch.")

    def many_images(self) -> AbstractContextManager[None]:
        """Return the context of forward passes of which only the outputs are used, in `precision`."""
        return many_images(self.model, self.device, self.uses_bfloat16)

    @property
    def weights_hash(self) -> str:
        """SHA-256 in hexadecimal of the loaded file, or of the tensors if there was none or they have changed."""
        versions = self._versions()  # training increments the tensors' version counters
        before, digest = _hashes.get(self.model, (None, ""))
        if before != versions:
            sha256 = hashlib.sha256()
            for key, value in sorted(self.model.state_dict().items()):
                sha256.update(key.encode())
                sha256.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
            digest = sha256.hexdigest()
            _hashes[self.model] = versions, digest
        return digest

    def _versions(self) -> tuple[int, ...]:
        tensors = (*self.model.parameters(), *self.model.buffers())
        return tuple(0 if tensor.is_inference() else tensor._version for tensor in tensors)

    def region(self, image: Image.Image) -> tuple[int, int, int, int]:
        """Return the part of an image that the model sees, in pixels: left, top, right, bottom."""
        return crop_region(image.size, self.image_size, self.crop_fraction, self.squash)

    def crop(self, image: Image.Image) -> Image.Image:
        """Return the part of an image that the model sees, at the image's own resolution."""
        return image.crop(self.region(image))

    def view(self, image: Image.Image) -> np.ndarray:
        """Return the pixels that the model sees, `(S, S, 3)` uint8: resized, then cropped at the centre.

        For a model of one channel they are grey.
        """
        resampling = RESAMPLING[self.interpolation]
        pixels = np.asarray(crop_square(image, self.image_size, self.crop_fraction, resampling, self.squash))
        return grey(pixels).repeat(3, -1) if len(self.mean) == 1 else pixels

    def tensor(self, view: np.ndarray) -> Tensor:
        """Return normalised views, `(B, channels, H, W)` in the model's `dtype`.

        Args:
            view: `([B,] H, W, channels)` uint8, or floats in the units of `mean`. For a model of one channel, RGB
                becomes grey.

        Raises:
            ConfigError: the view has other channels than the model.
        """
        if len(self.mean) == 1 and view.shape[-1] == 3 and view.dtype == np.uint8:
            view = grey(view)
        if view.shape[-1] != len(self.mean):
            raise ConfigError(f"{self.name} takes {len(self.mean)} channels; the image has {view.shape[-1]}.")
        batch = torch.tensor(view if view.ndim == 4 else view[None], device=self.device)
        pixels = to_float(batch)
        if batch.dtype == torch.uint8 and self.white != 1:
            pixels = pixels * self.white
        return normalise(pixels, self.mean, self.std).to(self.dtype)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the probabilities of logits `(..., classes)`, float32; the outputs themselves of a regression.

        Raises:
            ModelError: they are not finite.
        """
        probabilities = activate(logits, self.activation).float()
        if not probabilities.isfinite().all():
            raise ModelError(
                f"{self.name} gives numbers that are not finite: its weights are damaged, or mean and std do not fit."
            )
        return probabilities

    def predict(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Return the class probabilities of images, `(N, classes)` float32; of a regression its outputs.

        Raises:
            ModelError: they are not finite.
        """
        if isinstance(images, Image.Image | str | bytes) or not all(isinstance(image, Image.Image) for image in images):
            raise ImageError("predict takes a list of PIL images; swin_core.read_image reads one from a file.")
        if not images:
            return np.zeros((0, self.num_classes), np.float32)
        step = images_at_once(self.device, self.image_size, most=len(images))
        results = []
        for start in range(0, len(images), step):
            batch = torch.cat([self.tensor(self.view(image)) for image in images[start : start + step]])
            # Not in inference mode, since some models keep tensors for later passes, which may need gradients.
            with self.lock, self.many_images():
                results.append(self.probabilities(self.logits_model(batch)).cpu().numpy())
        return np.concatenate(results)


def _per_channel(mean: Any, std: Any, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std as one number per channel; a single number stands for all channels."""
    try:
        given = [
            np.asarray(list(values.values()) if isinstance(values, Mapping) else values, dtype=float)
            for values in (mean, std)
        ]
    except (TypeError, ValueError) as error:
        raise ConfigError("mean and std need one number per channel, or one for all.") from error
    channels = max([len(values) for values in given if values.ndim == 1], default=channels)
    each = [tuple((np.full(channels, values) if values.ndim == 0 else values.ravel()).tolist()) for values in given]
    if any(values.ndim > 1 for values in given) or len(each[0]) != len(each[1]) or not channels:
        raise ConfigError("mean and std need one number per channel, or one for all.")
    return each[0], each[1]


def chosen_precision(precision: str = "") -> str:
    """Return a precision that was asked for, else `SWIN_PRECISION`, else "auto".

    Raises:
        ConfigError: it is none of `PRECISIONS`.
    """
    chosen = precision or os.environ.get("SWIN_PRECISION") or "auto"
    if chosen not in PRECISIONS:
        asked = "precision" if precision else "SWIN_PRECISION"
        raise ConfigError(f"{asked} must be one of {', '.join(PRECISIONS)}, not {chosen[:40]!r}.")
    return chosen


def _side(image_size: Any) -> int:
    """Return the side of the model's input in pixels, also from a text or from equal sides."""
    sides = list(image_size) if isinstance(image_size, list | tuple | np.ndarray) else [image_size]
    try:
        numbers = {int(side) for side in sides}
        exact = all(float(side) == int(side) for side in sides)
    except (TypeError, ValueError, OverflowError):
        numbers, exact = set(), False
    if len(numbers) != 1 or not exact:
        raise ConfigError(f"image_size is the side of a square in pixels, such as 224, not {str(image_size)[:40]!r}.")
    return numbers.pop()


def _listed(labels: Sequence[str] | Mapping[Any, Any] | np.ndarray) -> list[str]:
    """Return class names in the order of their indices, from a sequence, `{index: name}` or `{name: index}`."""
    if not isinstance(labels, Mapping):
        # A set has no order, so its names would belong to other classes in another run.
        if not isinstance(labels, Sequence | np.ndarray) or (np.ndim(labels) == 0 and not isinstance(labels, str)):
            raise ConfigError(f"labels are a list of class names, not {type(labels).__name__}.")
        return [str(label) for label in labels]
    names = labels_of(labels)
    if names is None:
        raise ConfigError("labels as a dictionary need the indices 0, 1, 2 and so on, each once.")
    return names


def _named(labels: list[str] | None, classes: int | None, pair: bool, activation: str, name: str) -> list[str]:
    """Return one name for each class.

    Raises:
        ModelError: there is another number of labels.
    """
    if classes is None:
        return labels or []
    if labels is None:
        if activation == "none":
            return ["output"] if classes == 1 else [f"output {index}" for index in range(classes)]
        return [f"class {index}" for index in range(classes)]
    if len(labels) == 1 and pair:
        return [f"not {labels[0]}", labels[0]]
    if len(labels) != classes:
        raise ModelError(f"{name} has {classes} classes; {len(labels)} labels were given.")
    return labels


def default_labels(count: int) -> list[str]:
    """Return ImageNet's class names if a data set of its family has `count` classes, else "class 0", "class 1", ..."""
    if count not in IMAGENET_COUNTS:
        return [f"class {index}" for index in range(count)]
    import timm  # only then, since it takes seconds to load

    subset = timm.data.infer_imagenet_subset({"num_classes": count})
    assert subset is not None
    info = timm.data.ImageNetInfo(subset)
    return [info.index_to_description(index) for index in range(count)]


def timm_preprocessing(model: nn.Module, name: str) -> dict[str, Any]:
    """Return timm's preprocessing for a model, as arguments of `Classifier`.

    Raises:
        ModelError: its input is not a square.
    """
    import timm

    config = timm.data.resolve_data_config({}, model=model)
    height, width = config["input_size"][1:]
    size = expected_size(model)  # it may have been created with another one than its weights had
    if (size is None and height != width) or config["crop_mode"] not in ("center", "squash"):
        raise ModelError(f"{name} takes no square crop of an image; choose another model.")
    return {
        "mean": config["mean"],
        "std": config["std"],
        "image_size": size or height,
        "crop_fraction": config["crop_pct"],
        "interpolation": config["interpolation"] if config["interpolation"] in RESAMPLING else "bicubic",
        "squash": config["crop_mode"] == "squash",
    }


def no_head(name: str) -> ModelError:
    """Return the error for a model without a classification head."""
    return ModelError(f"{name} has no classification head, so there is no class to explain; choose another model.")
