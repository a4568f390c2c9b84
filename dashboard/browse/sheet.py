"""The sample sheet of the Browse page: a page of images that can be picked, as they are or under their heat maps."""

import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import streamlit as st

from dashboard.browse.choices import PAGE_SIZES, Judges, toggle
from dashboard.browse.tiles import Shown, Tile, heat_maps, in_words, plain_tiles, verdict, with_words
from dashboard.shared import cache
from dashboard.shared.datasets import find_image
from dashboard.shared.model_names import MAX_IMAGES
from dashboard.shared.sidebar import SHOW_IMAGES_KEY
from dashboard.shared.theme import escape_markdown
from dashboard.shared.url_state import invalid_number
from swin_core.attribution.defaults import default_method
from swin_core.attribution.methods import METHODS
from swin_core.attribution.overlay import Look
from swin_core.errors import DataError, SwinError
from swin_core.evaluation.selection import CatalogPredictions
from swin_core.figures.text import percent

__all__ = ["HEAT_MAPS_AT_MOST", "show_sheet", "show_tray"]

HEAT_MAPS_AT_MOST = PAGE_SIZES[0]
LEAST_TILE = 104
"""Pixels: nine tiles side by side on a screen of 1,440, three on a phone."""
# A click must not move the images, of which the next is clicked: the empty tray is as high as a full one, and what is
# said about an image lies over the foot of the window.
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
    """What is picked, and where it can go."""
    picked = st.session_state.get("picked") or []
    st.html(_STYLE)
    with st.container(horizontal=True, vertical_alignment="center", key="tray"):
        count = len(picked)
        if st.session_state.pop("tray_full", False):
            st.warning(f"The tray holds {MAX_IMAGES} images: take one out first.", icon=":material/info:")
        elif count:
            st.markdown(f"**{count} {'picture' if count == 1 else 'pictures'} in the tray**")
        else:
            st.caption(f"Click images to put up to {MAX_IMAGES} into the tray, and send them to another page.")
        if count:
            # A link, since `st.switch_page` would take all choices out of the address.
            st.page_link("views/compare.py", label="To Compare", icon=":material/compare:")
            st.page_link("views/inside.py", label="To Inside", icon=":material/grid_view:")
            st.button("Empty the tray", icon=":material/delete_sweep:", on_click=_empty, key="empty_tray")
    for name in picked:
        try:
            find_image(name)
        except DataError as error:
            st.error(escape_markdown(str(error)), icon=":material/error:")


def _empty() -> None:
    st.session_state.picked = []


def show_sheet(
    shown: Shown,
    rows: np.ndarray,
    judges: Judges,
    judgements: Sequence[CatalogPredictions],
    look: Look | None,
    ignored: list[str],
) -> None:
    """One page of the images that were asked for.

    Args:
        shown: the data set.
        rows: the images in order, `(n,)`.
        judges: the models.
        judgements: what they predict, as far as it is known.
        look: of the heat maps, or None for plain images.
        ignored: gets a line for a page that the address asks for in vain.
    """
    if not len(rows):
        st.info(
            "No image fits all choices: widen the class, the search, or what is shown.", icon=":material/search_off:"
        )
        return
    size, page = _choose_page(shown, rows, look is not None, ignored)
    part = [int(row) for row in rows[(page - 1) * size : page * size]]
    tiles = plain_tiles(shown, part)
    letters = ("A", "B") if len(judgements) > 1 else ("",)
    for tile, row in zip(tiles, part, strict=True):
        if judgements:
            with_words(tile, row, list(zip(letters, judgements, strict=False)))
        tile["picked"] = tile["name"] in (st.session_state.get("picked") or [])
    words, sheet = st.empty(), st.empty()
    told: list[int] = []

    def tell(done: int, count: int) -> None:
        if not told:
            # The plain images are there while the maps are computed.
            _mount(sheet, shown, tiles, "sheet_before")
        told.append(done)
        words.progress(done / count, f"Heat maps: {done} of {count} images")

    if look is not None and judgements and judges.first:
        _lay_maps_over(tiles, shown, part, judges, judgements[0], look, words, tell)
    _mount(sheet, shown, tiles, "sheet")
    _show_details(shown, judges, judgements)


