"""The images that were selected on the map, and the ways on with them."""

import numpy as np
import streamlit as st

from dashboard.browse.filters import TABS, ModelChoice, selected_rows
from dashboard.browse.tiles import BrowsedData
from dashboard.shared.film_strip import SHOW_IMAGES_KEY
from dashboard.shared.image_selection import forget_selection, select_images
from dashboard.shared.model_names import MAX_IMAGES

TITLE = "your selection on the map"


def select_on_map(data: BrowsedData, rows: np.ndarray) -> None:
    """Select some images, `(n,)`, in place of those before; with none of them all are shown."""
    select_images(TITLE, [data.name(row) for row in rows.tolist()])


def show_selection(data: BrowsedData, models: ModelChoice) -> None:
    """Draw what can be done with the images that are selected."""
    rows = selected_rows(data)

    def show(maps: bool) -> None:
        st.session_state.update({"view": TABS[0], "page": 1, "maps": maps})

    st.html("<style>.st-key-map_selection { min-height: 2.5rem; }</style>")  # a selection must not move the map
    with st.container(horizontal=True, vertical_alignment="center", key="map_selection"):
        if not len(rows):
            st.caption("Nothing is selected: draw around points, or choose groups in the table.")
            return
        st.markdown(f"**{len(rows):,} {'image' if len(rows) == 1 else 'images'} selected**", width="content")
        st.button("Show them", icon=":material/grid_view:", on_click=show, args=(False,), key="map_show")
        if models.first is not None:
            st.button("Heat maps", icon=":material/gradient:", on_click=show, args=(True,), key="map_heat")
        st.page_link(
            "views/compare.py",
            label=f"Compare the first {MAX_IMAGES}" if len(rows) > MAX_IMAGES else "Compare them",
            icon=":material/compare:",
            query_params={SHOW_IMAGES_KEY: [data.name(row) for row in rows[:MAX_IMAGES].tolist()]},
        )
        if models.first is not None:
            split = data.splits[int(np.bincount(data.catalog.part[rows]).argmax())]  # an audit is of one split
            subject = {"audit_data": data.collection.title, "audit_split": split, "audited": models.first}
            st.page_link(
                "views/audit.py",
                label="Audit them",
                icon=":material/policy:",
                query_params=subject | {"audit_selected": "true"},
            )
        st.button("Clear", icon=":material/close:", on_click=forget_selection, key="map_clear")
