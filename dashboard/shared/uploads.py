"""Images of the user's own: uploaded, dropped, pasted or taken by the camera; kept in memory for the session.

Streamlit forgets an uploader's files when another page is shown. So files are moved out of the uploader at once.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import streamlit as st

from dashboard.shared.cache import SHORTER_SIDE, InputImage, read_input_image
from dashboard.shared.model_names import MAX_IMAGES
from dashboard.shared.notices import notice, set_notice, show_notice
from dashboard.shared.upload_limits import SESSION_BYTES
from dashboard.shared.url_state import set_url_list, url_list
from swin_core.errors import first_names
from swin_core.images.read import IMAGE_SUFFIXES, read_image

MAX_BYTES = SESSION_BYTES
"""Of all images of a session together."""
LARGEST_BYTES = 50 * 2**20
"""Of a dropped or pasted image; as `server.maxUploadSize` for the uploader."""

_drop_zone = st.components.v2.component(
    "swinlens_drop_zone", js=(Path(__file__).parent / "drop_zone.js").read_text(encoding="utf-8")
)


@dataclass(frozen=True)
class Upload:
    """An image of the user's own."""

    name: str
    content: bytes
    digest: str
    """SHA-256 of the content, in hexadecimal."""


def kept_uploads() -> list[Upload]:
    """Return the uploads of this session, oldest first."""
    kept: list[Upload] = st.session_state.setdefault("kept_uploads", [])
    return kept


def upload_image(upload: Upload) -> InputImage:
    """Return the image of an upload, reduced if it is large; decoded once.

    Raises:
        ImageError: it cannot be read.
    """
    read = partial(read_image, upload.content, shorter_side=SHORTER_SIDE)
    return read_input_image((upload.digest, upload.name), upload.name, "", read)


def choose_uploads(on_first: Callable[[], None]) -> None:
    """Draw the uploader, and the camera behind a switch; `on_first` is called for the first image of a session."""
    # A new key makes a new, empty uploader.
    number = st.session_state.setdefault("uploader_number", 0)
    st.file_uploader(
        "Your images",
        type=[suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES],
        accept_multiple_files=True,
        help="You can also drop images anywhere on the page, or paste one.",
        key=f"uploads_{number}",
        on_change=_take_uploads,
        args=(number, on_first),
    )
    if st.toggle("Use the camera", key="camera_on"):
        st.camera_input("Camera", label_visibility="collapsed", key="camera", on_change=_take_photo, args=(on_first,))


def accept_drops(on_first: Callable[[], None]) -> None:
    """Accept images that are dropped anywhere on the page or pasted, and show what was left out."""
    with st.container(key="drops"):
        _drop_zone(
            key="drop_zone",
            data={"suffixes": sorted(IMAGE_SUFFIXES), "largest": LARGEST_BYTES},
            on_files_change=partial(_take_dropped, on_first),
        )
    show_notice("uploads")


def remove_upload(upload: Upload) -> None:
    """Forget an upload, also in the link; to be called in a callback."""
    st.session_state.kept_uploads = [kept for kept in kept_uploads() if kept.digest != upload.digest]
    set_url_list("shared", [digest for digest in url_list("shared", []) if digest != upload.digest])


def add_uploads(files: Iterable[tuple[str, bytes]], on_first: Callable[[], None]) -> None:
    """Keep files, by name and content, up to the limits; a notice names those that are left out."""
    kept, left_out = kept_uploads(), []
    if not kept:
        on_first()
    for name, content in files:
        upload = Upload(name, content, hashlib.sha256(content).hexdigest())
        if any(known.digest == upload.digest for known in kept):
            continue
        if len(kept) < MAX_IMAGES and len(content) + sum(len(known.content) for known in kept) <= MAX_BYTES:
            kept.append(upload)
        else:
            left_out.append(name)
    room = f"Up to {MAX_IMAGES} uploads with {MAX_BYTES // 2**20} MiB together are kept: remove one first."
    set_notice("uploads", f"Left out: {', '.join(left_out)}. {room}" if left_out else "")


def _take_uploads(number: int, on_first: Callable[[], None]) -> None:
    """Move the files out of the uploader."""
    files = [(file.name, file.getvalue()) for file in st.session_state[f"uploads_{number}"]]
    st.session_state.uploader_number = number + 1
    add_uploads(files, on_first)


def _take_photo(on_first: Callable[[], None]) -> None:
    photo = st.session_state.camera
    if photo is not None:
        number = sum(upload.name.startswith("camera") for upload in kept_uploads()) + 1
        add_uploads([(f"camera {number}.jpg", photo.getvalue())], on_first)


def _take_dropped(on_first: Callable[[], None]) -> None:
    """Keep the files that the browser sent, and name those that it left out; what is no list of files is dropped."""
    sent = st.session_state.drop_zone.get("files") or []
    files, left_out = [], []
    for file in sent if isinstance(sent, list) else []:
        try:
            if "content" in file:
                files.append((str(file["name"]), base64.b64decode(file["content"], validate=True)))
            else:
                left_out.append(str(file["name"]))
        except (binascii.Error, KeyError, TypeError, ValueError):
            continue
    set_notice("uploads", "")
    if files:
        add_uploads(files, on_first)
    if left_out:
        text = f"Left out: {first_names(left_out)}. Drop images of up to {LARGEST_BYTES // 2**20} MiB each."
        set_notice("uploads", f"{notice('uploads')} {text}".strip())
