"""The mean map of a class over some images of a data set: computed, cached and drawn."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import streamlit as st
from PIL import Image

from dashboard.shared import cache
from dashboard.shared.formatting import unexpected
from dashboard.shared.look import held_look
from dashboard.shared.model_names import column_titles, model_source, weights_state
from dashboard.shared.theme import escape_markdown
from dashboard.shared.viewer import show_viewer
from swin_core.comparisons.class_mean import BORDER_AREA, ClassMean, mean_map
from swin_core.data.catalog import Catalog
from swin_core.errors import SwinError
from swin_core.evaluation.predictions import data_state
from swin_core.evaluation.trained_on import recorded_trainings, trained_on
from swin_core.figures.grid import MapCell, MapGrid, MapRow
from swin_core.figures.text import percent
from swin_core.system.cache import LRUCache
from swin_core.system.progress import Progress

log = logging.getLogger(__name__)

COUNTS = (8, 16, 32, 64, 128)
SIDE = 320
EDGE_FACTOR = 1.2
"""A map favours the edges if they have more than this times their even share."""

_NO_CELL = MapCell(None, None)

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


def show_means(
    targets: Mapping[str, int | None],
    catalog: Catalog,
    rows: np.ndarray,
    method: str | None = None,
    layer: str | None = None,
) -> None:
    """Compute the mean map of each model, with its progress, and draw them beside each other.

    Args:
        targets: the class that is explained by its index in each model; None if the model does not have it.
        catalog: the images.
        rows: the images that are averaged, `(n,)` int64.
        method, layer: as for `explain`.
    """
    status, titles = st.empty(), column_titles(list(targets))
    columns = []
    for (model, target), title in zip(targets.items(), titles, strict=True):

        def show_progress(done: int, count: int, title: str = title) -> None:
            status.progress(done / count, escape_markdown(f"{title}: {done} of {count} images"))

        if target is None:
            columns.append((MapCell(None, None, error="This model does not have this class."), _NO_CELL))
            continue
        try:
            mean = _cached(model, catalog, rows, target, (method, layer), show_progress)
        except SwinError as error:
            columns.append((MapCell(None, None, error=str(error)), _NO_CELL))
        except Exception as error:
            log.exception("the mean map of %s failed", model)
            columns.append((MapCell(None, None, error=unexpected(error)), _NO_CELL))
        else:
            columns.append(_cells(mean, trained_words(model, catalog, rows)))
    status.empty()
    photo = next((means.image for means, _ in columns if means.image is not None), None)
    names = ("Mean of the maps", "Standard deviation")
    map_rows = (MapRow(name, photo, cells) for name, cells in zip(names, zip(*columns, strict=True), strict=True))
    _show(MapGrid(tuple(map_rows), titles))


@st.fragment
def _show(grid: MapGrid) -> None:
    """Draw the maps; a change of the look runs this alone."""
    show_viewer(replace(grid, look=held_look().look), "mean_maps")


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


def _cells(mean: ClassMean, trained: str) -> tuple[MapCell, MapCell]:
    """Return the mean and the standard deviation over the mean image."""
    image = np.asarray(Image.fromarray(mean.image).resize((SIDE, SIDE)))  # smooth, unlike repeated pixels
    left_out = _left_out({"empty": mean.empty, "unreadable": mean.unreadable})
    notes = (
        f"Hottest: {mean.hot_spot}.",
        f"{mean.count} images explained for {mean.label}{left_out}.",
        _edges(mean.border),
        trained,
    )
    headline = "0 to {:.2g} times the average of a map".format
    return (
        MapCell(image, mean.mean, headline(mean.mean.max()), notes),
        MapCell(image, mean.spread, headline(mean.spread.max())),
    )


def _edges(border: float) -> str:
    """Say whether a map favours the border, which has the share `border` of its total."""
    if border <= EDGE_FACTOR * BORDER_AREA:
        return "It does not favour the edges."
    return f"It favours the edges: {percent(border)} of it lies on the outer {percent(BORDER_AREA)} of the image."


def _left_out(counts: dict[str, int]) -> str:
    parts: Sequence[str] = [f"{count} {what}" for what, count in counts.items() if count]
    return f", {' and '.join(parts)} left out" if parts else ""
