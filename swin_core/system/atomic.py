"""Write a file so that a crash at any moment leaves the old content or the new, never a part."""

import errno
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from swin_core.errors import ConfigError


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces `path` when the block ends without an error.

    The temporary file is in the folder of `path`, since a rename is atomic only within a file system, and its name is
    unique, so concurrent writers do not mix. It is synced to disk before the rename and removed after an error.

    Raises:
        OSError: the file cannot be written; `path` is unchanged.
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
        with suppress(OSError):  # it is gone after success, and after a failure that error must be the one raised
            draft.unlink()
    with suppress(OSError):  # some network drives cannot sync a folder; the file itself is complete all the same
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_file(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file that a user named, the whole of it or nothing.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        with atomic_write(path) as file:
            file.write(content)
    except OSError as error:
        raise _not_writable(path, error) from error


def check_writable(path: str | os.PathLike[str]) -> None:
    """Check that a file can be written, before the work whose result goes there; the file is left as it is.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        if Path(path).is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with tempfile.TemporaryFile(dir=Path(path).parent):
            pass
    except OSError as error:
        raise _not_writable(path, error) from error


def _not_writable(path: str | os.PathLike[str], error: OSError) -> ConfigError:
    return ConfigError(f"{os.fspath(path)!r} cannot be written: {error.strerror or error}; name another file.")
