"""The models that can be compared: bundled ones, runs, weights files, and any classifier of timm."""

import difflib
import hashlib
import http.client
import math
import os
import threading
import urllib.error
import urllib.request
import weakref
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import huggingface_hub
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from swin_core.class_names import unique_labels
from swin_core.errors import ConfigError, ModelError, WeightsError
from swin_core.images.preprocessing import crop_region, crop_square, normalise, to_float
from swin_core.models.modes import evaluation_mode
from swin_core.models.swin import build
from swin_core.system.cache import LRUCache
from swin_core.weights.files import load_weights, read_config, read_metadata

__all__ = ["Classifier", "available", "describe", "load", "weights_file"]

# timm is imported where it is needed: it would double the time to import this package, and bundled models do without.

ASSETS = Path(str(files("swin_core") / "assets")).resolve()
_TIMM = "timm/"
_PATIENCE = 5.0  # seconds
_LARGEST_INPUT = 4096  # pixels; beyond it a file asks for more memory than anyone has
_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

# One lock a model, however many classifiers hold it: hooks of one explanation must not see another's forward pass.
_locks: "weakref.WeakKeyDictionary[nn.Module, threading.RLock]" = weakref.WeakKeyDictionary()
_locks_guard = threading.Lock()

_descriptions: LRUCache[str] = LRUCache(256)


