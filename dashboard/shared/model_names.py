"""Names of models and of sample images: what is offered, how it is shown, and which files a name may reach.

Names come from widgets and from query parameters, so each is checked here before it is used: Streamlit's own limits
hold only in the browser.
"""

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path

from swin_core import runs
from swin_core.errors import ModelError, RunError
from swin_core.runs.read_only import is_read_only
from swin_core.weights.files import split_entry
from swin_core.zoo.kept_models import kept_models
from swin_core.zoo.load import ASSETS, LIBRARIES, available, split_architecture
from swin_core.zoo.model_card import card_path
from swin_core.zoo.offered import VARIABLE, offered_files
from swin_core.zoo.python_models import is_python
from swin_core.zoo.titles import bundled_title

ROOT = Path.cwd()
"""Folder that the server was started in; paths of weights files are relative to it and may not leave it."""

MAX_IMAGES = 8
"""Rows of one grid."""

# Parts of letters, digits and . _ + - that do not start with a dot: no `..`, absolute path or NUL.
_SAFE = re.compile(r"\w[\w.+-]*(?:/\w[\w.+-]*)*", re.ASCII)

_RUN = re.compile(
    r"(?P<time>\d{8}-\d{6}-)(?P<title>[^/]+)(?:/checkpoints/(?:epoch-(?P<epoch>\d+)|(?P<other>[^/]+))\.safetensors)?"
)
_DISPLAY_NAME = re.compile(
    r"(?P<title>[^/ ,()]+)(?:, (?:epoch (?P<epoch>\d{1,9})|(?P<other>[^/ ,()]+)))? \((?P<time>\d{8}-\d{6})\)"
)

WeightsState = tuple[str, int, int, int] | None

# Results of `weights_state` in this rerun; None outside of reruns.
_resolved: ContextVar[dict[str, WeightsState] | None] = ContextVar("resolved", default=None)


def sample_images() -> dict[str, Path]:
    """Return the files of the bundled sample images by name."""
    folder = ASSETS / "samples"
    return dict(_listed_samples(folder, folder.stat().st_mtime_ns)) if folder.is_dir() else {}


@lru_cache(maxsize=2)
def _listed_samples(folder: Path, _changed: int) -> tuple[tuple[str, Path], ...]:
    files = sorted(folder.glob("*"))
    return tuple((file.stem, file) for file in files if file.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))


def sample_label(name: str) -> str:
    """Return the true class of a sample image."""
    return name.replace("_", " ")


def offered_models() -> list[str]:
    """Return the bundled models, those in `models` and of `SWINLENS_MODELS`, and the runs with their checkpoints.

    Runs are sorted by their time, newest first.
    """
    names = [*available(), *kept_models(ROOT), *offered_files()]
    with suppress(RunError):  # a name that is typed in is still tried, and then the reason is shown
        for run in runs.list_runs():
            names += sorted(checkpoint.model for checkpoint in run.checkpoints())
    return names


def column_titles(names: Sequence[str]) -> tuple[str, ...]:
    """Return short titles of models that are shown side by side: "Swin M", "mine, epoch 3", "resnet50 (timm)".

    Where two would have the same title, bundled models add what they know, and runs their time. A run that was
    limited, or changed on the way, says so.
    """
    short = list(map(_title, names))
    told_apart = [
        title if short.count(title) == 1 else model_title(name) for title, name in zip(short, names, strict=True)
    ]
    return tuple(
        (title if told_apart.count(title) == 1 else name) + _remark(name)
        for title, name in zip(told_apart, names, strict=True)
    )


def model_title(name: str) -> str:
    """Return a model's title where it stands for itself: "Swin M · 5 flowers", "20261124-154500-mine, epoch 3"."""
    if _RUN.fullmatch(name):
        return _title(name, timed=True)
    found = bundled_title(name)
    return " · ".join(part for part in (found.title, found.knows) if part) if found.title else _title(name)


def _remark(name: str) -> str:
    """Return " (limited)" for a run that was limited, " (changed)" for one whose settings were changed on the way."""
    if not _RUN.fullmatch(name):
        return ""
    try:
        remarks = runs.find(name.partition("/")[0]).remarks
    except RunError:
        return ""
    words = dict.fromkeys(remark.split()[0] for remark in remarks)
    return f" ({', '.join(words)})" if words else ""


def display_name(name: str) -> str:
    """Return a model's name as fields and links have it: "mine, epoch 3 (20261124-154500)"."""
    match = _RUN.fullmatch(name)
    shown = f"{_title(name)} ({match['time'][:-1]})" if match else name
    return shown if from_display_name(shown) == name else name


