"""The form of a new run: a recipe, and a widget for each setting of `TrainConfig`.

Types, limits and help come from `TrainConfig`; a new setting also needs a tab in `GROUPS`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, get_args, get_origin, get_type_hints

import streamlit as st

from dashboard.shared.datasets import trainable_folders
from dashboard.shared.model_names import display_name, from_display_name, model_source, offered_models
from dashboard.shared.new_run_request import take_requested_run
from dashboard.shared.theme import escape_markdown
from swin_core.data.registry import trainable
from swin_core.errors import ConfigError, ModelError
from swin_core.models.config import VARIANTS
from swin_core.training import RECIPES, TrainConfig, setting_help, setting_limits

GROUPS: dict[str, tuple[str, ...]] = {
    "Basics": ("name", "data", "init", "epochs", "batch_size", "lr", "limit", "strict", "seed"),
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
        "class_weights",
        "patience",
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
        "without",
        "mixup",
        "cutmix",
    ),
    "Speed and memory": ("precision", "accumulate", "checkpointing", "compile"),
    "Distillation": ("teacher", "distillation", "temperature"),
    "Records": ("keep_every", "tensorboard"),
}
"""The settings on each tab of the form."""

_LABELS = {
    "data": "Data set",
    "init": "Start from",
    "lr": "Learning rate",
    "ema": "Moving average of the weights",
    "clip": "Gradient clipping",
    "limit": "Number of images (0 for all)",
    "strict": "Refuse unusable files",
    "randaugment": "RandAugment",
    "distillation": "Share of the teacher",
    "without": "Without the findings in",
    "tensorboard": "TensorBoard",
    "compile": "torch.compile",
    "checkpointing": "Activation checkpointing",
    "keep_every": "Keep weights every",
    "shift": "Shifted windows",
    "absolute_embedding": "Absolute position embedding",
}
"""Labels of settings whose name is unclear."""

_KEY = "setting_"
_EMPTY = {"init": "random weights", "teacher": "no teacher", "data": "a folder on this machine"}


def label(name: str) -> str:
    """Return the label of a setting."""
    return _LABELS.get(name, name.replace("_", " ").capitalize())


def fill(values: Mapping[str, Any]) -> None:
    """Set the widgets of the settings; call it before they are drawn, or in a callback."""
    for field in fields(TrainConfig):
        value = values.get(field.name, field.default)  # an older run may lack a new setting
        if field.name in setting_limits() and isinstance(value, int | float):
            low, high = setting_limits()[field.name]
            value = get_type_hints(TrainConfig)[field.name](min(max(value, low), high))  # as the widget requires
        st.session_state[_KEY + field.name] = value


def choose_recipe() -> str:
    """Draw the choice of the recipe and its description; return its name."""
    names = list(RECIPES)
    if requested := take_requested_run():
        st.session_state.recipe, settings = requested
        fill(RECIPES[st.session_state.recipe].config.to_dict() | settings)
    elif f"{_KEY}name" not in st.session_state:
        asked = st.query_params.get("new")
        start_from_recipe(asked if asked in RECIPES else names[0])
    name = st.pills(
        "Recipe",
        names,
        required=True,
        key="recipe",
        on_change=lambda: fill(RECIPES[st.session_state.recipe].config.to_dict()),
        persist_state="session",
    )
    name = name if name in RECIPES else names[0]
    entry = RECIPES[name]
    st.markdown(escape_markdown(entry.purpose))
    facts = {"Time": entry.time, "Result": entry.result, "Source": entry.source}
    st.caption(" · ".join(f"**{title}** {escape_markdown(text)}" for title, text in facts.items()))
    return name


def start_from_recipe(name: str) -> None:
    """Choose a recipe and set the widgets to its settings; call it before they are drawn, or in a callback."""
    st.session_state.recipe = name
    fill(RECIPES[name].config.to_dict())


def choose_settings() -> dict[str, Any]:
    """Draw the settings, one tab per group; return their values, not yet checked."""
    values: dict[str, Any] = {}
    for tab, names in zip(st.tabs(list(GROUPS)), GROUPS.values(), strict=True):
        with tab, st.grid(3, min_column_width=230):
            for name in names:
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
            return _choose_or_write(name, [*trainable(), *trainable_folders()], options)
        return from_display_name(_choose_or_write(name, offered_models(), options | {"format_func": display_name}))
    return st.text_input(label(name), **options)


def _choose_or_write(name: str, offered: Sequence[str], options: dict[str, Any]) -> str:
    """Draw a choice that also accepts new names; return an empty string if nothing is chosen."""
    # Streamlit represents an empty choice by None.
    if not st.session_state.get(_KEY + name):
        st.session_state[_KEY + name] = None
    value = st.selectbox(
        label(name), offered, index=None, accept_new_options=True, placeholder=_EMPTY[name].capitalize(), **options
    )
    return str(value or "").strip()


def _step(value: float) -> float:
    """Return the step of a number input: a tenth of the value, rounded down to a power of ten."""
    return 10.0 ** (math.floor(math.log10(abs(value))) - 1) if value else 0.05


def validated(values: Mapping[str, Any]) -> TrainConfig:
    """Return the config of the form's values, with the files of the models that it names; see `model_source`.

    Raises:
        ConfigError: a value is missing, out of range, or contradicts another.
        ModelError: there is no such model, or its name leads to another place.
    """
    for name, value in values.items():
        if value is None:
            raise ConfigError(f"{label(name)} is empty: give a value.")
    if not values.get("data"):
        raise ConfigError("the data set is empty: choose one, or enter a folder that contains one folder per class.")
    config = TrainConfig.from_dict(values)
    models: dict[str, Any] = {}
    for name in ("init", "teacher"):
        if model := getattr(config, name):
            try:
                models[name] = model_source(model)
            except ModelError as error:
                raise ModelError(f"{label(name)}: {error}") from error
    return replace(config, **models)
