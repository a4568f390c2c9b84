"""The mean map of a class for each model, over many images."""

import numpy as np
import streamlit as st

from dashboard.compare.timeline_section import WITHOUT_CONTRAST
from dashboard.shared.cache import DEPTHS, FUSED, STAGES, loaded_classifier
from dashboard.shared.comparison import Comparison
from dashboard.shared.datasets import NAME_PATTERN, data_sets, open_split
from dashboard.shared.mean_map import COUNTS, sample, show_means
from dashboard.shared.theme import escape_markdown
from swin_core.class_names import candidates
from swin_core.data.catalog import Catalog
from swin_core.errors import SwinError

EXPLAINED = (
    "The mean of a model's maps over images of one class, on the mean of these images. "
    "It shows habits, such as attention to the border, that one image cannot show."
)


def show_class_means(comparison: Comparison, likely: str) -> None:
    """Draw the section; compute the mean maps when it is opened.

    Args:
        comparison: its models, method and layer are used.
        likely: the class to start with, if the images have it.
    """
    section = st.expander(
        "The mean map of a class", icon=":material/stacks:", key="means", on_change="rerun", bind="query-params"
    )
    if not section.open:
        return
    with section:
        st.caption(EXPLAINED if comparison.against is None else f"{EXPLAINED} {WITHOUT_CONTRAST}")
        offered = mean_splits()
        if not offered:
            st.info("There is no data set on this machine: the Browse page says how to add one.")
            return
        with st.container(horizontal=True):
            title = st.selectbox(
                "Images of", list(offered), _start(offered), key="means_data", width=260, bind="query-params"
            )
            try:
                dataset = open_split(*offered[title])
            except SwinError as error:
                st.info(escape_markdown(str(error)), icon=":material/info:")
                return
            known = [
                name for name in dataset.classes if any(_target(model, name) is not None for model in comparison.models)
            ]
            if not known:
                st.info("None of the models has a class of these images.", icon=":material/info:")
                return
            start = next(iter(candidates(known, likely)), 0)
            name = st.selectbox("Class", known, start, key="means_class", width=230, bind="query-params")
            count = st.selectbox(
                "Images at most", COUNTS, COUNTS.index(32), key="means_count", width=150, bind="query-params"
            )
        catalog = Catalog((dataset,))
        rows = sample(np.flatnonzero(dataset.labels == dataset.classes.index(name)), count)
        layer = None if comparison.layer in (STAGES, *FUSED, *DEPTHS) else comparison.layer
        if len(rows):
            targets = {model: _target(model, name) for model in comparison.models}
            show_means(targets, catalog, rows, comparison.method, layer)
        else:
            st.caption(escape_markdown(f"{title} has no image of {name}; choose another class."))


def mean_splits() -> dict[str, tuple[str, str]]:
    """Return the name and split of each data set with labels, by the title to show; the default splits come first."""
    words = {"val": "validation", "train": "training", "all": "all images"}
    entries = data_sets()[::-1]  # photos and the own folders first
    return {
        f"{entry.title}, {words.get(split, split)}": (entry.name, split)
        for later in (False, True)
        for entry in entries
        for split in entry.splits
        if (split != entry.splits[0]) == later
    }


def _start(offered: dict[str, tuple[str, str]]) -> int:
    """Return the index of the split that the first chosen image comes from, else 0."""
    for name in st.session_state.get("picked") or ():
        if (match := NAME_PATTERN.fullmatch(name)) and (match["set"], match["split"]) in offered.values():
            return list(offered.values()).index((match["set"], match["split"]))
    return 0


def _target(model: str, name: str) -> int | None:
    """Return the class of a model that a name stands for; None if there is none, or several."""
    classifier = loaded_classifier(model)
    found = candidates(classifier.labels, name) if classifier else []
    return found[0] if len(found) == 1 else None
