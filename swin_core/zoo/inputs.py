"""Images and models as callers have them: PIL images, paths, bytes, arrays, tensors; classifiers and bare modules."""

import os
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from swin_core.errors import ConfigError, ImageError
from swin_core.images.arrays import read_array
from swin_core.images.preprocessing import crop_square
from swin_core.images.read import read_image
from swin_core.zoo.classifier import RESAMPLING, Classifier

ImageInput: TypeAlias = "Image.Image | str | os.PathLike[str] | bytes | np.ndarray | Tensor"

_LARGEST_SIDE = 512  # pixels of the image kept for figures; enough for a cell on a screen


@dataclass(frozen=True)
class PreparedImage:
    """An image as one classifier sees it."""

    x: Tensor
    """The model's input, `(1, channels, H, W)`, normalised."""
    view: np.ndarray
    """The pixels that the model sees, `(H, W, 3)` uint8."""
    image: np.ndarray
    """The same part of the image at its own resolution, at most 512 pixels per side, `(h0, w0, 3)` uint8."""
    region: tuple[int, int, int, int]
    """The part of the image that the model sees, in pixels: left, top, right, bottom."""


def as_classifier(model: Classifier | nn.Module, image: ImageInput) -> Classifier:
    """Return the classifier of a model.

    A model of timm brings its preprocessing. Any other bare module explains normalised tensors only; its classes are
    named "class 0", "class 1" and so on.

    Raises:
        ConfigError: a bare module without preprocessing and an image that is not a normalised tensor.
        ModelError: the module is no classifier of such images.
    """
    if isinstance(model, Classifier):
        return model
    if not isinstance(model, nn.Module):
        raise ConfigError(f"explain takes a Classifier or a torch module, not {type(model).__name__}.")
    if getattr(model, "pretrained_cfg", None) or getattr(model, "default_cfg", None):
        return Classifier.from_timm(model)
    if not is_normalised(image):
        raise ConfigError(
            f"{type(model).__name__} brings no preprocessing, so an image cannot be normalised for it: wrap it in "
            "swin_core.Classifier(model, labels, mean, std, image_size), or pass a normalised tensor."
        )
    assert isinstance(image, Tensor)
    if image.dim() not in (3, 4) or not image.numel():
        raise ImageError(f"a tensor of shape {tuple(image.shape)} is no image (C, H, W).")
    # The view spreads the tensor's own range over 0 to 255, as its normalisation is unknown.
    low, high = float(image.min()), float(image.max())
    scale = 1 / (high - low) if high > low else 1.0
    channels = image.shape[-3]
    classifier = Classifier(model, None, [-low * scale] * channels, [scale] * channels, image.shape[-2])
    classifier.white = 1.0
    return classifier


def prepare(classifier: Classifier, image: ImageInput) -> PreparedImage:
    """Return an image as a classifier sees it.

    Args:
        classifier: the model with its preprocessing.
        image: a PIL image, a path, or the bytes of an image file; an array or a uint8 tensor, `(H, W)`, `(H, W, C)` or
            `(C, H, W)`, uint8 or floats in 0 to 1; or a float tensor, `(C, H, W)`, which is taken as normalised. Arrays
            and tensors may have a batch dimension of 1. A model of other than 3 channels takes arrays, and `.npy`,
            `.npz` and TIFF files, of its own channels, with floats in the units of its mean.

    Raises:
        ImageError: not an image, or one of a single colour.
        ConfigError: a tensor whose channels are not the model's.
    """
    if is_normalised(image):
        assert isinstance(image, Tensor)
        prepared = _from_normalised(classifier, image)
    elif (array := _native_array(classifier, image)) is not None:
        prepared = _from_array(classifier, array)
    else:
        rgb = as_image(image)
        view = classifier.view(rgb)
        crop = classifier.crop(rgb)
        crop.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE))
        prepared = PreparedImage(classifier.tensor(view), view, np.asarray(crop), classifier.region(rgb))
    if (prepared.view == prepared.view[:1, :1]).all():
        raise ImageError("the image has a single colour, so there is nothing to explain; choose another one.")
    return prepared


def as_image(image: ImageInput) -> Image.Image:
    """Return an RGB image from anything but a normalised tensor; see `prepare`."""
    if isinstance(image, str | os.PathLike | bytes):
        image = read_image(image)
    if isinstance(image, Tensor):
        image = image.detach().cpu().numpy()
    if isinstance(image, np.ndarray):
        image = Image.fromarray(_pixels(image))
    if not isinstance(image, Image.Image):
        raise ImageError(f"an image is a PIL image, a path, bytes, an array or a tensor, not {type(image).__name__}.")
    return image.convert("RGB")


