"""The sample sheet of the Browse page: a page of images that open and can be picked, with or without heat maps."""

import zlib
from collections.abc import Sequence
from importlib.resources import files

import numpy as np
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard.browse.filters import PAGE_SIZES, ModelChoice, toggle_in_tray
from dashboard.browse.large_view import open_large, show_large
from dashboard.browse.tiles import BrowsedData, Tile, add_predictions, heat_maps, plain_tiles
from dashboard.shared import cache
from dashboard.shared.datasets import find_image
from dashboard.shared.film_strip import SHOW_IMAGES_KEY, set_tray, tray
from dashboard.shared.look import held_look, settle_wipe
from dashboard.shared.model_names import MAX_IMAGES
from dashboard.shared.notices import notice, show_notice
from dashboard.shared.theme import escape_markdown
from dashboard.shared.url_state import invalid_number
from dashboard.shared.viewer import events_token, new_events, viewer_module, with_look
from swin_core.attribution.defaults import default_method
from swin_core.attribution.methods import METHODS
from swin_core.errors import DataError, SwinError
from swin_core.evaluation.selection import CatalogPredictions
from swin_core.figures.grid import MapCell, MapGrid, MapRow
from swin_core.figures.viewer_payload import viewer_payload, viewer_style

HEAT_MAPS_AT_MOST = PAGE_SIZES[0]
LEAST_TILE = 104
"""Least width of a tile in pixels: nine side by side at 1,440, three on a phone."""
KEY, BEFORE = "sheet", "sheet_before"
"""Keys of the tiles, and of those that are shown until the heat maps are there."""
# A click must not move the images: the empty tray is as high as a full one.
_STYLE = """<style>
.st-key-tray { min-height: 2.5rem; }
</style>"""

_HERE = files("dashboard.browse")
_gallery = st.components.v2.component(
    "swinlens_gallery",
    html='<ul id="sheet">\n</ul>',
    css=viewer_style() + (_HERE / "gallery.css").read_text("utf-8"),
    js=viewer_module(_HERE / "gallery.js"),
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
            st.caption(f"Click an image to see it large; tick up to {MAX_IMAGES} to open them on another page.")
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
    maps: bool,
    ignored: list[str],
) -> None:
    """Draw one page of the images `rows`, `(n,)`, with the predictions that are ready, and heat maps if `maps`.

    `ignored` receives a warning if the URL names a page that does not exist.
    """
    if not len(rows):
        st.info(
            "No image matches all filters: widen the class, the search or what is shown.", icon=":material/search_off:"
        )
        return
    if _take_clicks():
        st.rerun()  # now, since heat maps may take long
    size, page = _choose_page(data, rows, maps, ignored)
    page_rows = [int(row) for row in rows[(page - 1) * size : page * size]]
    tiles = plain_tiles(data, page_rows)
    for tile, row in zip(tiles, page_rows, strict=True):
        if results:
            add_predictions(tile, row, results)
    is_shown = KEY in st.session_state  # by the last run of the page: it stays until this one is ready
    status, place = st.empty(), st.empty()
    grid = None
    if maps and results:
        if not is_shown:
            with place:
                _draw_tiles(data, tiles, None, BEFORE)
        grid = _map_grid(tiles, data, page_rows, models, results, status)
        ignored += settle_wipe(grid.columns) if grid is not None else []
    with place:
        _show_tiles(data, tiles, grid)
    show_large(data, rows, models, size, ignored)


@st.fragment
def _show_tiles(data: BrowsedData, tiles: list[Tile], grid: MapGrid | None) -> None:
    """Draw the tiles; what the user does in them runs this alone."""
    if _take_clicks():
        st.rerun()
    _draw_tiles(data, tiles, grid, KEY)


def _take_clicks() -> bool:
    """Open or pick the images that were clicked; return whether there are any."""
    acts = {"toggled": toggle_in_tray, "opened": open_large}
    clicks = [event for key in (KEY, BEFORE) for event in new_events(key) if event.name in acts]
    for event in clicks:
        acts[event.name](str(event.value))
        event.done()
    return bool(clicks)


def _draw_tiles(data: BrowsedData, tiles: list[Tile], grid: MapGrid | None, key: str) -> None:
    picked = tray()
    shown = [{**tile, "picked": tile["name"] in picked} for tile in tiles]
    payload = None
    if grid is not None:
        payload, _ = with_look(viewer_payload(grid), held_look().look, key)
        for tile, row in zip(shown, grid.rows, strict=True):
            if row.cells[0].image is not None:
                tile["source"] = ""  # the map's cell has the image
    _gallery(
        data={
            "tiles": shown,
            "title": f"Images of {data.collection.title}",
            "least": LEAST_TILE,
            "maps": payload,
            "session": events_token(),
        },
        key=key,
        on_events_change=lambda: None,  # makes the state known to Streamlit
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


def _map_grid(
    tiles: list[Tile],
    data: BrowsedData,
    rows: list[int],
    models: ModelChoice,
    results: Sequence[CatalogPredictions],
    status: DeltaGenerator,
) -> MapGrid | None:
    """Return the heat maps of the tiles for the classes that each model predicts; show progress in `status`."""
    columns: list[list[MapCell]] = []
    methods = []
    for model, title, result in zip((models.first, models.second), models.titles, results, strict=False):

        def progress(done: int, count: int, title: str = title) -> None:
            status.progress(done / count, escape_markdown(f"Heat maps of {title}: {done} of {count} images"))

        try:
            columns.append(heat_maps(data, rows, result, str(model), progress))
            methods.append(f"{title} by {METHODS[default_method(cache.classifier(str(model)))].title}")
        except SwinError as error:
            status.error(escape_markdown(str(error)), icon=":material/error:")
            return None
    status.caption(escape_markdown(f"Heat maps for the class that each model predicts: {', '.join(methods)}."))
    titles = [tile["details"] for tile in tiles]
    map_rows = [MapRow(title, None, cells) for title, *cells in zip(titles, *columns, strict=True)]
    return MapGrid(tuple(map_rows), models.titles[: len(columns)])
