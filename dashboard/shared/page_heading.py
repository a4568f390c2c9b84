"""The pages of the dashboard, and the heading that each of them starts with."""

from dataclasses import dataclass

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

__all__ = ["PAGES", "PageTexts", "show_heading"]


@dataclass(frozen=True)
class PageTexts:
    """Texts of a page."""

    link: str
    """Title in the navigation."""
    icon: str
    """Name of a Material symbol."""
    heading: str
    sentence: str
    """What to do on the page; also the tooltip of its link."""
    hidden: bool = False
    """Whether only other pages link to it, and not the navigation."""


PAGES = {
    "compare": PageTexts(
        "Compare",
        "compare",
        "Compare models",
        "Choose images and up to four models: each heat map shows what a model looked at.",
    ),
    "browse": PageTexts(
        "Browse",
        "photo_library",
        "Browse predictions",
        "Choose a data set and a model to see right and wrong predictions, confusions and accuracy by class.",
    ),
    "audit": PageTexts(
        "Audit",
        "policy",
        "Audit a model",
        "Choose a model and a data set to find marks, such as a watermark or a frame, that decide its predictions.",
    ),
    "train": PageTexts(
        "Train",
        "model_training",
        "Training runs",
        "Start a run, watch its curves, stop and resume it, and open its checkpoints.",
    ),
    "inside": PageTexts(
        "Inside",
        "grid_view",
        "Inside the model",
        "Choose an image, a model and a block to see its patches, shifted windows, attention and their cost.",
    ),
    "models": PageTexts(
        "Models",
        "deployed_code",
        "Models",
        "Add a model from a weights file: check what was recognised, name its classes, and open it on Compare.",
    ),
    "quiz": PageTexts(
        "Quiz",
        "quiz",
        "Where does it look?",
        "Place the circle where you think the model finds most evidence for the class, then compare with its heat map.",
        hidden=True,
    ),
}
"""The pages in the order of the navigation, by the name of their file in `views`; the first one opens at the root."""


STYLE = """<style>
[class*="st-key-heading_"] h1 { padding: 0; }
@media (max-width: 640px) {
  [class*="st-key-heading_"] h1 { font-size: 1.25rem; }
  [class*="st-key-heading_"] button { min-height: 32px; padding: 0 8px; }
  :has(> .st-key-sentence_compare) { display: none; }
}
</style>"""


def show_heading(name: str) -> DeltaGenerator:
    """Draw the heading of a page of `PAGES`; return a container on its right for buttons."""
    st.html(STYLE)
    with st.container(
        horizontal=True,
        horizontal_alignment="distribute",
        vertical_alignment="center",
        gap="small",
        key=f"heading_{name}",
    ):
        st.title(PAGES[name].heading, anchor=False, width="content")
        actions = st.container(horizontal=True, gap="xsmall", width="content")
    st.container(key=f"sentence_{name}").caption(PAGES[name].sentence)
    return actions