def is_normalised(image: ImageInput) -> bool:
    """Return whether an image is a tensor that needs no preprocessing."""
    return isinstance(image, Tensor) and image.is_floating_point()


def _pixels(array: np.ndarray) -> np.ndarray:
    """Return an array as uint8 pixels, `(H, W)` or `(H, W, C)`."""
    shape = array.shape
    if array.ndim == 4 and len(array) == 1:
        array = array[0]
    if array.ndim == 3 and array.shape[2] not in (1, 3, 4) and array.shape[0] in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))) or not array.size:
        raise ImageError(f"an array of shape {shape} is no image; use (H, W, 3) or (3, H, W).")
    if np.issubdtype(array.dtype, np.floating):
        if not (array.min() >= 0 and array.max() <= 1):  # NaN fails too
            raise ImageError("a float array must hold 0 to 1; pass a normalised image as a tensor.")
        array = np.rint(255 * array).astype(np.uint8)
    if array.dtype != np.uint8:
        raise ImageError(f"an array of {array.dtype} is no image; use uint8, or floats in 0 to 1.")
    return np.ascontiguousarray(array)


def _native_array(classifier: Classifier, image: ImageInput) -> np.ndarray | None:
    """Return an image that is an array of the model's own channels, `(H, W, channels)`; None for any other image."""
    channels = len(classifier.mean)
    if isinstance(image, str | os.PathLike):
        suffix = os.fspath(image).lower().rpartition(".")[2]
        if suffix in ("npy", "npz") or (suffix in ("tif", "tiff") and channels not in (1, 3)):
            array = read_array(image)
            if array.shape[2] != channels:
                raise ConfigError(f"{classifier.name} takes {channels} channels; the image has {array.shape[2]}.")
            return array
        return None
    if isinstance(image, Tensor):
        image = image.detach().cpu().numpy()
    if not isinstance(image, np.ndarray) or channels == 3:
        return None
    array = image[0] if image.ndim == 4 and len(image) == 1 else image
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim == 3 and array.shape[2] != channels and array.shape[0] == channels:
        array = array.transpose(1, 2, 0)
    return array if array.ndim == 3 and array.shape[2] == channels and array.size else None


def _from_array(classifier: Classifier, array: np.ndarray) -> PreparedImage:
    """Return `(H, W, channels)` of the model's own channels, uint8 or numbers in the units of the mean, as it sees it.

    Figures show the first three channels.
    """
    if array.dtype != np.uint8:
        array = array.astype(np.float32)
        if not np.isfinite(array).all():
            raise ImageError("the array contains NaN or infinity.")
    resampling = RESAMPLING[classifier.interpolation]
    view = np.stack(
        [
            np.asarray(
                crop_square(
                    Image.fromarray(np.ascontiguousarray(plane)),
                    classifier.image_size,
                    classifier.crop_fraction,
                    resampling,
                    classifier.squash,
                )
            )
            for plane in np.moveaxis(array, 2, 0)
        ],
        axis=2,
    )
    shown = [min(channel, array.shape[2] - 1) for channel in range(3)]

    def as_rgb(values: np.ndarray) -> np.ndarray:
        values = values[:, :, shown]
        if values.dtype == np.uint8:
            return values
        return np.rint(255 * np.clip(values / classifier.white, 0, 1)).astype(np.uint8)

    whole = Image.fromarray(as_rgb(array))
    crop = classifier.crop(whole)
    crop.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE))
    return PreparedImage(classifier.tensor(view), as_rgb(view), np.asarray(crop), classifier.region(whole))


def _from_normalised(classifier: Classifier, tensor: Tensor) -> PreparedImage:
    x = tensor.detach()[None] if tensor.dim() == 3 else tensor.detach()
    if x.dim() != 4 or len(x) != 1:
        raise ImageError(
            f"a tensor of shape {tuple(tensor.shape)} is no single image (C, H, W); explain_batch takes several."
        )
    if not x.isfinite().all():
        raise ImageError("the tensor contains NaN or infinity.")
    channels = len(classifier.mean)
    if x.shape[1] != channels:
        raise ConfigError(f"{classifier.name} takes {channels} channels; the tensor has {x.shape[1]}.")
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (classifier.mean, classifier.std))
    planes = ((x[0].float().cpu() * std + mean) / classifier.white).clamp(0, 1)
    rgb = planes[[min(channel, channels - 1) for channel in range(3)]]
    view = (255 * rgb).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    height, width = view.shape[:2]
    return PreparedImage(x.to(classifier.device, classifier.dtype), view, view, (0, 0, width, height))
