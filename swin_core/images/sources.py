"""Read the bytes of an image or array file, within a limit, with errors that name the file."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from swin_core.errors import ImageError

Source = str | os.PathLike[str] | bytes | bytearray | BinaryIO
"""A path, the bytes, or a binary file."""


@contextmanager
def naming_source(source: Source) -> Iterator[None]:
    """Complete the messages of an `ImageError`: "is empty" becomes "rose.jpg is empty."

    The image readers raise what follows the name.
    """
    try:
        yield
    except ImageError as error:
        name = os.fsdecode(source) if isinstance(source, str | os.PathLike) else "the file"
        printable = "".join(letter if letter.isprintable() else "?" for letter in name)
        raise ImageError(f"{printable} {error}.") from error.__cause__


def reason(error: Exception) -> str:
    """Return the message of a library's error in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def read_bytes(source: Source, max_bytes: int) -> bytes:
    """Return the content of a source; files are read from their start.

    Raises:
        ImageError: missing, unreadable, empty, longer than `max_bytes`, not a regular file, or open as text.
    """
    try:
        if isinstance(source, bytes | bytearray):
            content = bytes(source[: max_bytes + 1])
        elif isinstance(source, str | os.PathLike):
            with open(_open_file(source), "rb") as file:
                content = file.read(max_bytes + 1)
        elif not hasattr(source, "read"):
            raise ImageError(f"is {type(source).__name__}; give a path, bytes or a binary file")
        else:
            if source.seekable():
                source.seek(0)
            content = source.read(max_bytes + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path, or a closed file
        text = (error.strerror if isinstance(error, OSError) else None) or reason(error)
        raise ImageError(f"cannot be read ({text}); choose another file") from error
    if not isinstance(content, bytes):
        raise ImageError("is open as text; open it in binary mode")
    if len(content) > max_bytes:
        raise ImageError(f"has more than {max_bytes / 2**20:g} MiB; make it smaller")
    if not content:
        raise ImageError("is empty; save or fetch it again")
    return content


def read_head(path: str | os.PathLike[str], count: int) -> bytes:
    """Return the first `count` bytes of a file, or all of a shorter one.

    Raises:
        ImageError: missing, unreadable, empty, or not a regular file. The message does not name the file.
    """
    try:
        descriptor = _open_file(path)
        try:
            head = os.read(descriptor, count)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ImageError(f"cannot be read ({error.strerror or reason(error)})") from error
    if not head:
        raise ImageError("is empty")
    return head


def _open_file(path: str | os.PathLike[str]) -> int:
    """Return the descriptor of a regular file."""
    # O_NONBLOCK: opening a named pipe without a writer would block.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ImageError("is a folder or a device; choose a file")
    return descriptor
