"""Images of a person's own: their bytes are kept for the session, so that they are there on every page.

Streamlit forgets an uploader's files as soon as another page is shown. So a file leaves the uploader at once and stands
below it, with a button that removes it.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import streamlit as st

from dashboard.shared.model_names import MAX_IMAGES
from dashboard.shared.theme import escape_markdown
from swin_core.figures.text import shorten
from swin_core.images.read import IMAGE_SUFFIXES

__all__ = ["Upload", "choose_uploads", "kept_uploads"]

BYTES_AT_MOST = 100 * 2**20
"""Of all images of a session together: they stay in memory."""
NAME_COLUMNS = 26


@dataclass(frozen=True)
class Upload:
    """A file as it came from the browser."""

    name: str
    content: bytes
    digest: str
    """SHA-256 of the bytes, in hexadecimal."""


def kept_uploads() -> list[Upload]:
    """The images of this session, oldest first."""
    kept: list[Upload] = st.session_state.setdefault("kept_uploads", [])
    return kept


def choose_uploads(on_first: Callable[[], None]) -> list[Upload]:
    """The uploader, and what was uploaded so far with a button each that removes it.

    Args:
        on_first: called when an image is uploaded and there was none.
    """
    # An uploader is emptied by giving its place to a new one.
    number = st.session_state.setdefault("uploader_number", 0)
    st.file_uploader(
        "Your own",
        type=[suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES],
        accept_multiple_files=True,
        key=f"uploads_{number}",
        on_change=_keep,
        args=(number, on_first),
    )
    if left_out := st.session_state.pop("left_out_uploads", ""):
        st.warning(
            f"Left out: {escape_markdown(left_out)}. Up to {MAX_IMAGES} images of your own with "
            f"{BYTES_AT_MOST // 2**20} MiB are kept: remove one first."
        )
    kept = kept_uploads()
    if kept:
        with st.container(horizontal=True, gap="xsmall", key="kept_uploads_list"):
            for upload in kept:
                st.button(
                    escape_markdown(shorten(upload.name, NAME_COLUMNS)),
                    icon=":material/close:",
                    icon_position="right",
                    help=f"Remove {escape_markdown(upload.name)}. It is kept in memory until this tab is closed.",
                    key=f"remove_{upload.digest}",
                    on_click=_remove,
                    args=(upload,),
                )
    return kept


def _keep(number: int, on_first: Callable[[], None]) -> None:
    """Take the files out of the uploader."""
    kept = kept_uploads()
    left_out = []
    if not kept:
        on_first()
    for file in st.session_state[f"uploads_{number}"]:
        content = file.getvalue()
        upload = Upload(file.name, content, hashlib.sha256(content).hexdigest())
        if any(one.digest == upload.digest for one in kept):
            continue
        room = BYTES_AT_MOST - sum(len(one.content) for one in kept)
        if len(kept) < MAX_IMAGES and len(content) <= room:
            kept.append(upload)
        else:
            left_out.append(file.name)
    st.session_state.uploader_number = number + 1
    if left_out:
        st.session_state.left_out_uploads = ", ".join(left_out)


def _remove(upload: Upload) -> None:
    st.session_state.kept_uploads = [one for one in kept_uploads() if one != upload]
