"""Uploads in links: kept on this machine for a day, and named by their digest in the query parameter `shared`."""

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

from dashboard.shared.notices import set_notice
from dashboard.shared.uploads import add_uploads, kept_uploads
from dashboard.shared.url_state import set_url_list, url_list
from swin_core.system.atomic import atomic_write

KEPT_SECONDS = 24 * 3600
_DIGEST = re.compile("[0-9a-f]{64}")


def folder() -> Path:
    """Return the folder of the kept images, which only this user can read."""
    path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "swinlens" / "shared"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def share_uploads() -> None:
    """Keep the uploads of the session for a day, and name them in the URL; to be called in a callback."""
    for file in folder().iterdir():
        if _age(file) > KEPT_SECONDS:
            file.unlink(missing_ok=True)
    for upload in kept_uploads():
        for suffix, content in (("", upload.content), (".name", upload.name.encode())):
            with atomic_write(folder() / f"{upload.digest}{suffix}") as written:
                written.write(content)
    set_url_list("shared", [upload.digest for upload in kept_uploads()])


def take_shared(on_first: Callable[[], None]) -> None:
    """Add the images that a link names to the uploads; a notice says if one is no longer kept."""
    here = {upload.digest for upload in kept_uploads()}
    missing = 0
    for digest in url_list("shared", []):
        file = folder() / digest if _DIGEST.fullmatch(digest) else None
        if digest in here:
            continue
        if file is None or not file.is_file() or _age(file) > KEPT_SECONDS:
            missing += 1
            continue
        add_uploads([(file.with_suffix(".name").read_text(), file.read_bytes())], on_first)
    if missing:
        set_url_list("shared", [digest for digest in url_list("shared", []) if digest in here])
        set_notice("uploads", "An image of this link is no longer kept: uploads in links are kept for a day.")


def _age(file: Path) -> float:
    try:
        return time.time() - file.stat().st_mtime
    except OSError:
        return float("inf")
