"""The Inside page: patches, shifted windows, attention and cost of one model on one image."""

from functools import partial

import streamlit as st

from dashboard.inside.controls import (
    PanelContext,
    choose_block,
    choose_head,
    choose_inspection,
    choose_panel,
    choose_token,
)
from dashboard.inside.layout import STYLE, show_stages
from dashboard.inside.panel_texts import available_panels, describe_missing
from dashboard.inside.panels import TOKEN_PANELS, encode_panel, show_equation, show_panel
from dashboard.shared.cache import loaded_classifier
from dashboard.shared.export_menu import DRAWINGS, show_exports
from dashboard.shared.film_strip import can_show, choose_images, unknown_samples
from dashboard.shared.look import current_look, held_look
from dashboard.shared.model_cards import choose_models
from dashboard.shared.model_names import model_title
from dashboard.shared.nearest_images import show_nearest, unknown_data_set
from dashboard.shared.page_heading import show_heading
from dashboard.shared.share_link import show_link
from dashboard.shared.theme import escape_markdown
from dashboard.shared.url_state import settle, show_ignored, surplus_models
from swin_core.errors import SwinError


def main() -> None:
    """Draw the page."""
    _, ignored = current_look()
    ignored += unknown_samples() + surplus_models() + unknown_data_set()
    actions = show_heading("inside")
    images, faults = choose_images()
    models = choose_models()
    settle(ignored)
    st.html(STYLE)
    ignored_box = st.container()
    if not can_show(images, models, faults):
        return
    controls = st.container(horizontal=True)
    with controls:
        inspection = choose_inspection(images, models, ignored)
    loaded = loaded_classifier(inspection.model) is not None
    try:
        with st.spinner("Running the model" if loaded else f"Loading {model_title(inspection.model)}", show_time=True):
            anatomy, internals = inspection.anatomy(), inspection.internals()
    except SwinError as error:
        st.error(escape_markdown(str(error)), icon=":material/error:")
        return
    if text := describe_missing(anatomy):
        st.info(escape_markdown(text), icon=":material/info:")
    block, token, head = None, (0, 0), None
    if anatomy.blocks:
        with controls:
            block = choose_block(anatomy.blocks, ignored)
        show_stages(anatomy.blocks, block)
    if panels := available_panels(anatomy):
        with st.container(horizontal=True, vertical_alignment="center"):
            panel = choose_panel(panels, ignored)
            show_equation(panel)
        if block and panel.title in TOKEN_PANELS:
            with controls:
                token = choose_token(block.grid, ignored)
        if block and panel.title in ("Attention", "Position bias"):
            head = choose_head(block.heads, ignored)
        context = PanelContext(inspection, anatomy, internals, block, token, head, ignored)
        try:
            parts = show_panel(panel, context)
        except SwinError as error:
            st.error(escape_markdown(str(error)), icon=":material/error:")
        else:
            with actions:
                name = f"swinlens-{panel.title.lower().replace(' ', '-')}"
                show_exports(
                    DRAWINGS, partial(encode_panel, panel, context, parts, held_look()), name, disabled=not parts
                )
    show_ignored(ignored, ignored_box)
    with actions:
        show_link()
    show_nearest(inspection.image, [inspection.model])


main()
