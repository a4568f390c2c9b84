"""The link to the current view."""

from urllib.parse import urlencode

import streamlit as st

from dashboard.shared.shared_uploads import is_shared, share_uploads
from dashboard.shared.uploads import kept_uploads
from swin_core.runs.read_only import is_read_only


def show_link() -> None:
    """Draw a button that shows the URL of the current view."""
    with st.popover("Link", icon=":material/link:"):
        st.markdown("This link opens the current view, with its images, models and settings.")
        query = urlencode([(name, value) for name in st.query_params for value in st.query_params.get_all(name)])
        st.code(f"{st.context.url or ''}{'?' if query else ''}{query}", language=None, wrap_lines=True)
        if kept_uploads():
            shared = [is_shared(upload) for upload in kept_uploads()]
            if all(shared):
                st.caption("Your uploads are part of it, and kept on this machine for a day.")
            else:
                st.caption(f"{'Some of your uploads' if any(shared) else 'Uploaded images'} are not part of it.")
                if not is_read_only():
                    st.button("Put my images into the link for a day", on_click=share_uploads, key="share_uploads")
