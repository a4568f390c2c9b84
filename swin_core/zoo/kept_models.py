"""The folder `models`, where the page keeps weights files that are uploaded to it."""

import hashlib
import re
from pathlib import Path

from swin_core.errors import ModelError
from swin_core.system.atomic import atomic_write

FOLDER = "models"
"""Name of the folder, beside `runs`."""
SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".tar")
"""Ends of the names of weights files."""
SHARED_SUFFIXES = (".bin", ".tar")
"""Those of them that files of any kind have."""


def kept_models(root: Path) -> list[str]:
    """Return the weights files, and the folders with a model, in the folder `models` of `root`, as "models/NAME"."""
    try:
        entries = sorted((root / FOLDER).iterdir())
    except OSError:
        return []
    return [
        f"{FOLDER}/{entry.name}"
        for entry in entries
        if not entry.name.startswith(".") and (is_weights(entry) or (entry / "config.json").is_file())
    ]


def is_weights(file: Path) -> bool:
    """Return whether a file is named like weights; one whose suffix others use too has to begin like weights."""
    suffix = file.suffix.lower()
    if suffix not in SHARED_SUFFIXES:
        return suffix in SUFFIXES
    try:
        with file.open("rb") as opened:
            return opened.read(2).startswith((b"PK", b"\x80"))  # a ZIP archive or a pickle, as torch.save writes them
    except OSError:
        return False


def keep_weights(root: Path, name: str, content: bytes | memoryview) -> str:
    """Write a weights file to the folder `models` of `root`; return "models/NAME".

    No file is replaced: one with the same content is taken instead, beside another one the name gets a number.

    Args:
        root: folder in which `models` lies.
        name: of the file; characters that a model's name may not have become "_".
        content: of the file.

    Raises:
        ModelError: the name has none of `SUFFIXES`, or the disk refuses the file.
    """
    suffix = Path(name).suffix.lower()
    if suffix not in SUFFIXES:
        raise ModelError(
            f"{name[:80]!r} is not named like a weights file: choose one that ends in {' '.join(SUFFIXES)}."
        )
    stem = re.sub(r"[^\w.+-]", "_", Path(name).stem, flags=re.ASCII).lstrip(".+-")[:80] or "model"
    digest, number = hashlib.sha256(content).digest(), 1
    path = root / FOLDER / f"{stem}{suffix}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while path.exists():
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").digest() == digest:
                    return f"{FOLDER}/{path.name}"
            number += 1
            path = path.with_name(f"{stem}-{number}{suffix}")
        with atomic_write(path) as file:
            file.write(content)
    except OSError as error:
        raise ModelError(f"{name[:80]!r} could not be kept in {FOLDER}: {error.strerror or error}.") from error
    return f"{FOLDER}/{path.name}"