def from_display_name(shown: str) -> str:
    """Undo `display_name`; any other text is returned as it is."""
    match = _DISPLAY_NAME.fullmatch(shown)
    if not match:
        return shown
    title, epoch, other, time = match.group("title", "epoch", "other", "time")
    file = f"epoch-{int(epoch):04d}" if epoch else other
    return f"{time}-{title}" + (f"/checkpoints/{file}.safetensors" if file else "")


def _title(name: str, timed: bool = False) -> str:
    """Return the title without what the model knows; `timed` adds the time of a run."""
    match = _RUN.fullmatch(name)
    if not match:
        library, sign, rest = name.partition("/")
        of_library = f"{rest} ({library})" if sign and name.startswith(LIBRARIES) and "@" not in rest else name
        return bundled_title(name).title or of_library
    time, title, epoch, other = match.group("time", "title", "epoch", "other")
    run = f"{time}{title}" if timed else title
    return f"{run}, epoch {int(epoch)}" if epoch else f"{run}, {other}" if other else run


def model_source(name: str) -> str:
    """Return what `swin_core.load` has to load for a model's name.

    Args:
        name: a bundled name, a name of `offered_files`, `timm/<model>`, a run's name, `RUN/checkpoints/<file>`, or a
            weights file's or folder's path relative to `ROOT`, also as `FILE#ENTRY` or `timm/<model>@FILE`; or
            `torchvision/<model>` or `hf/<repo>`. Python files, which would be run, must be offered.

    Raises:
        ModelError: the name is not offered in the read-only mode; or there is no such file, or the name has other
            characters or leads out of `ROOT` and of the runs' folder, which is checked before any file is touched.
    """
    if is_read_only() and name not in offered_models():
        raise ModelError(f"there is no model {name} here: this dashboard is read-only, choose a model that it offers.")
    # A model of the page comes before one that is offered under the same name.
    if name in (offered := offered_files()) and (
        is_python(name) or not _SAFE.fullmatch(name) or _inside(ROOT, name) is None
    ):
        return str(offered[name])
    architecture, file = split_architecture(name)
    if file and _SAFE.fullmatch(architecture):
        return f"{architecture}@{model_source(file)}"
    file, sign, entry = name.rpartition("#")
    if sign and _SAFE.fullmatch(entry):
        return f"{model_source(file)}#{entry}"
    if not _SAFE.fullmatch(name) or len(name) > 200:
        raise ModelError(
            "a model's name consists of letters, digits and . _ + - and of folders inside the project: "
            "give a bundled name, timm/<model>, a run, or a weights file such as runs/mine/model.safetensors."
        )
    if is_python(name):
        raise ModelError(
            f"{name} is a Python file, which would be run: only the person who starts this page can offer it, in the "
            f"environment variable {VARIABLE}."
        )
    if name.startswith(LIBRARIES) or name in available():
        return name
    path = _inside(ROOT, name)
    if path is None:
        run, _, file = name.partition("/")
        with suppress(RunError):
            folder = runs.find(run).folder.resolve()
            path = _inside(folder, file) if file else folder
    if path is None:
        raise ModelError(
            f"there is no model {name}: it is no bundled model, no run, and no file in the working folder. "
            "For a model of another library write timm/, torchvision/ or hf/ before its name."
        )
    return str(path)


def _inside(folder: Path, name: str) -> Path | None:
    """Return the path of an existing file or folder whose links do not lead out of the given folder."""
    path = folder / name
    return path if path.exists() and path.resolve().is_relative_to(folder.resolve()) else None


def resolve_models_once() -> None:
    """Start a rerun: until the next call in this thread, `weights_state` looks at the file of each model once."""
    _resolved.set({})


def weights_state(name: str) -> WeightsState:
    """Return what identifies a model's weights and card: path, time in ns and size in bytes, and the time of the card.

    It changes with each save of a run or of the card. None for models that are not files here.
    """
    known = _resolved.get()
    if known is None:
        return _state(name)
    if name not in known:
        known[name] = _state(name)
    return known[name]


def _state(name: str) -> WeightsState:
    try:
        source = model_source(name)
        path, _ = split_entry(split_architecture(source)[1] or source)
        file = path / "model.safetensors" if path.is_dir() else path
        status = file.stat()
        card = card_path(file)
        card_time = card.stat().st_mtime_ns if card.is_file() else 0
    except (ModelError, OSError):
        return None
    return str(file), status.st_mtime_ns, status.st_size, card_time


def unique(groups: Iterable[Sequence[str]]) -> list[str]:
    """Return the names in all groups, in order and without repetitions."""
    return list(dict.fromkeys(name for group in groups for name in group))
