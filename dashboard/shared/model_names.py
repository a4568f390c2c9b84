"""What a person may choose, in a widget or in the address: everything is checked here before it is used.

Streamlit's own limits on widgets hold only in the browser, and an address is typed by anyone.
"""

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path

from swin_core import runs
from swin_core.errors import ModelError, RunError
from swin_core.zoo.load import ASSETS, available

__all__ = [
    "MAX_IMAGES",
    "ROOT",
    "column_titles",
    "display_name",
    "from_display_name",
    "model_source",
    "offered_models",
    "resolve_models_once",
    "sample_images",
    "sample_label",
    "unique",
    "weights_state",
]

ROOT = Path.cwd()
"""The folder that the program was started in. Paths of weights files are relative to it, and none may leave it."""

MAX_IMAGES = 8
"""Rows of one grid."""

_SAFE = re.compile(r"\w[\w.+-]*(?:/\w[\w.+-]*)*", re.ASCII)
"""Parts of letters, digits and . _ + - that do not begin with a dot: no `..`, no absolute path, no NUL."""

_RUN = re.compile(
    r"(?P<time>\d{8}-\d{6}-)(?P<title>[^/]+)(?:/checkpoints/(?:epoch-(?P<epoch>\d+)|(?P<other>[^/]+))\.safetensors)?"
)
_WORDS = re.compile(
    r"(?P<title>[^/ ,()]+)(?:, (?:epoch (?P<epoch>\d{1,9})|(?P<other>[^/ ,()]+)))? \((?P<time>\d{8}-\d{6})\)"
)

WeightsState = tuple[str, int, int] | None

_resolved: ContextVar[dict[str, WeightsState] | None] = ContextVar("resolved", default=None)
"""What `weights_state` returned in this rerun; None outside of reruns."""

_PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def sample_images() -> dict[str, Path]:
    """The bundled sample images: name to file."""
    files = sorted((ASSETS / "samples").glob("*"))
    return {file.stem: file for file in files if file.suffix.lower() in _PICTURE_SUFFIXES}


def sample_label(sample: str) -> str:
    """What a sample shows, which is its name in words."""
    return sample.replace("_", " ")


def offered_models() -> list[str]:
    """The bundled models, then runs that have weights, newest first, each with its checkpoints."""
    names = list(available())
    # What cannot be listed can still be written, and is refused with a reason then.
    with suppress(RunError):
        for run in runs.list_runs():
            names += sorted(checkpoint.model for checkpoint in run.checkpoints())
    return names


def column_titles(names: Sequence[str]) -> tuple[str, ...]:
    """What to call models side by side: a run without its time, and its checkpoint in words, if that tells them apart.

    `20261124-154500-mine/checkpoints/epoch-0003.safetensors` is "mine, epoch 3".
    """
    short = [_title(name, timed=False) for name in names]
    return tuple(
        title if short.count(title) == 1 else _title(name, timed=True) for title, name in zip(short, names, strict=True)
    )


def display_name(name: str) -> str:
    """A model's name as a person reads it in a list, what tells it apart first: "mine, epoch 3 (20261124-154500)"."""
    found = _RUN.fullmatch(name)
    words = f"{_title(name, timed=False)} ({found.group('time')[:-1]})" if found else name
    return words if from_display_name(words) == name else name


def from_display_name(words: str) -> str:
    """The name that `in_words` put into words; any other text is a name already."""
    found = _WORDS.fullmatch(words)
    if not found:
        return words
    title, epoch, other, time = found.group("title", "epoch", "other", "time")
    file = f"epoch-{int(epoch):04d}" if epoch else other
    return f"{time}-{title}" + (f"/checkpoints/{file}.safetensors" if file else "")


def _title(name: str, timed: bool) -> str:
    found = _RUN.fullmatch(name)
    if not found:
        return name
    time, title, epoch, other = found.group("time", "title", "epoch", "other")
    run = f"{time}{title}" if timed else title
    return f"{run}, epoch {int(epoch)}" if epoch else f"{run}, {other}" if other else run


def model_source(name: str) -> str:
    """What `swin_core.load` shall load for the name of a model.

    Args:
        name: a bundled name, `timm/<model>`, a run's name, `RUN/checkpoints/<file>`, or a weights file's path from the
            folder that the program was started in.

    Raises:
        ModelError: a name that leads out of the project's and the runs' folder or holds other characters, before any
            file is looked at; or a file that is not there.
    """
    if not _SAFE.fullmatch(name) or len(name) > 200:
        raise ModelError(
            "A model's name may hold letters, digits and . _ + - and name folders inside the project only: "
            "give a bundled name, timm/<model>, a run, or a weights file such as runs/mine/model.safetensors."
        )
    if name.startswith("timm/") or name in available():
        return name
    place = _inside(ROOT, name) or _of_a_run(name)
    if place is None:
        raise ModelError(
            f"There is no model {name}: it is no bundled model and no file or run in the project's folder. "
            "For a model of timm write timm/ before its name."
        )
    return str(place)


def _inside(folder: Path, name: str) -> Path | None:
    """A file or folder that is there and lies in the folder."""
    place = folder / name
    # A link may lead elsewhere, so it is what the path resolves to that has to lie in the folder.
    return place if place.exists() and place.resolve().is_relative_to(folder.resolve()) else None


def _of_a_run(name: str) -> Path | None:
    run, _, rest = name.partition("/")
    try:
        folder = runs.find(run).folder.resolve()
    except RunError:
        return None
    return _inside(folder, rest) if rest else folder


def resolve_models_once() -> None:
    """Start a rerun: until the next call in this thread, `weights_state` looks at the file of each model once."""
    _resolved.set({})


def weights_state(name: str) -> WeightsState:
    """Return what identifies the current weights of a model: path, modification time in ns, and size in bytes.

    A run that trains on has another state after each save. None for a name that is no file here.
    """
    known = _resolved.get()
    if known is None:
        return _state(name)
    if name not in known:
        known[name] = _state(name)
    return known[name]


def _state(name: str) -> WeightsState:
    try:
        place = Path(model_source(name))
        file = place / "model.safetensors" if place.is_dir() else place
        seen = file.stat()
    except (ModelError, OSError):
        return None
    return str(file), seen.st_mtime_ns, seen.st_size


def unique(groups: Iterable[Sequence[str]]) -> list[str]:
    """All names of some groups, each once, in order."""
    return list(dict.fromkeys(name for group in groups for name in group))
