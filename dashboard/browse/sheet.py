"""The sample sheet of the Browse page: a page of images that can be picked, with or without heat maps."""

import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard.browse.filters import PAGE_SIZES, ModelChoice, toggle_in_tray
from dashboard.browse.tiles import BrowsedData, Tile, add_predictions, class_words, heat_maps, plain_tiles, verdict
from dashboard.shared import cache
from dashboard.shared.datasets import find_image
from dashboard.shared.film_strip import SHOW_IMAGES_KEY, set_tray, tray
from dashboard.shared.model_names import MAX_IMAGES
from dashboard.shared.notices import notice, show_notice
from dashboard.shared.theme import escape_markdown
from dashboard.shared.url_state import invalid_number
from swin_core.attribution.defaults import default_method
from swin_core.attribution.methods import METHODS
from swin_core.attribution.overlay import Look
from swin_core.errors import DataError, SwinError
from swin_core.evaluation.selection import CatalogPredictions
from swin_core.figures.text import percent

HEAT_MAPS_AT_MOST = PAGE_SIZES[0]
LEAST_TILE = 104
"""Least width of a tile in pixels: nine side by side at 1,440, three on a phone."""
# A click must not move the images: the empty tray is as high as a full one, and the details of the clicked image stick
# to the bottom of the window.
_STYLE = """<style>
.st-key-tray { min-height: 2.5rem; }
:has(> .st-key-details) { position: sticky; bottom: 0.75rem; z-index: 2; }
.st-key-details {
  max-height: min(45vh, 16rem); overflow: auto;
  background: light-dark(#FFFFFF, #12161C); box-shadow: 0 2px 14px rgb(0 0 0 / 0.25);
}
</style>"""

_HERE = Path(__file__).parent
_gallery = st.components.v2.component(
    "swinlens_gallery",
    html='<ul id="sheet">\n</ul>',
    css=(_HERE / "gallery.css").read_text(encoding="utf-8"),
    js=(_HERE / "gallery.js").read_text(encoding="utf-8"),
)


def show_tray() -> None:
    """Draw the tray: how many images are picked, and links to the pages that can show them."""
    picked = tray()
    st.html(_STYLE)
    with st.container(horizontal=True, vertical_alignment="center", key="tray"):
        if notice("tray"):
            show_notice("tray")
        elif picked:
            st.markdown(f"**{_count_images(len(picked))} in the tray**")
        else:
            st.caption(f"Click up to {MAX_IMAGES} images to put them into the tray and open them on another page.")
        if picked:
            # Links, since `st.switch_page` would remove all choices from the URL.
            st.page_link("views/compare.py", label="To Compare", icon=":material/compare:")
            st.page_link("views/inside.py", label="To Inside", icon=":material/grid_view:")
            st.button("Empty the tray", icon=":material/delete_sweep:", on_click=set_tray, args=([],), key="empty_tray")
    for name in picked:
        try:
            find_image(name)
        except DataError as error:
            st.error(escape_markdown(str(error)), icon=":material/error:")


def _count_images(count: int) -> str:
    return f"{count:,} {'image' if count == 1 else 'images'}"


def show_sheet(
    data: BrowsedData,
    rows: np.ndarray,
    models: ModelChoice,
    results: Sequence[CatalogPredictions],
    look: Look | None,
    ignored: list[str],
) -> None:
    """Draw one page of the images `rows`, `(n,)`, with the predictions that are ready.

    `look` is that of the heat maps, or None for plain images. `ignored` receives a warning if the URL names a page that
    does not exist.
    """
    if not len(rows):
        st.info(
            "No image matches all filters: widen the class, the search or what is shown.", icon=":material/search_off:"
        )
        return
    size, page = _choose_page(data, rows, look is not None, ignored)
    page_rows = [int(row) for row in rows[(page - 1) * size : page * size]]
    tiles = plain_tiles(data, page_rows)
    for tile, row in zip(tiles, page_rows, strict=True):
        if results:
            add_predictions(tile, row, results)
        tile["picked"] = tile["name"] in tray()
    status, sheet = st.empty(), st.empty()
    if look is not None and results and models.first:
        _add_heat_maps(tiles, data, page_rows, models, results[0], look, status, sheet)
    _draw_tiles(sheet, data, tiles, "sheet")
    _show_details(data, models, results)


def _draw_tiles(container: DeltaGenerator, data: BrowsedData, tiles: list[Tile], key: str) -> None:
    def toggle() -> None:
        if name := st.session_state[key].toggled:
            toggle_in_tray(str(name))
            st.session_state.clicked = str(name)

    with container:
        _gallery(
            data={"tiles": tiles, "title": f"Images of {data.collection.title}", "least": LEAST_TILE},
            key=key,
            on_toggled_change=toggle,
        )


