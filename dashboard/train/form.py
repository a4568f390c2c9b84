"""The form of a new run: a recipe, every setting of `TrainConfig` with what it means, devices, and the start.

The widgets are made from the class itself, so that a setting added there appears here; `GROUPS` only says on which
tab.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, get_args, get_origin, get_type_hints

import streamlit as st

from dashboard.shared.model_names import display_name, from_display_name, model_source, offered_models
from dashboard.shared.theme import escape_markdown
from swin_core.data.registry import trainable
from swin_core.errors import ConfigError, ModelError
from swin_core.models.config import VARIANTS
from swin_core.training import RECIPES, TrainConfig, setting_help, setting_limits

__all__ = ["GROUPS", "choose_recipe", "choose_settings", "fill", "label", "start_from_recipe", "validated"]

GROUPS: dict[str, tuple[str, ...]] = {
    "Basics": ("name", "data", "init", "epochs", "batch_size", "lr", "limit", "seed"),
    "Model": (
        "variant",
        "image_size",
        "patch_size",
        "window_size",
        "drop_path",
        "freeze",
        "shift",
        "relative_position_bias",
        "absolute_embedding",
    ),
    "Optimizer": (
        "optimizer",
        "schedule",
        "warmup",
        "weight_decay",
        "layer_decay",
        "clip",
        "label_smoothing",
        "ema",
        "holdout",
    ),
    "Augmentation": (
        "flip",
        "crop_padding",
        "crop_scale",
        "colour_jitter",
        "cutout",
        "erasing",
        "randaugment",
        "mixup",
        "cutmix",
    ),
    "Speed and memory": ("precision", "accumulate", "checkpointing", "compile"),
    "Distillation": ("teacher", "distillation", "temperature"),
    "Records": ("keep_every", "tensorboard"),
}
"""The tabs of the form and the settings on each."""

_LABELS = {
    "data": "Data set",
    "init": "Start from",
    "lr": "Learning rate",
    "ema": "Moving average of the weights",
    "clip": "Gradient clipping",
    "limit": "Limit of images",
    "randaugment": "RandAugment",
    "distillation": "Share of the teacher",
    "tensorboard": "TensorBoard",
    "compile": "torch.compile",
    "checkpointing": "Activation checkpointing",
    "keep_every": "Keep weights every",
    "shift": "Shifted windows",
    "absolute_embedding": "Absolute position embedding",
}
"""What a setting is called where its own name is no word."""

_KEY = "setting_"
_EMPTY = {"init": "random weights", "teacher": "no teacher", "data": "a folder of this machine"}


def label(name: str) -> str:
    """A setting's name in words."""
    return _LABELS.get(name, name.replace("_", " ").capitalize())


def fill(values: Mapping[str, Any]) -> None:
    """Put values into the widgets of the settings; to be called before they are drawn, or in a callback."""
    for field in fields(TrainConfig):
        # A file of an older version may lack a setting that is there now.
        value = values.get(field.name, field.default)
        if field.name in setting_limits() and isinstance(value, int | float):
            low, high = setting_limits()[field.name]
            value = get_type_hints(TrainConfig)[field.name](min(max(value, low), high))  # the widget takes nothing else
        st.session_state[_KEY + field.name] = value


def choose_recipe() -> str:
    """The recipe that the form starts from, with its source, purpose, expected time and result."""
    names = list(RECIPES)
    if f"{_KEY}name" not in st.session_state:
        asked = st.query_params.get("new")
        start_from_recipe(asked if asked in RECIPES else names[0])
    name = st.pills("Recipe", names, required=True, key="recipe", on_change=_fill_from_recipe, persist_state="session")
    name = name if name in RECIPES else names[0]
    entry = RECIPES[name]
    st.markdown(escape_markdown(entry.purpose))
    facts = {"Time": entry.time, "Result": entry.result, "Source": entry.source}
    st.caption(" · ".join(f"**{title}** {escape_markdown(text)}" for title, text in facts.items()))
    return name


def start_from_recipe(name: str) -> None:
    """Choose a recipe and put its settings into the widgets; to be called before they are drawn, or in a callback."""
    st.session_state.recipe = name
    fill(RECIPES[name].config.to_dict())


def _fill_from_recipe() -> None:
    fill(RECIPES[st.session_state.recipe].config.to_dict())


def choose_settings() -> dict[str, Any]:
    """The values of all settings, on one tab a group; not yet checked."""
    known = {field.name for field in fields(TrainConfig)}
    values: dict[str, Any] = {}
    for tab, names in zip(st.tabs(list(GROUPS)), GROUPS.values(), strict=True):
        with tab, st.grid(3, min_column_width=230):
            for name in names:
                if name in known:
                    values[name] = _choose(name)
    return values


def _choose(name: str) -> Any:
    kind = get_type_hints(TrainConfig)[name]
    options: dict[str, Any] = {
        "key": _KEY + name,
        "help": escape_markdown(setting_help()[name]),
        "persist_state": "session",
    }
    if get_origin(kind):
        return st.selectbox(label(name), get_args(kind), **options)
    if kind is bool:
        return st.toggle(label(name), **options)
    if kind in (int, float):
        low, high = (kind(limit) for limit in setting_limits()[name])
        value = st.session_state.get(_KEY + name) or 0
        options |= {"step": 1} if kind is int else {"step": _step(value), "format": "%g"}
        return st.number_input(label(name), low, high, **options)
    if name == "variant":
        return st.selectbox(label(name), list(VARIANTS), **options)
    if name in _EMPTY:
        if name == "data":
            return _choose_or_write(name, trainable(), options)
        return from_display_name(_choose_or_write(name, offered_models(), options | {"format_func": display_name}))
    return st.text_input(label(name), **options)


def _choose_or_write(name: str, offered: Sequence[str], options: dict[str, Any]) -> str:
    """A choice of names that takes others too; empty where nothing is chosen."""
    # An empty text is no option that could be written or cleared; Streamlit's word for no choice is None.
    if not st.session_state.get(_KEY + name):
        st.session_state[_KEY + name] = None
    value = st.selectbox(
        label(name), offered, index=None, accept_new_options=True, placeholder=_EMPTY[name].capitalize(), **options
    )
    return str(value or "").strip()


def _step(value: float) -> float:
    """What one click on plus or minus adds: a tenth of the value, as a power of ten."""
    return 10.0 ** (math.floor(math.log10(abs(value))) - 1) if value else 0.05


def validated(values: Mapping[str, Any]) -> TrainConfig:
    """The config of the form's values; models that it names lie in the project's or the runs' folder.

    Raises:
        ConfigError: a value is missing, out of range, or contradicts another.
        ModelError: a model that is not there, or may not be named.
    """
    for name, value in values.items():
        if value is None:
            raise ConfigError(f"{label(name)} is empty: give a value.")
    if not values.get("data"):
        raise ConfigError("Data set is empty: choose one, or write the folder that holds one folder for each class.")
    config = TrainConfig.from_dict(values)
    models: dict[str, Any] = {}
    for name in ("init", "teacher"):
        written = getattr(config, name)
        if written:
            try:
                models[name] = model_source(written)
            except ModelError as error:
                raise ModelError(f"{label(name)}: {error}") from error
    return replace(config, **models)
