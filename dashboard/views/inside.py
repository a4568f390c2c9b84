"""The Inside page: how does a shifted window see?"""

import streamlit as st

from dashboard.inside.controls import (
    PanelContext,
    choose_block,
    choose_head,
    choose_panel,
    choose_subject,
    choose_token,
)
from dashboard.inside.layout import STYLE, show_stages
from dashboard.inside.panel_texts import available_panels, describe_missing
from dashboard.inside.panels import show_equation, show_panel
from dashboard.shared.cache import loaded_classifier
from dashboard.shared.model_names import display_name, sample_images
from dashboard.shared.page_heading import show_heading
from dashboard.shared.share_link import show_link
from dashboard.shared.sidebar import choose_images, choose_models
from dashboard.shared.theme import escape_markdown
from dashboard.shared.uploads import kept_uploads
from dashboard.shared.url_state import settle, surplus_models, unknown_values, with_previous_warnings
from swin_core.errors import SwinError

ignored = unknown_values("sample", list(sample_images())) + surplus_models()
with st.sidebar:
    pictures, faults = choose_images()
    models = choose_models()
settle(ignored)

actions = show_heading("inside")
st.html(STYLE)
for fault in faults:
    st.error(escape_markdown(fault), icon=":material/error:")
warning = st.container()
if not pictures or not models:
    missing = "an image" if not pictures else "a model"
    st.info(f"Choose {missing} in the sidebar to look inside.", icon=":material/arrow_back:")
    st.stop()

controls = st.container(horizontal=True)
with controls:
    subject = choose_subject(pictures, models, ignored)
progress = f"Loading {display_name(subject.model)}" if loaded_classifier(subject.model) is None else "Running the model"
try:
    with st.spinner(progress, show_time=True):
        anatomy, inside = subject.anatomy(), subject.inside()
except SwinError as error:
    st.error(escape_markdown(str(error)), icon=":material/error:")
    st.stop()

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
    if block and panel.title in ("Windows", "Attention"):
        with controls:
            token = choose_token(block.grid, ignored)
    if block and panel.title in ("Attention", "Position bias"):
        head = choose_head(block.heads, ignored)
    try:
        show_panel(panel, PanelContext(subject, anatomy, inside, block, token, head), ignored)
    except SwinError as error:
        st.error(escape_markdown(str(error)), icon=":material/error:")
if ignored := with_previous_warnings(ignored):
    warning.warning(escape_markdown(f"These values in the address were ignored: {'; '.join(ignored)}."))
with actions:
    show_link(uploads=bool(kept_uploads()))
