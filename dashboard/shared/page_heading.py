"""What each page is for, in the same words in the navigation and at its head."""

from dataclasses import dataclass

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

__all__ = ["BROWSE", "COMPARE", "INSIDE", "TRAIN", "Purpose", "show_heading"]


@dataclass(frozen=True)
class Purpose:
    """Of a page."""

    question: str
    """That the page answers: its title."""
    sentence: str
    """What is on it."""


COMPARE = Purpose("What did each model look at?", "Heat maps of up to four models on the same images, side by side.")
BROWSE = Purpose(
    "Where is a model right, wrong, and sure of itself?",
    "The data sets with a model's predictions: right and wrong, confusions, accuracy by class.",
)
TRAIN = Purpose(
    "What is running, and what did it learn?",
    "Start training runs, watch their curves, stop and resume them, and open their checkpoints.",
)
INSIDE = Purpose(
    "How does a shifted window see?", "Patches, shifted windows, attention and their cost, on your own image."
)


def show_heading(page: Purpose) -> DeltaGenerator:
    """The page's question and its sentence; it returns the place for actions, to the right of them."""
    words, actions = st.columns([3, 1], vertical_alignment="center")
    words.title(page.question)
    words.caption(page.sentence)
    return actions.container(horizontal=True, horizontal_alignment="right")
