"""Uploaded images, kept in memory for the session.

Streamlit forgets an uploader's files when another page is shown. So files are moved out of the uploader at once, and
listed below it with a button to remove each.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import streamlit as st

from dashboard.shared.model_names import MAX_IMAGES
from dashboard.shared.notices import set_notice, show_notice
from dashboard.shared.theme import escape_markdown
from swin_core.figures.text import shorten
from swin_core.images.read import IMAGE_SUFFIXES

MAX_BYTES = 100 * 2**20
"""Of all images of a session together."""
NAME_COLUMNS = 26


@dataclass(frozen=True)
class Upload:
    """An uploaded file."""

    name: str
    content: bytes
    digest: str
    """SHA-256 of the content, in hexadecimal."""


def kept_uploads() -> list[Upload]:
    """Return the uploads of this session, oldest first."""
    kept: list[Upload] = st.session_state.setdefault("kept_uploads", [])
    return kept


def choose_uploads(on_first: Callable[[], None]) -> list[Upload]:
    """Draw the uploader and the list of uploads; return the uploads.

    Args:
        on_first: called when an image is uploaded and there was none.
    """
    # A new key makes a new, empty uploader.
    number = st.session_state.setdefault("uploader_number", 0)
    st.file_uploader(
        "Your images",
        type=[suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES],
        accept_multiple_files=True,
        key=f"uploads_{number}",
        on_change=_keep,
        args=(number, on_first),
    )
    show_notice("uploads")
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
                    on_click=kept.remove,
                    args=(upload,),
                )
    return kept


def _keep(number: int, on_first: Callable[[], None]) -> None:
    """Move the files out of the uploader."""
    kept, left_out = kept_uploads(), []
    if not kept:
        on_first()
    for file in st.session_state[f"uploads_{number}"]:
        content = file.getvalue()
        upload = Upload(file.name, content, hashlib.sha256(content).hexdigest())
        if any(known.digest == upload.digest for known in kept):
            continue
        if len(kept) < MAX_IMAGES and len(content) + sum(len(known.content) for known in kept) <= MAX_BYTES:
            kept.append(upload)
        else:
            left_out.append(file.name)
    st.session_state.uploader_number = number + 1
    room = f"Up to {MAX_IMAGES} uploads with {MAX_BYTES // 2**20} MiB together are kept: remove one first."
    set_notice("uploads", f"Left out: {', '.join(left_out)}. {room}" if left_out else "")
