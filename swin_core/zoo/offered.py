"""Models that the person who starts a page offers to its visitors by the environment variable `SWINLENS_MODELS`."""

import os
from collections.abc import Iterator
from pathlib import Path

from swin_core.zoo.kept_models import is_weights
from swin_core.zoo.python_models import is_python

VARIABLE = "SWINLENS_MODELS"
"""Files and folders, separated as in `PATH`."""

_DEPTH = 3
"""Folders below an offered one that are looked through."""


def offered_files() -> dict[str, Path]:
    """Return the files and model folders of `SWINLENS_MODELS` by the names that pages show.

    A file has its own name, one in a folder the path from that folder on. Of a folder, weights files, folders with a
    model, and Python files that define `load` are offered. Where a name is taken, folders above are put before it.
    """
    found: dict[str, Path] = {}
    entries = [Path(entry).expanduser() for entry in os.environ.get(VARIABLE, "").split(os.pathsep) if entry]
    for path in dict.fromkeys(entry.absolute() for entry in entries if entry.exists()):
        files = [path] if path.is_file() else _models_in(path, _DEPTH)
        ends = {"" if file == path else f"/{file.relative_to(path).as_posix()}": file for file in files}
        names = ("/".join(path.parts[-count:]) for count in range(1, len(path.parts) + 1))
        name = next((name for name in names if not any(name + end in found for end in ends)), str(path))
        found |= {name + end: file for end, file in ends.items()}
    return found


def _models_in(folder: Path, depth: int) -> Iterator[Path]:
    """Yield the models in a folder: itself if it holds a single one, else its files and those of its folders."""
    if (folder / "config.json").is_file() or (folder / "model.safetensors").is_file():
        yield folder
        return
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if depth:
                yield from _models_in(entry, depth - 1)
        elif is_weights(entry) or (is_python(entry) and _defines_load(entry)):
            yield entry


def _defines_load(file: Path) -> bool:
    try:
        return b"def load(" in file.read_bytes()
    except OSError:
        return False
