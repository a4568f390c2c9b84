"""The choice of preprocessing: normalisation, image size, crop, interpolation and activation."""

import math
from typing import Any

import streamlit as st

from dashboard.shared.theme import escape_markdown
from swin_core.images.preprocessing import IMAGENET
from swin_core.zoo.classifier import LARGEST_INPUT, RESAMPLING, Classifier

OTHER = "Other"
NORMALISATIONS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "ImageNet": IMAGENET,
    "Inception: 0.5 and 0.5": ((0.5,) * 3, (0.5,) * 3),
    "CLIP": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "None: 0 and 1": ((0.0,) * 3, (1.0,) * 3),
}
"""Usual means and standard deviations of the channels."""
ACTIVATIONS = {
    "softmax": "one class of all (softmax)",
    "sigmoid": "each class on its own (sigmoid)",
    "none": "the outputs themselves (regression)",
}


def preprocessing_of(classifier: Classifier) -> dict[str, Any]:
    """Return the preprocessing of a classifier as fields of a model card."""
    return {
        "mean": list(classifier.mean),
        "std": list(classifier.std),
        "image_size": classifier.image_size,
        "crop_fraction": classifier.crop_fraction,
        "interpolation": classifier.interpolation,
        "squash": classifier.squash,
        "activation": classifier.activation,
    }


def fill_preprocessing(classifier: Classifier) -> None:
    """Set the widgets to the preprocessing of a classifier; call it before they are drawn."""
    mean, std = classifier.mean, classifier.std
    known = [name for name, values in NORMALISATIONS.items() if values == (mean, std)]
    st.session_state.update(
        {
            "add_normalisation": known[0] if known else OTHER,
            "add_mean": " ".join(f"{value:g}" for value in mean),
            "add_std": " ".join(f"{value:g}" for value in std),
            "add_size": classifier.image_size,
            "add_crop": classifier.crop_fraction,
            "add_interpolation": classifier.interpolation,
            "add_squash": classifier.squash,
            "add_activation": classifier.activation,
        }
    )


def choose_preprocessing(channels: int) -> tuple[dict[str, Any], str]:
    """Draw the choice for a model with so many channels; return the fields of the card, and what is wrong with them."""
    fault = ""
    with st.container(horizontal=True):
        normalisation = st.selectbox(
            "Mean and standard deviation",
            [*(NORMALISATIONS if channels == 3 else ()), OTHER],
            help="What training subtracted from each channel and divided it by, for pixels in 0 to 1.",
            key="add_normalisation",
            width=230,
            persist_state="session",
        )
        size = st.number_input("Image size", 1, LARGEST_INPUT, key="add_size", width=130, persist_state="session")
        crop = st.number_input(
            "Crop",
            0.001,
            2.0,
            step=0.025,
            format="%g",
            disabled=bool(st.session_state.get("add_squash")),
            help="Share of the shorter side that the centre crop keeps; 1 keeps all of it.",
            key="add_crop",
            width=130,
            persist_state="session",
        )
        interpolation = st.selectbox(
            "Interpolation", list(RESAMPLING), key="add_interpolation", width=140, persist_state="session"
        )
        activation = st.selectbox(
            "Outputs are",
            list(ACTIVATIONS),
            format_func=ACTIVATIONS.__getitem__,
            key="add_activation",
            width=270,
            persist_state="session",
        )
    squash = st.toggle("Squeeze the whole image into the square", key="add_squash", persist_state="session")
    if normalisation == OTHER:
        with st.container(horizontal=True):
            texts = {
                title: st.text_input(title, key=key, width=260, persist_state="session")
                for title, key in (("Mean of each channel", "add_mean"), ("Standard deviation of each", "add_std"))
            }
        try:
            mean, std = ([float(part) for part in text.replace(",", " ").split()] for text in texts.values())
        except ValueError:
            mean, std = [], []
        if not len(mean) == len(std) == channels or not all(map(math.isfinite, mean + std)) or min(std) <= 0:
            fault = f"mean and standard deviation need {channels} numbers each, such as 0.5, and the latter above 0."
            st.error(escape_markdown(fault), icon=":material/error:")
    else:
        mean, std = map(list, NORMALISATIONS[normalisation])
    facts = {
        "mean": mean,
        "std": std,
        "image_size": int(size),
        "crop_fraction": float(crop),
        "interpolation": interpolation,
        "squash": squash,
        "activation": activation,
    }
    return facts, fault
