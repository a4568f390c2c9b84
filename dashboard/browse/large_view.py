"""The large view of an image: its class, predictions and heat maps, and the way to the images beside it."""

from importlib.resources import files

import numpy as np
import streamlit as st

from dashboard.browse.filters import ModelChoice, toggle_in_tray
from dashboard.browse.tiles import BrowsedData
from dashboard.shared.cache import InputImage
from dashboard.shared.comparison import Comparison, ImageAndClass
from dashboard.shared.datasets import data_image
from dashboard.shared.feature_jobs import FeatureRequest, ready_features
from dashboard.shared.film_strip import tray
from dashboard.shared.look import held_look
from dashboard.shared.nearest_images import draw_nearest, training_split
from dashboard.shared.notices import show_notice
from dashboard.shared.theme import escape_markdown
from dashboard.shared.viewer import show_viewer
from swin_core.errors import SwinError
from swin_core.figures.grid import Grid

PARAMETER = "image"
"""Query parameter: the name of the image that is open."""

_keys = st.components.v2.component(
    "swinlens_large_keys", js=(files("dashboard.browse") / "large_keys.js").read_text("utf-8")
)


def open_large(name: str) -> None:
    """Open the large view of an image at the next run of the page."""
    st.query_params[PARAMETER] = name


def show_large(data: BrowsedData, rows: np.ndarray, models: ModelChoice, page_size: int, ignored: list[str]) -> None:
    """Draw the large view over the page if an image is open.

    Args:
        data: the data set.
        rows: the images that the filters select, in their order, `(n,)`; keys and buttons go through them.
        models: the models that explain the image.
        page_size: images on a page of the sheet.
        ignored: receives a warning if the URL names an image that is not among them.
    """
    name = st.query_params.get(PARAMETER)
    if name is None:
        return
    if _position(data, rows, name) is None:
        ignored.append(f"{PARAMETER}={name[:80]} (possible: an image that the filters select)")
        del st.query_params[PARAMETER]
        return

    def close() -> None:
        position = _position(data, rows, st.query_params.pop(PARAMETER, ""))
        if position is not None:
            st.session_state.page = position // page_size + 1

    title = escape_markdown(f"Images of {data.collection.title}")
    st.dialog(title, width="large", on_dismiss=close)(_draw)(data, rows, models)


def _position(data: BrowsedData, rows: np.ndarray, name: str) -> int | None:
    found = np.flatnonzero(rows == data.row(name))
    return int(found[0]) if len(found) else None


def _draw(data: BrowsedData, rows: np.ndarray, models: ModelChoice) -> None:
    name = st.query_params.get(PARAMETER, "")
    position = _position(data, rows, name)
    if position is None:  # Back in the browser closed it
        st.rerun()

    def go(step: int) -> None:
        here = _position(data, rows, st.query_params.get(PARAMETER, ""))
        if here is not None:
            open_large(data.name(int(rows[min(max(here + step, 0), len(rows) - 1)])))

    st.html("<style>[role=dialog] { --viewer-bottom: 0; }</style>")  # no tabs of a phone under the viewer here
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        for step, label, icon, end in ((-1, "Previous", "back", 0), (1, "Next", "forward", len(rows) - 1)):
            st.button(
                label,
                icon=f":material/arrow_{icon}:",
                help=f"{label} image: the arrow key",
                disabled=position == end,
                on_click=go,
                args=(step,),
                key=f"large_{label.lower()}",
            )
        st.markdown(f"**{position + 1:,} of {len(rows):,}**", width="content")
        picked = name in tray()
        st.button(
            "Remove from Compare" if picked else "Add to Compare",
            icon=":material/remove:" if picked else ":material/add:",
            on_click=toggle_in_tray,
            args=(name,),
            key="large_pick",
        )
        if picked:
            st.page_link("views/compare.py", label="To Compare", icon=":material/compare:")
    show_notice("tray")
    _keys(data={"name": name}, key="large_keys", height=1)
    try:
        image = data_image(name)
    except SwinError as error:
        st.error(escape_markdown(str(error)), icon=":material/error:")
        return
    shown = tuple(model for model in (models.first, models.second) if model is not None)
    if not shown:
        st.markdown(f"**{escape_markdown(image.truth)}** {escape_markdown(image.title)}")
        st.image(image.pil, alt=f"Image {image.title}")
        return
    comparison = Comparison((ImageAndClass(image),), shown)
    grid = Grid(tuple(comparison.rows()), comparison.columns, held_look().look)
    show_viewer(grid, "large")
    _show_nearest(data, image, shown[0], models.titles[0])


def _show_nearest(data: BrowsedData, image: InputImage, model: str, title: str) -> None:
    """Draw the nearest images that the model was trained on, and those of the same data if their features are there.

    Where the training images are not on this machine, a button computes the features of the same data.
    """
    training = training_split(model)
    same = FeatureRequest(model, data.collection.name, data.splits)
    if training is not None:
        entry, split = training
        request = FeatureRequest(model, entry.name, (split,))
        st.markdown("**Nearest training images**")
        draw_nearest(image, request, title, "training")
        try:
            if same == request or ready_features(same) is None:
                return
        except SwinError:
            return  # what cannot be read has no features
    st.markdown("**Nearest images of the same data**")
    draw_nearest(image, same, title, "same")
