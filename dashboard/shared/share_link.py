"""The link to the current view."""

from urllib.parse import urlencode

import streamlit as st

from dashboard.shared.uploads import kept_uploads


def show_link() -> None:
    """Draw a button that shows the URL of the current view."""
    with st.popover("Link", icon=":material/link:"):
        st.markdown("This link opens the current view, with its images, models and settings.")
        query = urlencode([(name, value) for name in st.query_params for value in st.query_params.get_all(name)])
        st.code(f"{st.context.url or ''}{'?' if query else ''}{query}", language=None, wrap_lines=True)
        if kept_uploads():
            st.caption("Uploaded images are not part of it: they stay on this machine, so upload them again.")
