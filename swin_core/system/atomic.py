"""Replace a file so that a crash at any moment leaves the old one or the new one, never a part."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

__all__ = ["replacing"]


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of `path` when the block ends without an error.

    The draft lies beside `path`, since a file can only be renamed within a file system; its name is unique, so that two
    writers never share one. It is on the disk before it gets its name, and is removed if anything fails.

    Raises:
        OSError: the file cannot be written; `path` is then as it was.
    """
    path = Path(path)
    draft = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with draft.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        with suppress(OSError):  # after success it is gone; after a failure that one is told
            draft.unlink()
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    # Some network drives cannot sync a folder; the file itself is complete all the same.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
