"""The pages of the dashboard, which app.py serves."""

from pathlib import Path

import streamlit as st

from dashboard.shared.history import keep_history
from dashboard.shared.model_names import resolve_models_once
from dashboard.shared.notices import set_notice
from dashboard.shared.page_heading import PAGES
from dashboard.shared.url_state import IGNORED, forget_written_lists
from swin_core.runs.read_only import NOTE, is_read_only

HERE = Path(__file__).parent

# Two gaps of Streamlit: white text on the light primary colour of the dark theme has a contrast of only 3 to 1, and
# links to pages show no keyboard focus. On a phone the pages are tabs at the bottom in place of Streamlit's header.
STYLE = """<style>
:is([data-testid^="stBaseButton-primary"]:enabled, [data-tag]) * { color: light-dark(#FFFFFF, #12161C); }
[data-testid="stTopNavLink"]:focus-visible,
[data-testid="stPageLink-NavLink"]:focus-visible { outline: 2px solid currentColor; outline-offset: -2px; }
:has(> .st-key-settler), :has(> .st-key-drops), :has(> .st-key-history), :has(> .st-key-tour_place),
:has(> .st-key-map_checks), :has(> .st-key-typing), :has(> .st-key-grid_status),
:has(> .st-key-tabs) {
  position: absolute;
}
/* Hide Streamlit's stale elements: this container lies over the page. */
.st-key-map_checks [data-stale="true"] { display: none; }
:fullscreen :is([data-testid="stHeader"], .st-key-film, [class*="st-key-sentence_"], .st-key-options) { display: none; }
.st-key-grid_status [data-testid="stSpinner"] {
  position: fixed; z-index: 98; top: 45vh; left: 50%; transform: translateX(-50%);
  padding: 8px 18px; border-radius: 20px;
  background: light-dark(#FFFFFF, #1D232C); box-shadow: 0 2px 14px rgb(0 0 0 / 0.25);
}
.st-key-tabs { display: none; }
@media (max-width: 640px) {
  :root { --viewer-bottom: calc(56px + env(safe-area-inset-bottom)); } /* its controls stay above the tabs */
  [data-testid="stHeader"], [data-testid="stSidebar"] { display: none; }
  :has(> .st-key-tour_place) { position: static; }
  [data-testid="stMainBlockContainer"] { padding: 0.75rem 0.9rem 5rem; }
  [data-testid="stMainBlockContainer"] > [data-testid="stVerticalBlock"] { gap: 0.5rem; }
  .st-key-tabs {
    display: flex; flex-wrap: nowrap; position: fixed; z-index: 99; inset: auto 0 0 0; width: 100%;
    justify-content: space-around; background: light-dark(#F7F8FA, #171C23);
    border-top: 1px solid rgba(128, 128, 128, 0.35); padding-bottom: env(safe-area-inset-bottom);
    box-sizing: border-box; height: var(--viewer-bottom);
  }
  .st-key-tabs a { flex-direction: column; gap: 0; padding: 6px 4px; min-width: 48px; align-items: center; }
  .st-key-tabs a * { font-size: 12px; }
  .st-key-tabs a [data-testid="stIconMaterial"] { font-size: 22px; }
}
</style>"""

resolve_models_once()
st.set_page_config(page_title="SwinLens", page_icon=str(HERE / "icon.svg"), layout="wide")
st.html(STYLE)
st.logo(str(HERE / "logo.svg"), size="large", icon_image=str(HERE / "icon.svg"))

pages = [
    st.Page(
        f"views/{name}.py",
        title=texts.link,
        icon=f":material/{texts.icon}:",
        default=name == next(iter(PAGES)),
        help=texts.sentence,
        visibility="hidden" if texts.hidden else "visible",
    )
    for name, texts in PAGES.items()
]
page = st.navigation(pages, position="top")
if st.session_state.get("visited") != page.url_path:
    # A run of another page that was interrupted may have left these behind.
    st.session_state.visited, st.session_state.settled = page.url_path, False
    st.session_state.look_settled = False
    set_notice(IGNORED, "")
    forget_written_lists()
with st.container(horizontal=True, key="tabs", gap=None):
    for each in (each for each in pages if each.visibility == "visible"):
        st.page_link(each, width="content")
keep_history()
if is_read_only():
    st.caption(NOTE)
page.run()
