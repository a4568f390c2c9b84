"""The files that visitors cause, uploads and answers: how much they may fill, and when they are deleted."""

import contextlib
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from swin_core.errors import ImageError


@dataclass
class _File:
    """An upload or a file of an answer."""

    address: str
    bytes: int
    sessions: set[str]
    """Sessions that use it, "" for an upload that none has used yet; two visitors may upload the same image."""


class VisitorFiles:
    """Files by visitor. All methods may be called from any thread.

    A visitor is a network address. Above a limit the oldest file is deleted: of the visitor who is above theirs, or of
    the one that holds most.

    Args:
        per_visitor: bytes that one visitor's files may fill.
        total: bytes that all files may fill.
    """

    def __init__(self, per_visitor: int = 256 * 2**20, total: int = 2**30):
        self._per_visitor = per_visitor
        self._total = total
        self._lock = threading.Lock()
        self._files: dict[Path, _File] = {}
        """The oldest first."""
        self._arriving: Counter[str] = Counter()
        self._cut_off: list[tuple[float, str, int]] = []
        """Uploads that were cut off: when by `time.monotonic`, the address, the bytes. Their files are still there."""
        self._ended: dict[str, float] = {}
        """When a session ended, by `time.monotonic`."""

    def arrive(self, address: str, size: int) -> None:
        """Count bytes of an upload that is not complete; a negative `size` takes them back.

        Raises:
            ImageError: the uploads that arrive at the same time exceed a limit.
        """
        with self._lock:
            self._arriving[address] += size
            if not self._arriving[address]:
                del self._arriving[address]
            if size > 0 and (self._arriving[address] > self._per_visitor or self._arriving.total() > self._total):
                raise ImageError("too many uploads arrive at once: try again in a minute.")

    def cut_off(self, address: str, size: int) -> None:
        """Count bytes of an upload that was cut off as arriving until `delete_unfinished` has deleted its file."""
        with self._lock:
            self._cut_off.append((time.monotonic(), address, size))

    def add(self, path: Path, address: str, session: str = "") -> None:
        """Register a file of a visitor, and delete older ones above the limits."""
        with self._lock:
            # Content that is uploaded again lies at the same path: it is new now.
            known = self._files.pop(path, None)
            try:
                self._files[path] = _File(
                    address, path.stat().st_size, {session} | (known.sessions if known else set())
                )
            except FileNotFoundError:
                return
            while held := self._held():
                most, size = held.most_common(1)[0]
                if size <= self._per_visitor and held.total() <= self._total:
                    break
                self._delete(next(path for path, file in self._files.items() if file.address == most))

    def use(self, path: object, session: str) -> None:
        """Register that a session uses a file, so that it is kept until the session ends."""
        with self._lock:
            self._ended.pop(session, None)
            if isinstance(path, str) and (file := self._files.get(Path(path))) is not None:
                file.sessions.add(session)
                file.sessions.discard("")

    def end(self, session: str) -> None:
        """Register that a session ended."""
        with self._lock:
            self._ended[session] = time.monotonic()

    def sweep(self, grace: float) -> None:
        """Delete the files of sessions that ended `grace` seconds ago, and forget files that others deleted."""
        with self._lock:
            now = time.monotonic()
            over = {session for session, ended in self._ended.items() if now - ended >= grace}
            for session in over:
                del self._ended[session]
            for path, file in list(self._files.items()):
                file.sessions -= over
                if not file.sessions or not path.exists():
                    self._delete(path)

    def delete_unfinished(self, folder: Path, silent_seconds: float) -> None:
        """Delete uploads that were cut off: no part of them has arrived for `silent_seconds`. Give their bytes back.

        Gradio writes an upload directly into the folder and moves it to a folder of its own once it is complete. It
        deletes no file of a request that was refused or whose sender hung up.

        Raises:
            OSError: the folder cannot be read.
        """
        now = time.monotonic()
        oldest = time.time() - silent_seconds
        for path in folder.iterdir():
            with contextlib.suppress(OSError):  # moved meanwhile
                if path.is_file() and path.stat().st_mtime <= oldest:
                    path.unlink()
        with self._lock:
            deleted = [entry for entry in self._cut_off if now - entry[0] >= silent_seconds]
            self._cut_off = [entry for entry in self._cut_off if now - entry[0] < silent_seconds]
        for _, address, size in deleted:
            self.arrive(address, -size)

    def _held(self) -> Counter[str]:
        held: Counter[str] = Counter()
        for file in self._files.values():
            held[file.address] += file.bytes
        return held

    def _delete(self, path: Path) -> None:
        del self._files[path]
        with contextlib.suppress(OSError):  # Gradio deletes old files too
            path.unlink(missing_ok=True)
            path.parent.rmdir()
