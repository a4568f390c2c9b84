"""The dashboard's entry: `streamlit run dashboard/app.py`."""

from pathlib import Path

import streamlit as st

from dashboard.shared.model_names import resolve_models_once
from dashboard.shared.page_heading import BROWSE, COMPARE, INSIDE, TRAIN

HERE = Path(__file__).parent

# Streamlit writes in white on the primary colour, which in the dark theme is too light for that: 3 to 1. And its links
# to the pages do not show that they have the focus of the keyboard.
STYLE = """<style>
:is([data-testid^="stBaseButton-primary"], [data-tag]) * { color: light-dark(#FFFFFF, #12161C); }
[data-testid="stTopNavLink"]:focus-visible { outline: 2px solid currentColor; outline-offset: -2px; }
</style>"""

resolve_models_once()
st.set_page_config(page_title="SwinLens", page_icon=str(HERE / "icon.svg"), layout="wide")
st.html(STYLE)
st.logo(str(HERE / "logo.svg"), size="large", icon_image=str(HERE / "icon.svg"))

page = st.navigation(
    [
        st.Page(
            "views/compare.py",
            title="Compare",
            icon=":material/compare:",
            default=True,
            help=COMPARE.sentence,
        ),
        st.Page(
            "views/browse.py",
            title="Browse",
            icon=":material/photo_library:",
            help=BROWSE.sentence,
        ),
        st.Page(
            "views/train.py",
            title="Train",
            icon=":material/model_training:",
            help=TRAIN.sentence,
        ),
        st.Page(
            "views/inside.py",
            title="Inside",
            icon=":material/grid_view:",
            help=INSIDE.sentence,
        ),
    ],
    position="top",
)
if st.session_state.get("visited") != page.url_path:
    # Lines on the address that a stopped run left behind belong to the page before.
    st.session_state.visited, st.session_state.settled, st.session_state.came_back = page.url_path, False, False
page.run()
