"""What a person may choose, in a widget or in the address: everything is checked here before it is used.

Streamlit's own limits on widgets hold only in the browser, and an address is typed by anyone.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from swin_core.errors import ModelError
from swin_core.zoo import available

__all__ = ["PICTURES_AT_MOST", "ROOT", "model_source", "once", "samples", "truth_of"]

ROOT = Path(__file__).resolve().parent.parent
"""The project's folder: bundled pictures and models lie in it, and no model is read from outside it."""

PICTURES_AT_MOST = 8
"""Rows of one grid."""

_SAFE = re.compile(r"\w[\w.+-]*(?:/\w[\w.+-]*)*", re.ASCII)
"""Parts of letters, digits and . _ + - that do not begin with a dot: no `..`, no absolute path, no NUL."""

_PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def samples() -> dict[str, Path]:
    """The bundled sample pictures: name to file."""
    files = sorted((ROOT / "assets" / "samples").glob("*"))
    return {file.stem: file for file in files if file.suffix.lower() in _PICTURE_SUFFIXES}


def truth_of(sample: str) -> str:
    """What a sample shows, which is its name in words."""
    return sample.replace("_", " ")


def model_source(name: str) -> str:
    """What `swin_core.load` shall load for the name of a model.

    Args:
        name: a bundled name, `timm/<model>`, a run's name, or a weights file's path from the project's
        folder.

    Raises:
        ModelError: a name that leads out of the project's folder or holds other characters, before any file
        is
            looked at; or a file that is not there.
    """
    if not _SAFE.fullmatch(name) or len(name) > 200:
        raise ModelError(
            "A model's name may hold letters, digits and . _ + - and name folders inside the project only: "
            "give a bundled name, timm/<model>, or a weights file such as runs/mine/model.safetensors."
        )
    if name.startswith("timm/") or name in available():
        return name
    for place in (ROOT / name, ROOT / "runs" / name):
        # A link may lead elsewhere, so it is what the path resolves to that has to lie in the folder.
        if place.exists() and place.resolve().is_relative_to(ROOT):
            return str(place)
    raise ModelError(
        f"There is no model {name}: it is no bundled model and no file or run in the project's folder. "
        "For a model of timm write timm/ before its name."
    )


def once(groups: Iterable[Sequence[str]]) -> list[str]:
    """All names of some groups, each once, in order."""
    return list(dict.fromkeys(name for group in groups for name in group))
