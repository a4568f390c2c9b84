"""The mean map of a class over some images of a data set: computed, cached and drawn."""

import logging
from collections.abc import Sequence

import numpy as np
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard.shared import cache
from dashboard.shared.formatting import unexpected
from dashboard.shared.model_names import model_source, weights_state
from dashboard.shared.theme import escape_markdown
from swin_core.attribution.overlay import Look
from swin_core.comparisons.class_mean import BORDER_AREA, ClassMean, mean_map
from swin_core.data.catalog import Catalog
from swin_core.errors import SwinError
from swin_core.evaluation.predictions import data_state
from swin_core.evaluation.trained_on import recorded_trainings, trained_on
from swin_core.figures.text import percent
from swin_core.system.cache import LRUCache
from swin_core.system.progress import Progress

log = logging.getLogger(__name__)

COUNTS = (8, 16, 32, 64, 128)
SIDE = 320
EDGE_FACTOR = 1.2
"""A map favours the edges if they have more than this times their even share."""

_means: LRUCache[ClassMean] = LRUCache(64)
_trained: LRUCache[np.ndarray | None] = LRUCache(16)


def sample(rows: np.ndarray, count: int) -> np.ndarray:
    """Return up to `count` of the rows, drawn at random but always the same, in their order."""
    return np.sort(np.random.default_rng(0).permutation(rows)[:count])


def trained_rows(model: str, catalog: Catalog) -> np.ndarray | None:
    """Return which images of a catalog a model was trained on, `(N,)` bool; None where that is not recorded."""

    def find() -> np.ndarray | None:
        source = model_source(model)
        if not any(True for _ in recorded_trainings(source)):
            return None
        return np.concatenate([trained_on(source, part) for part in catalog.parts])

    try:
        return _trained.get((model, weights_state(model), *map(data_state, catalog.parts)), find)
    except SwinError:
        return None


def trained_words(model: str, catalog: Catalog, rows: np.ndarray) -> str:
    """Return a sentence on how many of some images a model was trained on."""
    trained = trained_rows(model, catalog)
    if trained is None:
        return "Nothing is recorded about the images that it was trained on."
    count = int(trained[rows].sum())
    if not count:
        return "None of these images was used to train it."
    which = "All of" if count == len(rows) else f"{count:,} of"
    return f"{which} these {len(rows):,} images were used to train it, so the result is optimistic."


def show_mean(
    slot: DeltaGenerator,
    model: str,
    catalog: Catalog,
    rows: np.ndarray,
    target: int,
    look: Look,
    method: str | None = None,
    layer: str | None = None,
) -> None:
    """Compute a mean map and draw it into `slot`, with its progress before.

    Args:
        slot: an empty container.
        model: the model's name.
        catalog: the images.
        rows: the images that are averaged, `(n,)` int64.
        target: the class that is explained, by its index.
        look: colour map, opacity and threshold.
        method, layer: as for `explain`.
    """

    def show_progress(done: int, count: int) -> None:
        slot.progress(done / count, f"{done} of {count} images")

    try:
        mean = _cached(model, catalog, rows, target, (method, layer), show_progress)
    except SwinError as error:
        slot.caption(escape_markdown(str(error)))
    except Exception as error:
        log.exception("the mean map of %s failed", model)
        slot.error(unexpected(error))
    else:
        with slot.container():
            _draw(mean, look, trained_words(model, catalog, rows))


def _cached(
    model: str,
    catalog: Catalog,
    rows: np.ndarray,
    target: int,
    how: tuple[str | None, str | None],
    progress: Progress,
) -> ClassMean:
    classifier = cache.classifier(model)
    method, layer = how
    key = model, weights_state(model), target, how, rows.tobytes(), *map(data_state, catalog.parts)
    return _means.get(
        key,
        lambda: mean_map(classifier, catalog.image, rows, target, method=method, layer=layer, progress=progress),
    )


def _draw(mean: ClassMean, look: Look, trained: str) -> None:
    columns = st.columns(2, gap="small", wrap=False)
    images, values = mean.draw(look, SIDE), (mean.mean, mean.spread)
    for column, kind, image, shown in zip(columns, ("mean", "spread"), images, values, strict=True):
        caption, alt = f"{kind}, 0 to {shown.max():.2g}", f"{kind.capitalize()} of the maps of {mean.label}"
        column.image(image, caption, width="stretch", output_format="JPEG", alt=alt)
    st.markdown(escape_markdown(f"Hottest: {mean.hot_spot}."))
    left_out = _left_out({"empty": mean.empty, "unreadable": mean.unreadable})
    st.caption(
        escape_markdown(
            f"{mean.count} images explained for {mean.label}{left_out}. {_edges(mean.border)} A value of 1 is the "
            f"average of a map. {trained}"
        )
    )


def _edges(border: float) -> str:
    """Say whether a map favours the border, which has the share `border` of its total."""
    if border <= EDGE_FACTOR * BORDER_AREA:
        return "It does not favour the edges."
    return f"It favours the edges: {percent(border)} of it lies on the outer {percent(BORDER_AREA)} of the image."


def _left_out(counts: dict[str, int]) -> str:
    parts: Sequence[str] = [f"{count} {what}" for what, count in counts.items() if count]
    return f", {' and '.join(parts)} left out" if parts else ""
