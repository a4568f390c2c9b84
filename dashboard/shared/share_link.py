"""The link that leads back to the current view."""

from urllib.parse import urlencode

import streamlit as st


def show_link(uploads: bool) -> None:
    """The address that leads back to this view."""
    with st.popover("Link", icon=":material/link:"):
        st.markdown("This address leads back to this view: it holds images, models and look.")
        query = urlencode([(name, value) for name in st.query_params for value in st.query_params.get_all(name)])
        st.code(f"{st.context.url or ''}{'?' if query else ''}{query}", language=None, wrap_lines=True)
        if uploads:
            st.caption("Your own images are not in it: they stay on this machine; choose them again.")
