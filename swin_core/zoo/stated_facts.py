"""Facts about a model that a training program wrote into its checkpoint: class names, preprocessing, architecture."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from swin_core.errors import ModelError
from swin_core.weights.unpickle import NumpyArray
from swin_core.zoo.labels import labels_of
from swin_core.zoo.model_card import make_card

# Where programs keep settings: Lightning, timm and torchvision, OpenMMLab, and others.
_PLACES = ("hyper_parameters", "hparams", "args", "config", "cfg", "opt", "meta", "dataset_meta", "pretrained_cfg")
_NAMES = {
    "architecture": ("architecture", "arch", "model_name", "backbone", "encoder_name", "encoder", "model", "variant"),
    "labels": (
        *("labels", "class_names", "label_names", "classes", "CLASSES"),
        *("class_to_idx", "label2id", "idx_to_class", "id2label"),
    ),
    "mean": ("mean", "image_mean", "img_mean", "norm_mean"),
    "std": ("std", "image_std", "img_std", "norm_std"),
    "image_size": ("image_size", "img_size", "input_size", "val_crop_size", "crop_size", "resolution"),
    "channels": ("in_chans", "in_channels", "num_channels"),
    "crop_fraction": ("crop_fraction", "crop_pct"),
    "interpolation": ("interpolation",),
}


def stated_facts(content: Mapping[str, Any]) -> dict[str, tuple[Any, str]]:
    """Return the facts that the content of a checkpoint states, as fields of `ModelCard`, each with where it stands.

    Values that cannot be such a fact are left out, as a checkpoint may mean something else by a name.

    Args:
        content: as `swin_core.weights.files.read_state` returns it.
    """
    facts: dict[str, tuple[Any, str]] = {}
    for place, settings in _settings(content):
        for fact, names in _NAMES.items():
            for name in names:
                if fact not in facts and (value := _read(fact, settings.get(name))) is not None:
                    facts[fact] = value, f"{place}{name}"
        resized, cropped = (
            settings.get("val_resize_size"),
            settings.get("val_crop_size"),
        )  # torchvision's training script
        if type(resized) is int and type(cropped) is int and 0 < cropped <= resized:
            facts.setdefault("crop_fraction", (cropped / resized, f"{place}val_resize_size"))
    if "mean" in facts and "std" in facts:
        (mean, where), (std, std_where) = facts["mean"], facts["std"]
        if max(map(abs, mean)) > 2 or max(std) > 2:  # for pixels in 0 to 255
            facts["mean"] = [value / 255 for value in mean], where
            facts["std"] = [value / 255 for value in std], std_where
    if facts.keys() & {"mean", "std"} and not _is_valid(
        {name: facts[name][0] for name in ("mean", "std") if name in facts}
    ):
        facts = {name: fact for name, fact in facts.items() if name not in ("mean", "std")}
    return facts


def _settings(content: Mapping[str, Any], place: str = "", depth: int = 0) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the dictionaries of a checkpoint that may hold settings, each with the start of its names."""
    yield place, content
    for name in _PLACES if depth < 3 else ():
        inner = content.get(name)
        if isinstance(inner, Mapping):
            yield from _settings(inner, f"{place}{name}.", depth + 1)
        elif hasattr(inner, "__dict__") and type(inner).__name__ == "Namespace":
            yield from _settings(vars(inner), f"{place}{name}.", depth + 1)


def _read(fact: str, value: Any) -> Any:
    """Return a value as a field of `ModelCard`, or None if it cannot be one."""
    if isinstance(value, NumpyArray):
        value = value.array
    if isinstance(value, Tensor | np.ndarray):
        if value.ndim > 1 or len(value.flatten()) > 1000:
            return None
        value = value.tolist()
    if fact == "labels":
        value = labels_of(value)
    elif fact in ("mean", "std") and isinstance(value, list | tuple):
        try:
            value = [float(number) for number in value]
        except (TypeError, ValueError, OverflowError):
            return None
    elif fact == "image_size" and isinstance(value, list | tuple) and len(set(value[-2:])) == 1:
        value = value[-1]  # (height, width) or (channels, height, width)
    elif fact == "crop_fraction" and type(value) is int:
        value = float(value)
    return value if value is not None and _is_valid({fact: value}) else None


def _is_valid(facts: dict[str, Any]) -> bool:
    try:
        make_card(facts)
    except ModelError:
        return False
    return True
