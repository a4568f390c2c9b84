"""Uploads in links: kept on this machine for a day, and named by their digest in the query parameter `shared`."""

import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from dashboard.shared.notices import notice, set_notice
from dashboard.shared.uploads import Upload, add_uploads, kept_uploads
from dashboard.shared.url_state import set_url_list, url_list
from swin_core.system.atomic import atomic_write

KEPT_SECONDS = 24 * 3600
MOST_BYTES = 2**30
"""Of the kept images of all sessions together."""
_DIGEST = re.compile("[0-9a-f]{64}")


def folder() -> Path:
    """Return the folder of the kept images, which only this user can read. It may not be there yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "swinlens" / "shared"


def share_uploads() -> None:
    """Keep the uploads of the session for a day, and name them in the URL; to be called in a callback."""
    try:
        folder().mkdir(mode=0o700, parents=True, exist_ok=True)
        for upload in kept_uploads():
            # The name first: an image that is there has its name.
            for suffix, content in ((".name", upload.name.encode(errors="replace")), ("", upload.content)):
                with atomic_write(folder() / f"{upload.digest}{suffix}") as written:
                    written.write(content)
    except OSError as error:
        set_notice("uploads", f"Your images could not be put into the link: {error.strerror or error}.")
        return
    _sweep()
    set_url_list("shared", [upload.digest for upload in kept_uploads()])


def is_shared(upload: Upload) -> bool:
    """Return whether the link holds an upload."""
    return upload.digest in url_list("shared", [])


def take_shared(on_first: Callable[[], None]) -> None:
    """Add the images that a link names to the uploads; a notice says if one is no longer kept."""
    _sweep()
    here = {upload.digest for upload in kept_uploads()}
    named = url_list("shared", [])
    read = [_read(digest) for digest in named if digest not in here]
    if not read:
        return
    if files := [file for file in read if file is not None]:
        add_uploads(files, on_first)
    if None in read:
        gone = "An image of this link is no longer kept: uploads in links are kept for a day."
        set_notice("uploads", f"{notice('uploads')} {gone}".strip())
    here = {upload.digest for upload in kept_uploads()}
    set_url_list("shared", [digest for digest in named if digest in here])
    url_list("shared", [])  # writes the URL


def _read(digest: str) -> tuple[str, bytes] | None:
    """Return name and content of a kept image, or None if it is no longer kept."""
    if not _DIGEST.fullmatch(digest):
        return None
    file = folder() / digest
    try:
        if time.time() - file.stat().st_mtime > KEPT_SECONDS:
            return None
        return file.with_suffix(".name").read_text(encoding="utf-8"), file.read_bytes()
    except (OSError, UnicodeDecodeError):  # another page may delete it now
        return None


def _sweep() -> None:
    """Delete what was kept for a day, and the oldest files until the others are small enough."""
    try:
        files = [(status.st_mtime, status.st_size, file) for file in folder().iterdir() for status in [file.stat()]]
    except OSError:  # no folder, or another page deletes files now
        return
    room = MOST_BYTES
    for changed, size, file in sorted(files, reverse=True):
        room -= size
        if room < 0 or time.time() - changed > KEPT_SECONDS:
            with suppress(OSError):
                file.unlink()
