"""The images of a data set that are nearest to one image in a model's feature space."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st

from dashboard.shared import cache
from dashboard.shared.cache import InputImage
from dashboard.shared.datasets import DataSetEntry, data_image, data_sets, image_name, open_catalog
from dashboard.shared.feature_jobs import (
    FeatureRequest,
    is_anything_computed,
    ready_features,
    show_job,
    show_start,
)
from dashboard.shared.film_strip import SHOW_IMAGES_KEY
from dashboard.shared.mean_map import trained_rows
from dashboard.shared.model_names import MAX_IMAGES, column_titles, model_source, weights_state
from dashboard.shared.theme import escape_markdown
from dashboard.shared.url_state import choose_from_list, unknown_values
from swin_core.data.registry import HOLDOUT
from swin_core.errors import SwinError
from swin_core.evaluation.features import image_features, nearest
from swin_core.evaluation.trained_on import recorded_trainings
from swin_core.system.cache import LRUCache

COUNT = 8
NONE = "None"
_STYLE = """<style>
[class*="st-key-nearest_"] { display: grid; gap: 10px; grid-template-columns: repeat(auto-fill, minmax(104px, 1fr)); }
[class*="st-key-nearest_"] > * { width: auto !important; min-width: 0; }
[class*="st-key-nearest_"] img { aspect-ratio: 1; object-fit: cover; border-radius: 6px; }
</style>"""

_queries: LRUCache[np.ndarray] = LRUCache(256)
_trainings: LRUCache[dict[str, Any]] = LRUCache(64)


@dataclass(frozen=True)
class Neighbour:
    """An image that is near another one."""

    name: str
    """Such as `cifar100/test/1234`."""
    label: str
    """Its class in words; empty without labels."""
    distance: float
    """Cosine distance of the features: 0 is the same direction, 2 opposite."""
    trained: bool | None
    """Whether the model was trained on it; None where that is not recorded."""


def neighbours(image: InputImage, request: FeatureRequest, features: np.ndarray) -> list[Neighbour]:
    """Return the images nearest to an image, nearest first, without the image itself.

    Args:
        image: the image.
        request: the model and the splits.
        features: their features, `(N, D)`.

    Raises:
        SwinError: the model or the data cannot be loaded.
    """
    catalog = open_catalog(request.collection, request.splits)
    key = request.model, weights_state(request.model), image.key
    query = _queries.get(key, lambda: image_features(cache.classifier(request.model), [image.pil])[0])
    trained = trained_rows(request.model, catalog)
    own = image.key[0] if isinstance(image.key, tuple) else ""  # its name, if it is of a data set
    found = []
    for row, distance in zip(*nearest(features, query, COUNT + 1), strict=True):
        other = image_name(request.collection, request.splits[catalog.part[row]], int(catalog.index[row]))
        label = int(catalog.labels[row])
        words = catalog.classes[label].replace("_", " ") if label >= 0 else ""
        if other != own:
            found.append(Neighbour(other, words, float(distance), None if trained is None else bool(trained[row])))
    return found[:COUNT]


def _show_neighbours(found: Sequence[Neighbour], model: str, key: str) -> None:
    """Draw images with class, distance, and whether the model was trained on them."""
    st.html(_STYLE)
    with st.container(key=f"nearest_{key}"):
        for neighbour in found:
            notes = [neighbour.label, f"distance {neighbour.distance:.2f}"]
            notes += ["training image"] if neighbour.trained else []
            caption = escape_markdown(" · ".join(filter(None, notes)))
            try:
                st.image(data_image(neighbour.name).square, caption, width="stretch", alt=f"Image {neighbour.name}")
            except SwinError as error:
                st.caption(escape_markdown(str(error)))
    names = [neighbour.name for neighbour in found[:MAX_IMAGES]]
    known = {
        None: "Nothing is recorded about the images that the model was trained on.",
        True: "",
        False: "None of these was used to train the model, as far as its weights record.",
    }
    some = None if any(each.trained is None for each in found) else any(each.trained for each in found)
    st.caption(f"Distance is that of {escape_markdown(model)}'s features: 0 is the same, 1 is unrelated. {known[some]}")
    st.page_link(
        "views/compare.py",
        label="Compare these",
        icon=":material/compare:",
        query_params={SHOW_IMAGES_KEY: names},
    )


def unknown_data_set() -> list[str]:
    """Return a warning if the URL names a data set for the nearest images that there is not."""
    words = _choices()[1]
    return unknown_values("near", [*words.values(), *words]) if "near" in st.query_params else []


def _choices() -> tuple[dict[str, tuple[DataSetEntry, str]], dict[str, str]]:
    """Return the splits of all data sets, and what is offered in words."""
    entries = {f"{entry.name}/{split}": (entry, split) for entry in data_sets() for split in entry.splits}
    return entries, {NONE: NONE} | {key: f"{entry.title}, {split}" for key, (entry, split) in entries.items()}


def training_split(model: str) -> tuple[DataSetEntry, str] | None:
    """Return the data set and the split that a model was trained on, as its weights record it, if it is on disk."""
    try:
        key = model, weights_state(model)
        training = _trainings.get(key, lambda: dict(next(recorded_trainings(model_source(model)), {})))
    except SwinError:
        return None
    data, holdout = str(training.get("data", "")), (training.get("holdout", HOLDOUT), training.get("seed", 0))
    for entry in data_sets() if data else ():
        source = entry.source
        is_it = os.path.realpath(source.folder) == os.path.realpath(data) and source.holdout in (None, holdout)
        if "train" in entry.splits and (source.public == data if source.public else is_it):
            return entry, "train"
    return None


@st.fragment
def show_nearest(image: InputImage, models: Sequence[str]) -> None:
    """Draw the section of the nearest images: a choice of model and data set, and the images, or how to get them.

    It starts with the images that the model was trained on.

    Args:
        image: the image that is explained.
        models: the models that explain it.
    """
    st.header("Nearest images", help="Images of a data set with the most similar features, as the model sees them.")
    entries, words = _choices()
    titles = dict(zip(models, column_titles(models), strict=True))
    model = models[0]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if len(models) > 1:
            with st.container(width=300):
                model = choose_from_list("To", list(titles), "near_model", titles.__getitem__, model, [])
        training = training_split(model)
        start = f"{training[0].name}/{training[1]}" if training else NONE
        with st.container(width=300):
            chosen = choose_from_list("Among the images of", list(words), "near", words.__getitem__, start, [])
    if chosen == NONE:
        st.caption(
            "The images that the model was trained on are not recorded or not on this machine. Choose a data set to "
            "see its images that are most alike to the model."
            if training is None
            else "Choose a data set to see its images that are most alike to the model."
        )
        return
    entry, split = entries[chosen]
    draw_nearest(image, FeatureRequest(model, entry.name, (split,)), titles[model], "section")


def draw_nearest(image: InputImage, request: FeatureRequest, title: str, key: str) -> None:
    """Draw the images nearest to an image, or a button that computes their features.

    Args:
        image: the image.
        request: the model and the splits.
        title: the model in words.
        key: key of the container.
    """
    label = "Compute the features"
    explanation = (
        f"The features of these images are not computed yet for {escape_markdown(title)}. That is done once, in the "
        "background; the Map tab of Browse uses them too."
    )
    if not is_anything_computed():
        show_start(request, label, explanation)
        return
    try:
        features = ready_features(request)
        if features is None:
            show_job(request, label, explanation)
        else:
            _show_neighbours(neighbours(image, request, features), title, key)
    except SwinError as error:
        st.error(escape_markdown(str(error)), icon=":material/error:")
