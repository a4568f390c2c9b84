"""The dashboard's entry point: `streamlit run dashboard/app.py`."""

from pathlib import Path

import streamlit as st

from dashboard.shared.model_names import resolve_models_once
from dashboard.shared.notices import set_notice
from dashboard.shared.page_heading import PAGES
from dashboard.shared.url_state import IGNORED

HERE = Path(__file__).parent

# Two gaps of Streamlit: white text on the light primary colour of the dark theme has a contrast of only 3 to 1, and
# links to pages show no keyboard focus.
STYLE = """<style>
:is([data-testid^="stBaseButton-primary"]:enabled, [data-tag]) * { color: light-dark(#FFFFFF, #12161C); }
[data-testid="stTopNavLink"]:focus-visible,
[data-testid="stPageLink-NavLink"]:focus-visible { outline: 2px solid currentColor; outline-offset: -2px; }
</style>"""

resolve_models_once()
st.set_page_config(page_title="SwinLens", page_icon=str(HERE / "icon.svg"), layout="wide")
st.html(STYLE)
st.logo(str(HERE / "logo.svg"), size="large", icon_image=str(HERE / "icon.svg"))

page = st.navigation(
    [
        st.Page(
            f"views/{name}.py",
            title=texts.link,
            icon=f":material/{texts.icon}:",
            default=name == next(iter(PAGES)),
            help=texts.sentence,
        )
        for name, texts in PAGES.items()
    ],
    position="top",
)
if st.session_state.get("visited") != page.url_path:
    # A run of another page that was interrupted may have left these behind.
    st.session_state.visited, st.session_state.settled = page.url_path, False
    st.session_state.look_settled = False
    set_notice(IGNORED, "")
page.run()
