"""Files of a cache on disk: the ones that were used last stay within a limit."""

from contextlib import suppress
from pathlib import Path


def remove_oldest(folder: Path, most_files: int, most_bytes: int) -> None:
    """Remove the `.npz` files of a folder that were not used for longest, until the others keep both limits.

    The file that was used last stays even if it alone is too large.

    Args:
        folder: the cache.
        most_files: number of files to keep.
        most_bytes: bytes that they may take together.
    """
    files = []
    for cached in folder.glob("*.npz"):
        with suppress(OSError):  # another process may remove files too
            status = cached.stat()
            files.append((status.st_mtime_ns, status.st_size, cached))
    total = 0
    for number, (_, size, cached) in enumerate(sorted(files, reverse=True)):
        total += size
        if number and (number >= most_files or total > most_bytes):
            with suppress(OSError):
                cached.unlink()
