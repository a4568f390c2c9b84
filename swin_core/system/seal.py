"""A checksum at the end of a file of `torch.save`, so that a damaged file is noticed: PyTorch checks only a part of it.

Such a file is a ZIP archive. The checksum is the archive's comment, which ends the file and which all readers skip.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

_MARK = b"swinlens sha256 "
_COMMENT = re.compile(re.escape(_MARK) + rb"[0-9a-f]{64}", re.DOTALL)
_LENGTH = len(_MARK) + 64
_END = b"PK\5\6"  # starts the last record of an archive: 22 bytes, of which the last two are the comment's length
_END_BYTES = 22
_BLOCK = 1 << 20


class _Hashed:
    """Passes writes on to a file and hashes them."""

    def __init__(self, file: BinaryIO):
        self._file, self.digest = file, hashlib.sha256()

    def write(self, data: Any) -> int:
        self.digest.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


@contextmanager
def sealed(file: BinaryIO) -> Iterator[Any]:
    """Yield a file to give to `torch.save`; add the checksum to `file` at the end of the block."""
    hashed = _Hashed(file)
    yield hashed
    file.seek(-2, os.SEEK_END)
    file.write(_LENGTH.to_bytes(2, "little") + _MARK + hashed.digest.hexdigest().encode())


def is_intact(path: Path) -> bool | None:
    """Return whether a file is as `sealed` wrote it; None if it has no checksum.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _LENGTH))
        comment = file.read()
        if not _COMMENT.fullmatch(comment):
            return None
        file.seek(0)
        digest, left = hashlib.sha256(), size - _LENGTH - 2
        while left > 0:
            block = file.read(min(left, _BLOCK))
            digest.update(block)
            left -= len(block) or left
        length = file.read(2)
        digest.update(b"\0\0")  # as it was before the comment was added
        return length == _LENGTH.to_bytes(2, "little") and comment == _MARK + digest.hexdigest().encode()


def ends_as_archive(path: Path) -> bool:
    """Return whether a file ends as a ZIP archive without a comment, such as one of `torch.save`."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _END_BYTES))
        end = file.read()
    return end.startswith(_END) and end.endswith(b"\0\0")
