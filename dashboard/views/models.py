"""The Models page: add a model from a weights file, and the list of models that are offered."""

import streamlit as st

from dashboard.models.form import show_form
from dashboard.models.listing import show_list
from dashboard.models.trial import is_local
from dashboard.shared.page_heading import show_heading
from swin_core.runs.read_only import is_read_only


def main() -> None:
    """Draw the page."""
    show_heading("models")
    if is_local() and not is_read_only():
        show_form()
    elif not is_read_only():
        st.info(
            "Models are added on the machine that serves this page, since they are written to its disk:",
            icon=":material/lock:",
        )
        st.code("swinlens models add WEIGHTS --labels names.txt", language="bash")
    show_list()


main()
