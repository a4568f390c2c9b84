"""The dashboard's entry: `streamlit run dashboard/app.py`."""

import sys
from pathlib import Path

import streamlit as st

# Streamlit puts this file's folder on the import path, not the project's root, where swin_core and dashboard
# lie.
ROOT = str(Path(__file__).resolve().parent.parent)
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)

HERE = Path(__file__).parent

st.set_page_config(page_title="SwinLens", page_icon=str(HERE / "icon.svg"), layout="wide")
st.logo(str(HERE / "logo.svg"), size="large", icon_image=str(HERE / "icon.svg"))

page = st.navigation(
    [
        st.Page(
            "views/compare.py",
            title="Compare",
            icon=":material/compare:",
            default=True,
            help="Heat maps of up to four models on the same pictures, side by side.",
        ),
        st.Page(
            "views/train.py",
            title="Train",
            icon=":material/model_training:",
            help="Start training runs, watch their curves, stop and resume them, and open their checkpoints.",
        ),
    ],
    position="top",
)
page.run()
