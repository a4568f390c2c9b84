"""The Mean map tab of the Browse page: the mean map of a class over the images that the filters select."""

from collections.abc import Sequence

import numpy as np
import streamlit as st

from dashboard.browse.filters import ModelChoice
from dashboard.browse.matching import ByHand
from dashboard.browse.tiles import BrowsedData, class_words
from dashboard.shared import cache
from dashboard.shared.mean_map import COUNTS, sample, show_means
from dashboard.shared.theme import escape_markdown
from dashboard.shared.url_state import unknown_values
from swin_core.class_names import candidates
from swin_core.errors import SwinError
from swin_core.evaluation.selection import CatalogPredictions


def show_mean_map(
    data: BrowsedData,
    rows: np.ndarray,
    models: ModelChoice,
    results: Sequence[CatalogPredictions],
    by_hand: ByHand,
    ignored: list[str],
) -> None:
    """Draw the mean map of each chosen model over a sample of the images `rows`, `(n,)`.

    `by_hand` has the first model's labels for classes that it does not know by name. `ignored` receives a warning for
    each value of the URL that is not offered.
    """
    if models.first is None or not len(rows):
        st.info("Choose a model, and filters that some images match.")
        return
    try:
        labels = cache.classifier(models.first).labels
    except SwinError as error:
        st.error(escape_markdown(str(error)), icon=":material/error:")
        return
    words = class_words(labels)
    likely = _likely(data, rows, labels, by_hand, results)
    if likely is None:
        st.info("The mean map of these images needs the predictions of the model.")
        return
    with st.container(horizontal=True):
        if "mean_of" not in st.session_state:
            ignored += unknown_values("mean_of", list(words))
        target = st.selectbox(
            "Class to explain",
            range(len(labels)),
            likely,
            format_func=words.__getitem__,
            key="mean_of",
            width=230,
            bind="query-params",
        )
        count = st.selectbox(
            "Images at most", COUNTS, COUNTS.index(32), key="mean_count", width=150, bind="query-params"
        )
    chosen = sample(rows, int(count))
    st.caption(
        f"The mean of the maps of {len(chosen):,} of the {len(rows):,} images that the filters select, on the mean of "
        "these images."
    )
    names = [model for model in (models.first, models.second) if model is not None]
    show_means({model: _index(model, labels[target]) for model in names}, data.catalog, chosen)


def _likely(
    data: BrowsedData,
    rows: np.ndarray,
    labels: Sequence[str],
    by_hand: ByHand,
    results: Sequence[CatalogPredictions],
) -> int | None:
    """Return the model's class that most of the images are of; of unknown classes, the one that it predicts most.

    None while the latter is not known yet.
    """
    classes, counts = data.catalog.classes, np.bincount(data.catalog.labels[rows] + 1)[1:]
    if counts.any():
        name = classes[int(counts.argmax())]
        if len(found := candidates(labels, by_hand.get(name, name))) == 1:
            return found[0]
    if not results:
        return None
    predicted = results[0].predictions.predicted[rows]
    return int(np.bincount(predicted + 1)[1:].argmax()) if (predicted >= 0).any() else 0


def _index(model: str, label: str) -> int | None:
    try:
        labels = cache.classifier(model).labels
    except SwinError:
        return None
    return labels.index(label) if label in labels else None