def _mount(place: "st.delta_generator.DeltaGenerator", shown: Shown, tiles: list[Tile], key: str) -> None:
    with place:
        _gallery(
            data={"tiles": tiles, "title": f"Images of {shown.collection.title}", "least": LEAST_TILE},
            key=key,
            on_toggled_change=partial(_toggled, key),
        )


def _toggled(key: str) -> None:
    name = st.session_state[key].toggled
    if name:
        toggle(str(name))
        st.session_state.clicked = str(name)


def _link_first(shown: Shown, rows: np.ndarray) -> None:
    """A link that shows the first of the images that were asked for on the Compare page, in place of the tray."""
    names = [shown.name(int(row)) for row in rows[:MAX_IMAGES]]
    words = f"Compare the first {len(names)}" if len(rows) > len(names) else "Compare these"
    st.page_link("views/compare.py", label=words, icon=":material/compare:", query_params={SHOW_IMAGES_KEY: names})


def _choose_page(shown: Shown, rows: np.ndarray, maps: bool, ignored: list[str]) -> tuple[int, int]:
    """Images on a page, and which page; other images start at the first one."""
    digest = zlib.crc32(rows.tobytes())
    if st.session_state.setdefault("sheet_rows", digest) != digest:
        st.session_state.sheet_rows = digest
        st.session_state.page = 1
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.caption(f"{len(rows):,} {'picture' if len(rows) == 1 else 'pictures'}")
        _link_first(shown, rows)
        place = st.container(width="content")
        size = st.segmented_control(
            "On a page",
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
    with place:
        return size, min(st.pagination(pages, key="page", bind="query-params"), pages)


def _show_details(shown: Shown, judges: Judges, judgements: Sequence[CatalogPredictions]) -> None:
    """The first choices of each model for the image that was clicked last, if it is still in the tray."""
    name = st.session_state.get("clicked", "")
    row = shown.row(name) if name in (st.session_state.get("picked") or []) else None
    if row is None or not judgements:
        return
    with st.container(border=True, key="details"):
        picture, *columns = st.columns([1, *[2] * len(judgements)], vertical_alignment="center")
        with suppress(DataError):
            picture.image(shown.image(row), width=128, alt=shown.truth(row))
        picture.caption(escape_markdown(f"{shown.truth(row)}, {shown.catalog.files[row]}"))
        for column, title, judgement in zip(columns, judges.titles, judgements, strict=False):
            found = judgement.predictions
            with column:
                loss = "" if np.isnan(found.loss[row]) else f", loss {found.loss[row]:.3g}"
                st.markdown(f"**{escape_markdown(title)}** {escape_markdown(verdict(judgement, row)[1])}{loss}")
                for index, share in zip(found.top[row], found.probabilities[row], strict=True):
                    if index >= 0:
                        words = f"{in_words(found.labels)[index]} · {percent(float(share))}"
                        st.progress(min(float(share), 1.0), escape_markdown(words))


def _lay_maps_over(
    tiles: list[Tile],
    shown: Shown,
    rows: list[int],
    judges: Judges,
    judgement: CatalogPredictions,
    look: Look,
    place: "st.delta_generator.DeltaGenerator",
    tell: Callable[[int, int], None],
) -> None:
    """Put heat maps of the predicted classes in place of the images."""
    model, found = str(judges.first), judgement.predictions
    read = [place for place, row in enumerate(rows) if found.predicted[row] >= 0]
    try:
        overlays = heat_maps(
            shown,
            [rows[number] for number in read],
            [int(found.predicted[rows[number]]) for number in read],
            model,
            look,
            tell,
        )
    except SwinError as error:
        place.error(escape_markdown(str(error)), icon=":material/error:")
        return
    method = METHODS[default_method(cache.classifier(model))]
    scale = "one scale for the page" if look.scale == "shared" else "each on its own scale"
    scale += ", of fine maps to the 99th percentile"
    place.caption(escape_markdown(f"Heat maps for the class that {judges.titles[0]} predicts: {method}, {scale}."))
    for number, source in zip(read, overlays, strict=True):
        if source.startswith("data:image/"):
            label = in_words(found.labels)[int(found.predicted[rows[number]])]
            tiles[number] |= {"source": source, "alt": f"Heat map for {label} on {tiles[number]['details']}"}
