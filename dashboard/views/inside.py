"""The Inside page: how does a shifted window see?"""

import streamlit as st

from dashboard.inside.choices import Choice, choose_block, choose_head, choose_panel, choose_subject, choose_token
from dashboard.inside.panels import show_equation, show_panel
from dashboard.inside.parts import STYLE, show_stages
from dashboard.inside.words import missing, panels_of
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
ignored_place = st.container()
if not pictures or not models:
    absent = "an image" if not pictures else "a model"
    st.info(f"Choose {absent} in the sidebar to look inside.", icon=":material/arrow_back:")
    st.stop()

controls = st.container(horizontal=True)
with controls:
    subject, unknown = choose_subject(pictures, models)
ignored += unknown
waiting = f"Loading {display_name(subject.model)}" if loaded_classifier(subject.model) is None else "Running the model"
try:
    with st.spinner(waiting, show_time=True):
        parts, inside = subject.anatomy(), subject.inside()
except SwinError as error:
    st.error(escape_markdown(str(error)), icon=":material/error:")
    st.stop()

panels = panels_of(parts)
if line := missing(parts):
    st.info(escape_markdown(line), icon=":material/info:")
if parts.blocks:
    with controls:
        block, unknown = choose_block(parts.blocks)
    ignored += unknown
    show_stages(parts.blocks, block)
if panels:
    with st.container(horizontal=True, vertical_alignment="center"):
        panel, unknown = choose_panel(panels)
        show_equation(panel)
    ignored += unknown
    token, head = (0, 0), None
    with controls:
        if panel.title in ("Windows", "Attention"):
            token, unknown = choose_token(block.grid)
            ignored += unknown
    if panel.title in ("Attention", "Position bias"):
        head, unknown = choose_head(block.heads)
        ignored += unknown
    try:
        ignored += show_panel(panel, Choice(subject, parts, inside, block if parts.blocks else None, token, head))
    except SwinError as error:
        st.error(escape_markdown(str(error)), icon=":material/error:")
if ignored := with_previous_warnings(ignored):
    ignored_place.warning(escape_markdown(f"The address holds values that were ignored: {'; '.join(ignored)}."))
with actions:
    show_link(uploads=bool(kept_uploads()))