def _choose_page(data: BrowsedData, rows: np.ndarray, maps: bool, ignored: list[str]) -> tuple[int, int]:
    """Draw the page controls; return the page size and the page from 1. Other images start at the first page."""
    digest = zlib.crc32(rows.tobytes())
    if st.session_state.setdefault("sheet_rows", digest) != digest:
        st.session_state.sheet_rows = digest
        st.session_state.page = 1
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.caption(_count_images(len(rows)))
        names = [data.name(int(row)) for row in rows[:MAX_IMAGES]]
        label = f"Compare the first {len(names)}" if len(rows) > len(names) else "Compare these"
        st.page_link("views/compare.py", label=label, icon=":material/compare:", query_params={SHOW_IMAGES_KEY: names})
        pagination = st.container(width="content")
        size = st.segmented_control(
            "Images on a page",
            PAGE_SIZES,
            default=PAGE_SIZES[0],
            required=True,
            key="size",
            bind="query-params",
            label_visibility="collapsed",
            disabled=maps,
        )
    size = HEAT_MAPS_AT_MOST if maps else int(size or PAGE_SIZES[0])
    pages = -(-len(rows) // size)
    if "page" not in st.session_state:
        ignored += invalid_number("page", 1, pages)
    elif int(st.session_state.page or 1) > pages:
        st.session_state.page = pages
    with pagination:
        return size, min(st.pagination(pages, key="page", bind="query-params"), pages)


def _add_heat_maps(
    tiles: list[Tile],
    data: BrowsedData,
    rows: list[int],
    models: ModelChoice,
    result: CatalogPredictions,
    look: Look,
    status: DeltaGenerator,
    sheet: DeltaGenerator,
) -> None:
    """Replace the images of the tiles by heat maps of the predicted classes; show progress in `status`."""
    started = False

    def progress(done: int, count: int) -> None:
        nonlocal started
        if not started:
            _draw_tiles(sheet, data, tiles, "sheet_before")  # show the plain images meanwhile
        started = True
        status.progress(done / count, f"Heat maps: {done} of {count} images")

    model, predictions = str(models.first), result.predictions
    readable = [(tile, row) for tile, row in zip(tiles, rows, strict=True) if predictions.predicted[row] >= 0]
    targets = [int(predictions.predicted[row]) for _, row in readable]
    try:
        sources = heat_maps(data, [row for _, row in readable], targets, model, look, progress)
    except SwinError as error:
        status.error(escape_markdown(str(error)), icon=":material/error:")
        return
    method = METHODS[default_method(cache.classifier(model))].title
    scale = "one scale for the page" if look.scale == "shared" else "each on its own scale"
    status.caption(
        escape_markdown(
            f"Heat maps for the class that {models.titles[0]} predicts: {method}, {scale}. "
            "The scale of a fine map ends at its 99th percentile."
        )
    )
    for (tile, _), target, source in zip(readable, targets, sources, strict=True):
        if source.startswith("data:image/"):
            tile["source"] = source
            tile["alt"] = f"Heat map for {class_words(predictions.labels)[target]} on {tile['details']}"


def _show_details(data: BrowsedData, models: ModelChoice, results: Sequence[CatalogPredictions]) -> None:
    """Show each model's likeliest classes for the image clicked last, if it is still in the tray."""
    name = st.session_state.get("clicked", "")
    row = data.row(name) if name in tray() else None
    if row is None or not results:
        return
    with st.container(border=True, key="details"):
        image, *columns = st.columns([1, *[2] * len(results)], vertical_alignment="center")
        with suppress(DataError):
            image.image(data.image(row), width=128, alt=data.label(row))
        image.caption(escape_markdown(f"{data.label(row)}, {data.catalog.files[row]}"))
        for column, title, result in zip(columns, models.titles, results, strict=False):
            predictions = result.predictions
            loss = "" if np.isnan(predictions.loss[row]) else f", loss {predictions.loss[row]:.3g}"
            column.markdown(f"**{escape_markdown(title)}** {escape_markdown(verdict(result, row)[1])}{loss}")
            for index, share in zip(predictions.top[row], predictions.probabilities[row], strict=True):
                if index >= 0:
                    text = f"{class_words(predictions.labels)[index]} · {percent(float(share))}"
                    column.progress(min(float(share), 1.0), escape_markdown(text))