class Classifier:
    """A model with its preprocessing and the names of its classes.

    Args:
        model: any classifier from `(B, channels, S, S)` to logits `(B, classes)`.
        labels: class names, in the order of the logits; names that occur several times get their index added.
        mean: mean by channel that the input is normalised with, for pixels in 0 to 1.
        std: standard deviation likewise.
        image_size: side S of the input in pixels.
        name: what to call the model.
        crop_fraction: share of the shorter side that the centre crop keeps; above 1 the rest is a black border.
        interpolation: nearest, bilinear, bicubic or lanczos.
        squash: whether the whole image is squeezed into the square instead of cropped.
        description: one line on the model.
        weights_hash: SHA-256 of the weights in hexadecimal; computed from the tensors when it is asked for and empty.

    Raises:
        ConfigError: preprocessing that does not fit together.
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
            raise ConfigError("mean and std need one number a channel, and each std must be above 0.")
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
        self._hash, self._hashed = weights_hash, self._versions()
        with _locks_guard:
            self.lock = _locks.setdefault(model, threading.RLock())

    @classmethod
    def from_timm(cls, model: nn.Module, name: str = "") -> "Classifier":
        """A timm classifier with timm's own preprocessing, and ImageNet's labels where it has such a head.

        Raises:
            ModelError: a model without a head, or one whose input is no square of the image.
        """
        if not getattr(model, "num_classes", 0):
            raise _headless(name or type(model).__name__)
        import timm

        config = timm.data.resolve_data_config({}, model=model)
        if config["input_size"][1] != config["input_size"][2] or config["crop_mode"] not in ("center", "squash"):
            raise ModelError(f"{name or type(model).__name__} takes no square crop of an image; choose another model.")
        settings = getattr(model, "pretrained_cfg", {})
        architecture = settings.get("architecture", type(model).__name__)
        return cls(
            model,
            _timm_labels(model),
            config["mean"],
            config["std"],
            config["input_size"][1],
            name=name or f"{_TIMM}{architecture}",
            crop_fraction=config["crop_pct"],
            interpolation=config["interpolation"] if config["interpolation"] in _RESAMPLING else "bicubic",
            squash=config["crop_mode"] == "squash",
            description=f"{architecture} from timm, {settings.get('tag') or 'no pretrained tag'}",
        )

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        """Where the model's parameters are."""
        return next((p.device for p in self.model.parameters()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the model's parameters, in which it computes."""
        formats = (p.dtype for p in self.model.parameters() if p.is_floating_point())
        return next(formats, torch.float32)

    @property
    def weights_hash(self) -> str:
        """SHA-256 in hexadecimal: of the file that was loaded, or of the tensors where none was or they changed."""
        # Training a loaded model on makes it another one: the tensors' version counters tell.
        versions = self._versions()
        if not self._hash or versions != self._hashed:
            digest = hashlib.sha256()
            for key, value in sorted(self.model.state_dict().items()):
                digest.update(key.encode())
                digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
            self._hash, self._hashed = digest.hexdigest(), versions
        return self._hash

    def _versions(self) -> tuple[int, ...]:
        tensors = (*self.model.parameters(), *self.model.buffers())
        return tuple(0 if tensor.is_inference() else tensor._version for tensor in tensors)

    def region(self, image: Image.Image) -> tuple[int, int, int, int]:
        """The part of the image that the model sees: left, top, right and bottom, in the image's pixels."""
        return crop_region(image.size, self.image_size, self.crop_fraction, self.squash)

    def crop(self, image: Image.Image) -> Image.Image:
        """The part of the image that the model sees, at the image's own resolution."""
        return image.crop(self.region(image))

    def view(self, image: Image.Image) -> np.ndarray:
        """What the model sees, `(S, S, 3)` uint8: resized, then cropped at the centre, as torchvision and timm do."""
        resampling = _RESAMPLING[self.interpolation]
        return np.asarray(crop_square(image, self.image_size, self.crop_fraction, resampling, self.squash))

    def tensor(self, view: np.ndarray) -> Tensor:
        """Normalise views, `([B,] H, W, channels)` uint8, to `(B, channels, H, W)` in the model's `dtype`."""
        if view.shape[-1] != len(self.mean):
            raise ConfigError(f"{self.name} takes {len(self.mean)} channels; the image has {view.shape[-1]}.")
        batch = torch.tensor(view if view.ndim == 4 else view[None], device=self.device)
        return normalise(to_float(batch), self.mean, self.std).to(self.dtype)

    def predict(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Probabilities of images, `(N, classes)` float32."""
        if not images:
            return np.zeros((0, self.num_classes), np.float32)
        batch = torch.cat([self.tensor(self.view(image)) for image in images])
        with self.lock, evaluation_mode(self.model), torch.inference_mode():
            return self.model(batch).float().softmax(-1).cpu().numpy()


def available() -> dict[str, str]:
    """The bundled models, the largest first: name to one line on each."""
    return {file.stem: _description(file) for file in _bundled()}


def _description(file: Path) -> str:
    """The description in the header of a weights file, read once for each state of the file."""
    seen = file.stat()
    key = str(file), seen.st_mtime_ns, seen.st_size
    return _descriptions.get(key, lambda: str(read_metadata(file).get("description", "")))


def weights_file(name: str, runs_root: str | Path = "runs") -> Path:
    """The weights file that a bundled name, a run or a path stands for.

    Args:
        name: a bundled name; a run's folder, or its name under `runs_root`; a weights file; or `timm/<model>`, whose
            weights are fetched if they are not in the cache.
        runs_root: folder of the runs.

    Raises:
        ModelError: there is nothing of that name, or a run that has saved nothing yet.
    """
    if name.startswith(_TIMM):
        return _timm_file(name.removeprefix(_TIMM))
    bundled = {file.stem: file for file in _bundled()}
    if name in bundled:
        return bundled[name]
    for path in (Path(name), Path(runs_root) / name) if name else ():
        if _exists(path / "model.safetensors"):
            return path / "model.safetensors"
        if _exists(path):
            return path
        if _exists(path / "config.json"):
            raise ModelError(f"the run {name[:80]!r} has saved no weights yet; wait for its first epoch to end.")
    near = difflib.get_close_matches(name, bundled, 1)
    hint = f"did you mean {near[0]}?" if near else f"bundled are {', '.join(bundled) or 'none'}."
    raise ModelError(
        f"there is no model {name[:80]!r}: it is no bundled name, run, or weights file, and does not start with "
        f"{_TIMM!r}; {hint}"
    )


def _exists(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long for the file system, or with NUL
        return False


def load(name: str | os.PathLike[str], runs_root: str | Path = "runs") -> Classifier:
    """A classifier, ready to explain, on a GPU where there is one.

    Args:
        name: a bundled name, a run, a weights file, or `timm/<model>` for any classifier that timm has.
        runs_root: folder of the runs.

    Raises:
        ModelError: unknown name, or weights that could not be fetched.
        WeightsError: a file that is no weights file, or damaged.
    """
    name = str(name)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith(_TIMM):
        classifier = Classifier.from_timm(_timm_model(name.removeprefix(_TIMM)), name)
    else:
        classifier = _own(weights_file(name, runs_root), name)
    classifier.model.to(device).eval()
    return classifier


def describe(name: str | os.PathLike[str], runs_root: str | Path = "runs") -> str:
    """One line on a model, without loading it and without the network; names as `load` takes them.

    Raises:
        ModelError: unknown name, or a run that has saved nothing yet.
        WeightsError: a file that is damaged.
    """
    name = str(name)
    if name.startswith(_TIMM):
        settings = _timm_settings(name.removeprefix(_TIMM))
        return f"{settings.architecture} from timm, {settings.tag or 'no pretrained tag'}"
    file = weights_file(name, runs_root)
    return " ".join(_description(file).split()) or f"weights file {file.name}"


def _bundled() -> list[Path]:
    """The largest first, to a tenth of a megabyte, then by name: the pages open with the first two."""
    return sorted(ASSETS.glob("*.safetensors"), key=lambda file: (-round(file.stat().st_size / 1e5), file.name))


def _own(file: Path, name: str) -> Classifier:
    metadata = read_metadata(file)
    config = read_config(file)
    model = build(config)
    report = load_weights(model, file)
    if not config.num_classes:
        raise _headless(name)
    if config.in_chans != 3 and "mean" not in metadata:
        raise WeightsError(f"{file.name!r} takes {config.in_chans} channels; images here have 3.")
    labels = metadata.get("labels") or _labels_by_count(config.num_classes)
    if not (isinstance(labels, list) and len(labels) == config.num_classes):
        raise WeightsError(f"{file.name!r} names other labels than the {config.num_classes} classes of its head.")
    size = metadata.get("image_size", config.image_size)
    try:
        return Classifier(
            model,
            labels,
            [float(value) for value in metadata.get("mean", _IMAGENET[0])],
            [float(value) for value in metadata.get("std", _IMAGENET[1])],
            int(size),
            name=file.parent.name if file.name == "model.safetensors" else Path(name).stem,
            crop_fraction=1.0 if metadata else 0.9,
            description=str(metadata.get("description", report.summary())),
            weights_hash=report.sha256,
        )
    except (ValueError, TypeError, OverflowError) as error:  # metadata can hold any JSON
        raise WeightsError(f"{file.name!r} describes its preprocessing wrongly: {error}") from error


def _headless(name: str) -> ModelError:
    return ModelError(f"{name} has no classification head, so there is no class to explain; choose another model.")


def _labels_by_count(count: int) -> list[str]:
    import timm

    info = timm.data.ImageNetInfo("imagenet-22k" if count == 21841 else "imagenet-1k")
    if count == info.num_classes():
        return [info.index_to_description(index) for index in range(count)]
    return [f"class {index}" for index in range(count)]


def _timm_labels(model: nn.Module) -> list[str]:
    import timm

    subset = timm.data.infer_imagenet_subset(model)
    if subset:
        info = timm.data.ImageNetInfo(subset)
        return [info.index_to_description(index) for index in range(info.num_classes())]
    return [f"class {index}" for index in range(getattr(model, "num_classes", 0))]


def _timm_model(name: str) -> nn.Module:
    import timm

    settings = _timm_settings(name)
    kept = _kept_weights(settings)
    if kept is None and not _reachable(settings):
        raise ModelError(
            f"the weights of {_TIMM}{name} are not on this machine and there is no network to fetch them; connect once "
            "so that they are kept in the cache, or choose a bundled model or a weights file."
        )
    try:
        return timm.create_model(name, pretrained=True, pretrained_cfg_overlay=kept)
    except Exception as error:  # the network's, the hub's and the parsers' own kinds
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        advice = f"delete {kept['file']} and try again" if kept else "try again, or choose a bundled model"
        raise ModelError(f"the weights of {_TIMM}{name} could not be loaded ({reason}); {advice}.") from error


def _timm_file(name: str) -> Path:
    """The file of a timm model's pretrained weights, fetched if it is not in the cache."""
    kept = _kept_weights(_timm_settings(name))
    if kept is None:
        _timm_model(name)
        kept = _kept_weights(_timm_settings(name))
    if kept is None:
        raise ModelError(f"the weights of {_TIMM}{name} come in no file of their own; save them and name the file.")
    return Path(kept["file"])


def _timm_settings(name: str) -> Any:
    """What timm knows about the pretrained weights of a model's name, with or without a tag."""
    import timm

    base = name.split(".")[0]
    if not timm.is_model(base):
        near = difflib.get_close_matches(base, timm.list_models(), 1)
        hint = f"did you mean {_TIMM}{near[0]}?" if near else "timm.list_models() lists them."
        raise ModelError(f"timm has no model {name[:80]!r}; {hint}")
    try:
        settings = timm.models.get_pretrained_cfg(name)
    except RuntimeError:  # no such tag
        settings = None
    if settings is None or not settings.has_weights:
        raise ModelError(f"timm has no pretrained weights for {name[:80]!r}; choose another model or tag of timm.")
    if not settings.num_classes:
        raise _headless(f"{_TIMM}{name}")
    return settings


def _kept_weights(settings: Any) -> dict[str, Any] | None:
    """Weights that an earlier download left in a cache, as settings of timm; a named file spares all network calls."""
    if not settings.hf_hub_id:
        file = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(settings.url).path).name
        return {"file": str(file)} if file.is_file() else None
    for name in (settings.hf_hub_filename, "model.safetensors", "pytorch_model.bin"):
        found = name and huggingface_hub.try_to_load_from_cache(settings.hf_hub_id, name)
        if isinstance(found, str):
            # A loader of timm's own is for the files at `url`; those at the hub are state dicts.
            return {"file": found, "custom_load": False}
    return None


def _reachable(settings: Any) -> bool:
    """Whether the host of the weights answers within a few seconds; the hub's own retries take most of a minute."""
    if settings.hf_hub_id and huggingface_hub.is_offline_mode():
        return False
    host = huggingface_hub.constants.ENDPOINT if settings.hf_hub_id else settings.url
    answers: list[bool] = []
    # In a thread, since no time-out bounds the look-up of a name.
    asking = threading.Thread(target=lambda: answers.append(_answers(host)), daemon=True)
    asking.start()
    asking.join(_PATIENCE)
    return answers == [True]


def _answers(host: str) -> bool:
    try:
        with urllib.request.urlopen(urllib.request.Request(host, method="HEAD"), timeout=_PATIENCE):
            return True
    except (urllib.error.HTTPError, http.client.HTTPException):
        return True  # it answered
    except (OSError, ValueError):
        return False
