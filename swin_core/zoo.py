"""The models that can be compared: bundled ones, runs, weights files, and any classifier of timm."""

import difflib
import hashlib
import threading
import urllib.error
import urllib.request
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import timm
import torch
from PIL import Image
from torch import Tensor, nn

from swin_core.errors import ConfigError, ModelError, WeightsError
from swin_core.model import build
from swin_core.modes import evaluation_mode
from swin_core.weights import load_weights, read_config, read_metadata

__all__ = ["Classifier", "available", "load", "weights_file"]

ASSETS = Path(__file__).resolve().parent.parent / "assets"
_TIMM = "timm/"
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


class Classifier:
    """A model with its preprocessing and the names of its classes.

    Args:
        model: any classifier from `(B, channels, S, S)` to logits `(B, classes)`.
        labels: class names, in the order of the logits.
        mean: mean by channel that the input is normalised with, for pixels in 0 to 1.
        std: standard deviation likewise.
        image_size: side S of the input in pixels.
        name: what to call the model.
        crop_fraction: share of the shorter side that the centre crop keeps.
        interpolation: nearest, bilinear, bicubic or lanczos.
        squash: whether the whole picture is squeezed into the square instead of cropped.
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
        if len(mean) != len(std) or min(std, default=0) <= 0:
            raise ConfigError("mean and std need one number a channel, and each std must be above 0.")
        if image_size < 1 or not 0 < crop_fraction <= 1:
            raise ConfigError("image_size must be at least 1, and crop_fraction in (0, 1].")
        if interpolation not in _RESAMPLING:
            raise ConfigError(f"interpolation must be one of {', '.join(_RESAMPLING)}, not {interpolation!r}.")
        self.model = model
        self.labels = tuple(str(label) for label in labels)
        self.mean, self.std = tuple(mean), tuple(std)
        self.image_size = image_size
        self.name = name or type(model).__name__
        self.crop_fraction, self.interpolation, self.squash = crop_fraction, interpolation, squash
        self.description = description
        self._hash = weights_hash
        with _locks_guard:
            self.lock = _locks.setdefault(model, threading.RLock())

    @classmethod
    def from_timm(cls, model: nn.Module, name: str = "") -> "Classifier":
        """A timm classifier with timm's own preprocessing, and ImageNet's labels where it has such a head."""
        config = timm.data.resolve_data_config({}, model=model)
        settings = getattr(model, "pretrained_cfg", {})
        architecture = settings.get("architecture", type(model).__name__)
        return cls(
            model,
            _timm_labels(model),
            config["mean"],
            config["std"],
            max(config["input_size"][1:]),
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
    def weights_hash(self) -> str:
        """SHA-256 in hexadecimal: of the file that was loaded, else of the tensors."""
        if not self._hash:
            digest = hashlib.sha256()
            for key, value in sorted(self.model.state_dict().items()):
                digest.update(key.encode())
                digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
            self._hash = digest.hexdigest()
        return self._hash

    def crop(self, image: Image.Image) -> Image.Image:
        """The part of the picture that the model sees, at the picture's own resolution."""
        if self.squash:
            return image
        side = min(image.size) * self.crop_fraction
        left, top = ((length - side) / 2 for length in image.size)
        return image.crop((round(left), round(top), max(round(left + side), 1), max(round(top + side), 1)))

    def view(self, image: Image.Image) -> np.ndarray:
        """What the model sees, `(S, S, 3)` uint8: resized, then cropped at the centre, as torchvision and timm do."""
        size = self.image_size
        method = _RESAMPLING[self.interpolation]
        if self.squash:
            return np.asarray(image.resize((size, size), method))
        shorter = int(size / self.crop_fraction)
        width, height = image.size
        scaled = (
            (shorter, max(1, int(shorter * height / width)))
            if width <= height
            else (max(1, int(shorter * width / height)), shorter)
        )
        left, top = (round((length - size) / 2) for length in scaled)
        return np.asarray(image.resize(scaled, method).crop((left, top, left + size, top + size)))

    def tensor(self, view: np.ndarray) -> Tensor:
        """Normalise a view: `(H, W, channels)` uint8 to `(1, channels, H, W)` float32 on the model's device."""
        if view.shape[2] != len(self.mean):
            raise ConfigError(f"{self.name} takes {len(self.mean)} channels; the picture has {view.shape[2]}.")
        pixels = torch.tensor(view, device=self.device).permute(2, 0, 1)[None].float() / 255
        mean, std = (torch.tensor(values, device=self.device).view(1, -1, 1, 1) for values in (self.mean, self.std))
        return (pixels - mean) / std

    def predict(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Probabilities of pictures, `(N, classes)` float32."""
        if not images:
            return np.zeros((0, self.num_classes), np.float32)
        batch = torch.cat([self.tensor(self.view(image)) for image in images])
        with self.lock, evaluation_mode(self.model), torch.inference_mode():
            return self.model(batch).float().softmax(-1).cpu().numpy()


def available() -> dict[str, str]:
    """The bundled models: name to one line on each."""
    return {file.stem: read_metadata(file).get("description", "") for file in _bundled()}


def weights_file(name: str, runs_root: str | Path = "runs") -> Path:
    """The weights file that a bundled name, a run or a path stands for.

    Args:
        name: a bundled name; a run's folder, or its name under `runs_root`; or a weights file.
        runs_root: folder of the runs.

    Raises:
        ModelError: there is nothing of that name.
    """
    bundled = {file.stem: file for file in _bundled()}
    if name in bundled:
        return bundled[name]
    if name and "\0" not in name:
        for path in (Path(name), Path(runs_root) / name):
            if path.is_dir() and (path / "model.safetensors").is_file():
                return path / "model.safetensors"
            if path.is_file():
                return path
    near = difflib.get_close_matches(name, bundled, 1)
    hint = f"did you mean {near[0]}?" if near else f"bundled are {', '.join(bundled) or 'none'}."
    raise ModelError(
        f"there is no model {name[:80]!r}: it is no bundled name, run, or weights file, and does not start with "
        f"{_TIMM!r}; {hint}"
    )


def load(name: str, runs_root: str | Path = "runs") -> Classifier:
    """A classifier, ready to explain, on a GPU where there is one.

    Args:
        name: a bundled name, a run, a weights file, or `timm/<model>` for any classifier that timm has.
        runs_root: folder of the runs.

    Raises:
        ModelError: unknown name, or weights that could not be fetched.
        WeightsError: a file that is no weights file, or damaged.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith(_TIMM):
        classifier = Classifier.from_timm(_timm_model(name.removeprefix(_TIMM)), name)
    else:
        classifier = _own(weights_file(name, runs_root), name)
    classifier.model.to(device).eval()
    return classifier


def _bundled() -> list[Path]:
    return sorted(ASSETS.glob("*.safetensors"))


def _own(file: Path, name: str) -> Classifier:
    metadata = read_metadata(file)
    config = read_config(file)
    model = build(config)
    report = load_weights(model, file)
    if not config.num_classes:
        raise WeightsError(f"{file.name!r} has no classification head, so there is no class to explain.")
    labels = metadata.get("labels") or _labels_by_count(config.num_classes)
    mean, std = metadata.get("mean", _IMAGENET[0]), metadata.get("std", _IMAGENET[1])
    if not (isinstance(labels, list | tuple) and len(labels) == config.num_classes):
        raise WeightsError(f"{file.name!r} names other labels than the {config.num_classes} classes of its head.")
    if config.in_chans != 3:
        raise WeightsError(f"{file.name!r} takes {config.in_chans} channels; pictures here have 3.")
    return Classifier(
        model,
        labels,
        mean,
        std,
        int(metadata.get("image_size", config.image_size)),
        name=file.parent.name if file.name == "model.safetensors" else Path(name).stem,
        crop_fraction=1.0 if metadata else 0.9,
        description=str(metadata.get("description", report.summary())),
        weights_hash=report.sha256,
    )


def _labels_by_count(count: int) -> list[str]:
    info = timm.data.ImageNetInfo("imagenet-22k" if count == 21841 else "imagenet-1k")
    if count == info.num_classes():
        return [info.index_to_description(index) for index in range(count)]
    return [f"class {index}" for index in range(count)]


def _timm_labels(model: nn.Module) -> list[str]:
    subset = timm.data.infer_imagenet_subset(model)
    if subset:
        info = timm.data.ImageNetInfo(subset)
        return [info.index_to_description(index) for index in range(info.num_classes())]
    return [f"class {index}" for index in range(getattr(model, "num_classes", 0))]


def _timm_model(name: str) -> nn.Module:
    base = name.split(".")[0]
    if not timm.is_model(base):
        near = difflib.get_close_matches(base, timm.list_models(), 1)
        hint = f"; did you mean {_TIMM}{near[0]}?" if near else "; timm.list_models() lists them."
        raise ModelError(f"timm has no model {name[:80]!r}{hint}")
    try:
        settings = timm.models.get_pretrained_cfg(name)
    except RuntimeError:  # no such tag
        settings = None
    if settings is None:
        raise ModelError(f"timm has no pretrained weights for {name[:80]!r}; choose another model or tag of timm.")
    kept = _kept_weights(settings)
    if kept is None and not _reachable(settings):
        raise ModelError(
            f"the weights of {_TIMM}{name} are not on this machine and there is no network to fetch them; connect once "
            "so that they are kept in the cache, or choose a bundled model or a weights file."
        )
    try:
        if kept is not None:
            return timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"file": kept})
        return timm.create_model(name, pretrained=True)
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise ModelError(
            f"the weights of {_TIMM}{name} could not be fetched ({reason}); try again, or choose a bundled model or a "
            "weights file."
        ) from error


def _kept_weights(settings: Any) -> str | None:
    """Weights that an earlier download left in the hub's cache; naming the file spares timm all network calls."""
    if not settings.hf_hub_id:
        return None
    for name in (settings.hf_hub_filename, "model.safetensors", "pytorch_model.bin"):
        found = name and huggingface_hub.try_to_load_from_cache(settings.hf_hub_id, name)
        if isinstance(found, str):
            return found
    return None


def _reachable(settings: Any) -> bool:
    """Whether the host of the weights answers within a few seconds; the hub's own retries take most of a minute."""
    host = huggingface_hub.constants.ENDPOINT if settings.hf_hub_id else settings.url
    try:
        with urllib.request.urlopen(urllib.request.Request(host, method="HEAD"), timeout=5):
            return True
    except urllib.error.HTTPError:
        return True  # it answered
    except (OSError, ValueError):
        return False
