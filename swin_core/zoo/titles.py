"""Titles of models for people: what a model is called, what it knows, and how often it is right.

Everything follows from the metadata of a weights file and from the evaluation beside a bundled one.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from swin_core.data.registry import DATA_SETS
from swin_core.models.config import VARIANTS, SwinConfig
from swin_core.zoo import load

NAMED_LABELS = 4
"""A model of at most so many classes is described by their names."""

_SIZES = {"nano": "XS", "micro": "S", "milli": "M", "mini": "L"}
"""Size in words of the small variants, by the last part of their names; the paper's variants keep theirs."""

_CHANGES = (
    ("shift", False, "no shift"),
    ("relative_position_bias", False, "no position bias"),
    ("absolute_embedding", True, "absolute positions"),
)
"""Settings that an ablation changes: name, value, words."""


@dataclass(frozen=True)
class ModelTitle:
    """How a model is called on pages and in figures."""

    title: str
    """Such as "Swin M" or "Swin XS, no shift"; empty if the file does not say what it is."""
    knows: str = ""
    """The classes in a few words, such as "5 flowers" or "cat, dog, rose, tulip"; empty if unknown."""
    accuracy: float | None = None
    """Top-1 on the test images, 0 to 1, if it was measured."""

    @property
    def subtitle(self) -> str:
        """What it knows and its accuracy: "5 flowers · 88 % right"."""
        accuracy = f"{100 * self.accuracy:.0f} % right" if self.accuracy is not None else ""
        return " · ".join(part for part in (self.knows, accuracy) if part)


def bundled_title(name: str) -> ModelTitle:
    """Return the title of a bundled model; with an empty `title` if there is no such model."""
    if name not in load.available():
        return ModelTitle("")
    return title_of(load.bundled_metadata(name), _measured_accuracy(load.ASSETS / f"{name}.json"))


@lru_cache(maxsize=64)
def _measured_accuracy(file: Path) -> float | None:
    try:
        accuracy = json.loads(file.read_text())["evaluation"]["top1"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return accuracy if isinstance(accuracy, float) else None


def title_of(metadata: Mapping[str, Any], accuracy: float | None = None) -> ModelTitle:
    """Return the title of a model from the metadata of its weights file."""
    training = metadata.get("training") or {}
    labels = tuple(metadata.get("labels") or ())
    variant = str(training.get("variant", ""))
    title = _architecture_title(variant, metadata.get("config") or {}) if variant in VARIANTS else ""
    return ModelTitle(title, known_classes(labels, str(training.get("data", ""))), accuracy)


def known_classes(labels: tuple[str, ...], data: str = "") -> str:
    """Return what a model knows in a few words; `data` is the name of the data set that it was trained on."""
    if not labels:
        return ""
    if len(labels) <= NAMED_LABELS:
        return ", ".join(label.replace("_", " ") for label in labels)
    return f"{len(labels):,} {DATA_SETS[data].subject if data in DATA_SETS else 'classes'}"


def _architecture_title(variant: str, config: Mapping[str, Any]) -> str:
    usual: SwinConfig = VARIANTS[variant]
    *family, size = variant.split("_")
    words = {"swin": "Swin", "swinv2": "Swin V2", "mlp": "MLP", "vit": "ViT"}
    named = " ".join(words.get(part, part) for part in family).replace("Swin MLP", "Swin-MLP")
    parts = [f"{named} {_SIZES.get(size, size)}"]
    parts += [
        text
        for name, value, text in _CHANGES
        if config.get(name, getattr(usual, name)) == value != getattr(usual, name)
    ]
    return ", ".join(parts)
