"""A classifier: a model with its preprocessing and its class names."""

import hashlib
import math
import threading
import weakref
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from swin_core.class_names import unique_labels
from swin_core.errors import ConfigError, ImageError, ModelError
from swin_core.images.preprocessing import crop_region, crop_square, normalise, to_float
from swin_core.models.modes import evaluation_mode

# timm is imported where it is used: it doubles the time to import this package, and bundled models do not need it.

_LARGEST_INPUT = 4096  # pixels; a larger input would not fit into memory
_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

# One lock for each model, shared by all its classifiers: hooks of one explanation must not see another's forward pass.
_locks: "weakref.WeakKeyDictionary[nn.Module, threading.RLock]" = weakref.WeakKeyDictionary()
# The hash of each model's weights, with the versions of the tensors that it was taken from.
_hashes: "weakref.WeakKeyDictionary[nn.Module, tuple[tuple[int, ...], str]]" = weakref.WeakKeyDictionary()
_guard = threading.Lock()


class Classifier:
    """A model with its preprocessing and its class names.

    Args:
        model: any classifier from `(B, channels, S, S)` to logits `(B, classes)`.
        labels: class names in the order of the logits; repeated names get their index added.
        mean: mean of each channel, for pixels in 0 to 1; the input is normalised with it.
        std: standard deviation of each channel.
        image_size: side S of the input in pixels.
        name: the model's name; by default that of its class.
        crop_fraction: fraction of the shorter side that the centre crop keeps; above 1 the crop has a black border.
        interpolation: "nearest", "bilinear", "bicubic" or "lanczos".
        squash: squeeze the whole image into the square instead of cropping it.
        description: one line about the model.
        weights_hash: SHA-256 of the weights in hexadecimal; by default computed from the tensors when it is read.

    Raises:
        ConfigError: preprocessing that is out of range or inconsistent.
    """

    def __init__(
        self,
        model: nn.Module,
        labels: Sequence[str],
        mean: Sequence[float],
        std: Sequence[float],
        image_size: int,
        *,
        name: str = "",
        crop_fraction: float = 1.0,
        interpolation: str = "bicubic",
        squash: bool = False,
        description: str = "",
        weights_hash: str = "",
    ):
        if len(mean) != len(std) or not all(map(math.isfinite, (*mean, *std))) or min(std, default=0) <= 0:
            raise ConfigError("mean and std need one number per channel, and each std must be above 0.")
        if not 1 <= image_size <= _LARGEST_INPUT or not 0 < crop_fraction <= 2:
            raise ConfigError(f"image_size must be 1 to {_LARGEST_INPUT} pixels, and crop_fraction in (0, 2].")
        if interpolation not in _RESAMPLING:
            raise ConfigError(f"interpolation must be one of {', '.join(_RESAMPLING)}, not {interpolation!r}.")
        self.model = model
        self.labels = unique_labels(labels)
        self.mean, self.std = tuple(mean), tuple(std)
        self.image_size = image_size
        self.name = name or type(model).__name__
        self.crop_fraction, self.interpolation, self.squash = crop_fraction, interpolation, squash
        self.description = description
        with _guard:
            self.lock = _locks.setdefault(model, threading.RLock())
        if weights_hash:
            _hashes[model] = self._versions(), weights_hash

    @classmethod
    def from_timm(cls, model: nn.Module, name: str = "") -> "Classifier":
        """Return a timm model as a classifier with timm's preprocessing, and ImageNet's labels if its head fits.

        Raises:
            ModelError: the model has no head, or its input is not a square.
        """
        import timm

        config = timm.data.resolve_data_config({}, model=model)
        settings = getattr(model, "pretrained_cfg", {})
        architecture = settings.get("architecture", type(model).__name__)
        count = getattr(model, "num_classes", 0)
        if not isinstance(count, int) or not count:
            raise no_head(name or type(model).__name__)
        if config["input_size"][1] != config["input_size"][2] or config["crop_mode"] not in ("center", "squash"):
            raise ModelError(f"{name or type(model).__name__} takes no square crop of an image; choose another model.")
        return cls(
            model,
            default_labels(count),
            config["mean"],
            config["std"],
            config["input_size"][1],
            name=name or f"timm/{architecture}",
            crop_fraction=config["crop_pct"],
            interpolation=config["interpolation"] if config["interpolation"] in _RESAMPLING else "bicubic",
            squash=config["crop_mode"] == "squash",
            description=f"{architecture} from timm, {settings.get('tag') or 'no pretrained tag'}",
        )

    def __repr__(self) -> str:
        """Return one line: name, number of classes, image size, device."""
        return f"<Classifier: {self.name}, {self.num_classes} classes, {self.image_size} pixels, on {self.device}>"

    def to(self, device: str | torch.device) -> "Classifier":
        """Move the model to a device and return this classifier.

        Raises:
            ConfigError: there is no such device.
        """
        try:
            torch.empty(0, device=device)
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
        """Return the pixels that the model sees, `(S, S, 3)` uint8: resized, then cropped at the centre."""
        resampling = _RESAMPLING[self.interpolation]
        return np.asarray(crop_square(image, self.image_size, self.crop_fraction, resampling, self.squash))

    def tensor(self, view: np.ndarray) -> Tensor:
        """Return normalised views, `(B, channels, H, W)` in the model's `dtype`, from `([B,] H, W, channels)` uint8."""
        if view.shape[-1] != len(self.mean):
            raise ConfigError(f"{self.name} takes {len(self.mean)} channels; the image has {view.shape[-1]}.")
        batch = torch.tensor(view if view.ndim == 4 else view[None], device=self.device)
        return normalise(to_float(batch), self.mean, self.std).to(self.dtype)

    def predict(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Return the class probabilities of images, `(N, classes)` float32."""
        if isinstance(images, Image.Image | str | bytes) or not all(isinstance(image, Image.Image) for image in images):
            raise ImageError("predict takes a list of PIL images; swin_core.read_image reads one from a file.")
        if not images:
            return np.zeros((0, self.num_classes), np.float32)
        batch = torch.cat([self.tensor(self.view(image)) for image in images])
        with self.lock, evaluation_mode(self.model), torch.inference_mode():
            return self.model(batch).float().softmax(-1).cpu().numpy()


def default_labels(count: int) -> list[str]:
    """Return ImageNet's class names if a data set of its family has `count` classes, else "class 0", "class 1", ..."""
    import timm

    subset = timm.data.infer_imagenet_subset({"num_classes": count})
    if subset is None:
        return [f"class {index}" for index in range(count)]
    info = timm.data.ImageNetInfo(subset)
    return [info.index_to_description(index) for index in range(count)]


def no_head(name: str) -> ModelError:
    """Return the error for a model without a classification head."""
    return ModelError(f"{name} has no classification head, so there is no class to explain; choose another model.")
