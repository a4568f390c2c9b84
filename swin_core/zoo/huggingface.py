"""Folders that `save_pretrained` of transformers or `save_for_hf` of timm wrote, and repositories of the hub.

`hf/<repo>` is the folder of that repository in the hub's cache. The library `transformers` is needed for models other
than Swin and those of timm; code that a repository brings is never run.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from torch import nn

from swin_core.errors import ModelError, WeightsError
from swin_core.zoo.stated_facts import stated_facts
from swin_core.zoo.timm_models import reachable

PREFIX = "hf/"
"""Start of the names of the hub's repositories, as in "hf/microsoft/resnet-50"."""

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
_RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers


def snapshot(repo: str) -> Path:
    """Return the folder of a repository in the hub's cache, downloading it if the cache lacks it.

    Raises:
        ModelError: there is no such repository, or no network to fetch it.
    """
    name = f"{PREFIX}{repo}"
    try:
        huggingface_hub.utils.validate_repo_id(repo)
        for file in WEIGHTS:
            cached = huggingface_hub.try_to_load_from_cache(repo, file)
            if isinstance(cached, str) and (Path(cached).parent / "config.json").is_file():
                return Path(cached).parent
    except ValueError as error:
        raise ModelError(f"{name[:80]!r} is no name of a repository; write hf/<owner>/<model>.") from error
    if huggingface_hub.is_offline_mode() or not reachable(huggingface_hub.constants.ENDPOINT):
        raise ModelError(
            f"{name} is not on this machine and there is no network to fetch it; connect once so that it is kept in "
            "the cache, or choose a bundled model, a weights file or a folder."
        )
    try:
        files = huggingface_hub.HfApi().list_repo_files(repo)
        weights = ["*.safetensors", WEIGHTS[1]] if any(file in files for file in WEIGHTS[:2]) else [WEIGHTS[2]]
        return Path(
            huggingface_hub.snapshot_download(repo, allow_patterns=["*config.json", *weights], ignore_patterns="*/*")
        )
    except Exception as error:  # errors of the network and the hub
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise ModelError(f"{name} could not be downloaded ({reason}); check the name, or try again.") from error


def saved_config(folder: Path) -> dict[str, Any]:
    """Return the config.json of a folder that holds a model of transformers or timm; empty if it holds none."""
    config = _read_json(folder / "config.json")
    return config if isinstance(config.get("model_type"), str) or isinstance(config.get("architecture"), str) else {}


def folder_weights(folder: Path) -> Path:
    """Return the weights file of such a folder.

    Raises:
        WeightsError: it has none.
    """
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise WeightsError(f"the folder {folder.name!r} has a config.json and no weights; add {WEIGHTS[0]}.")


def folder_facts(folder: Path, config: Mapping[str, Any]) -> dict[str, tuple[Any, str]]:
    """Return what the files of a folder state, as fields of `ModelCard`, each with where it stands."""
    if "model_type" not in config:  # timm
        facts = {name: (value, f"config.json, {place}") for name, (value, place) in stated_facts(config).items()}
        facts.pop("architecture", None)
        return facts
    facts = {}
    names = config.get("id2label")
    if isinstance(names, Mapping) and not all(str(label).startswith("LABEL_") for label in names.values()):
        facts |= {
            name: (value, "config.json, id2label") for name, (value, _) in stated_facts({"id2label": names}).items()
        }
    size = config.get("image_size")
    if isinstance(size, list) and len(size) == 2 and size[0] == size[1]:  # Hiera's height and width
        size = size[0]
    if type(size) is int:
        facts["image_size"] = size, "config.json, image_size"
    if type(channels := config.get("num_channels")) is int:
        facts["channels"] = channels, "config.json, num_channels"
    activation = {"multi_label_classification": "sigmoid", "regression": "none"}.get(str(config.get("problem_type")))
    if activation:
        facts["activation"] = activation, "config.json, problem_type"
    settings = _read_json(folder / "preprocessor_config.json")
    return facts | {name: (value, "preprocessor_config.json") for name, value in preprocessing(settings).items()}


