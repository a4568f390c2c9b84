"""The methods in groups, with what each shows and how long it takes, and what a model cannot do."""

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import streamlit as st
from torch import nn

from dashboard.shared.cache import loaded_classifier
from dashboard.shared.model_names import column_titles
from dashboard.shared.theme import escape_markdown
from swin_core.attribution.attention import attention_blocks
from swin_core.attribution.layers import offered_layers
from swin_core.attribution.methods import METHODS, Method
from swin_core.errors import LayerError
from swin_core.models.swin import Swin
from swin_core.zoo.classifier import Classifier
from swin_core.zoo.contract import inner_model

FALLBACK = "gradcam"
"""A method that works on any model with a spatial layer."""
RECOMMENDED = ("gradcam", "patchrelevance", "gradrollout")
ATTENTION = ("rollout", "gradrollout")
OWN_LAYERS = ("relevance", "patchrelevance")
"""Methods that know the layers of our own models only."""
_lacks: WeakKeyDictionary[nn.Module, dict[str, str]] = WeakKeyDictionary()
TIMES = {"one pass": "under a second", "many passes": "some seconds"}
"""Time for one image and a small model, by `Method.cost`."""


def method_groups() -> dict[str, list[Method]]:
    """Return the methods by group: recommended, CAM, gradient and attention. The recommended ones stand twice."""
    every = list(METHODS.values())
    return {
        "Recommended": [METHODS[name] for name in RECOMMENDED],
        "CAM: weights the channels of a layer": [method for method in every if method.kind == "layer"],
        "Gradient and occlusion: pixel by pixel": [
            method for method in every if method.kind == "pixels" and method.name not in ATTENTION
        ],
        "Attention: follows the tokens": [METHODS[name] for name in ATTENTION],
    }


def lack(model: Classifier, method: str) -> str:
    """Return what a model lacks for a method, as in "has no attention", or an empty text."""
    known = _lacks.setdefault(model.model, {})
    if method not in known:
        known[method] = _find_lack(model, method)
    return known[method]


def _find_lack(model: Classifier, method: str) -> str:
    if method in OWN_LAYERS:
        return "" if isinstance(inner_model(model.model), Swin) else "has layers that relevance does not know"
    try:
        if method in ATTENTION:
            attention_blocks(model.model)
        elif METHODS[method].kind == "layer":
            offered_layers(model)
    except LayerError:
        return "has no attention that can be read" if method in ATTENTION else "has no layer with a grid"
    return ""


def lacks(models: Sequence[str], method: str) -> dict[str, str]:
    """Return what each loaded model lacks for a method, by the model's title; models that lack nothing are left out."""
    loaded = [name for name in models if loaded_classifier(name) is not None]
    texts = [lack(model, method) for model in map(loaded_classifier, loaded) if model is not None]
    if not any(texts):
        return {}
    return {title: text for title, text in zip(column_titles(loaded), texts, strict=True) if text}


def show_method_menu(models: Sequence[str]) -> None:
    """Draw the groups; a click chooses a method. One that no model can do is disabled and says why."""
    with st.container(height=320, border=False, gap=None, key="method_menu"):
        for group, methods in method_groups().items():
            st.markdown(f"**{group}**")
            for method in methods:
                missing = lacks(models, method.name)
                st.button(
                    escape_markdown(method.title),
                    type="tertiary",
                    disabled=bool(models) and len(missing) == len(models),
                    key=f"method_{group[:3]}_{method.name}",
                    on_click=switch_method,
                    args=(method.name,),
                )
                why = "".join(f" {title} {text}." for title, text in missing.items())
                st.caption(escape_markdown(f"{method.summary} Takes {TIMES[method.cost]}.{why}"))


def switch_method(name: str) -> None:
    """Choose a method; to be called in a callback."""
    st.session_state.method = name


def show_lacks(models: Sequence[str], method: str | None) -> None:
    """Say which models cannot do the chosen method, with a button that switches to one that they can."""
    missing = {} if method is None else lacks(models, method)
    if not missing:
        return
    with st.container(horizontal=True, vertical_alignment="center", key="lacks"):
        said = " ".join(f"{title} {text}." for title, text in missing.items())
        st.info(escape_markdown(f"{said} Try {METHODS[FALLBACK].title}."), icon=":material/info:")
        if method != FALLBACK:
            st.button("Switch", key="switch_method", on_click=switch_method, args=(FALLBACK,))