def preprocessing(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the preprocessing that the settings of an image processor of transformers describe.

    A processor resizes to a square or by the shorter edge, crops the centre, multiplies by a factor and normalises.

    Args:
        settings: content of preprocessor_config.json.

    Returns:
        Fields of `ModelCard`; empty without settings.
    """
    if not settings:
        return {}
    facts: dict[str, Any] = {}
    kind = str(settings.get("image_processor_type") or settings.get("feature_extractor_type") or "")
    size = settings.get("size")
    if type(size) is int:
        # Older files: some processors mean the shorter edge by one number, those of ViT and Swin a square.
        by_edge = kind.startswith(
            ("ConvNext", "LeViT", "Levit", "MobileViT", "PoolFormer", "MobileNet", "Efficient", "CLIP")
        )
        size = {"shortest_edge": size} if by_edge else {"height": size, "width": size}
    size = size if isinstance(size, Mapping) else {}
    edge, side = size.get("shortest_edge"), size.get("height")
    crop = settings.get("crop_size")
    crop = crop.get("height") if isinstance(crop, Mapping) else crop
    resized = edge or side
    if type(resized) is int and settings.get("do_resize", True):
        facts |= {"image_size": resized, "squash": edge is None, "crop_fraction": 1.0}
        if kind.startswith("ConvNext") and edge:
            fraction = settings.get("crop_pct") or 224 / 256
            facts |= {"squash": True} if edge >= 384 else {"crop_fraction": float(fraction)}
        elif type(crop_pct := settings.get("crop_pct")) is float:  # PoolFormer
            facts["crop_fraction"] = crop_pct
        elif kind.startswith(("LeViT", "Levit")) and edge:
            facts |= {"image_size": edge, "crop_fraction": 224 / 256}
        elif settings.get("do_center_crop") and type(crop) is int:
            facts |= {"image_size": crop, "crop_fraction": crop / resized}
    if settings.get("resample") in _RESAMPLING:
        facts["interpolation"] = _RESAMPLING[settings["resample"]]
    mean, std = settings.get("image_mean"), settings.get("image_std")
    # MobileViT's processor normalises only if it is told to.
    if not settings.get("do_normalize", not kind.startswith("MobileViT")) or mean is None or std is None:
        mean, std = [0.0] * 3, [1.0] * 3
    # (factor * pixel - offset - mean) / std for pixels in 0 to 255, rewritten for pixels in 0 to 1.
    factor = 255 * settings.get("rescale_factor", 1 / 255) if settings.get("do_rescale", True) else 255
    offset = 1 if settings.get("rescale_offset") else 0
    squared = 2 if kind.startswith("EfficientNet") and settings.get("include_top") else 1  # it divides twice
    facts["mean"] = [(float(value) + offset) / factor for value in mean]
    facts["std"] = [float(value) ** squared / factor for value in std]
    return facts


def create(folder: Path) -> nn.Module:
    """Return the image classifier of transformers that a folder holds, in float32.

    Raises:
        ModelError: transformers is not installed, or cannot load the folder.
    """
    try:
        import transformers
    except ImportError as error:
        raise ModelError(
            f"{folder.name!r} holds a model of Hugging Face transformers, which is not installed; "
            "pip install 'swinlens[hf]' and try again."
        ) from error
    bars = transformers.utils.logging
    has_bar = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        model, report = transformers.AutoModelForImageClassification.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, dtype="float32", output_loading_info=True
        )
    except Exception as error:  # errors of the parsers and of the model's own checks
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise ModelError(f"{folder.name!r} could not be loaded by transformers ({reason}).") from error
    finally:
        if has_bar:
            bars.enable_progress_bar()
    if missing := sorted(report["missing_keys"]):
        raise ModelError(
            f"{folder.name!r} has no classification head or lacks other weights ({missing[0]}), so there is no class "
            "to explain; choose a model that was saved as an image classifier."
        )
    if _read_json(folder / "preprocessor_config.json").get("do_flip_channel_order"):
        _flip_channels(model)
    return model.eval()


def _flip_channels(model: nn.Module) -> None:
    """Change a model of blue, green, red to one of red, green, blue with the same logits."""
    first = next(part for part in model.modules() if isinstance(part, nn.Conv2d))
    with torch.no_grad():
        first.weight.copy_(first.weight.flip(1))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes()) if path.is_file() else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
