"""Training runs and bundled models as the Train page lists them."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from dashboard.shared.formatting import ago
from dashboard.shared.model_names import model_title
from swin_core import runs
from swin_core.training.recipes import changed_settings, marks, nearest_recipe
from swin_core.zoo.load import available, weights_file

BUNDLED = "bundled"
"""State of a model that comes with the project; it has no run folder here."""


@dataclass(frozen=True)
class RunSummary:
    """A run, or how a bundled model was trained."""

    name: str
    """The name of the run's folder, or of the bundled model."""
    title: str
    settings: Mapping[str, Any]
    state: str
    epochs: Sequence[Mapping[str, Any]]
    """Rows of `metrics.jsonl`."""
    steps: Sequence[Mapping[str, Any]] = ()
    """Rows of `steps.jsonl`."""
    reason: str = ""
    alive: bool = False
    devices: tuple[str, ...] = ()
    status: Mapping[str, Any] = field(default_factory=dict)
    changes: Sequence[Mapping[str, Any]] = ()
    """Changes of settings on the way, as `runs.read_changes` returns them."""

    @property
    def recipe(self) -> str:
        """The nearest recipe, with the number of settings that differ."""
        name = nearest_recipe(self.settings)
        changes = len(changed_settings(self.settings, name))
        return f"{name} + {changes}" if changes else name

    @property
    def marks(self) -> tuple[str, ...]:
        """What has to be said beside the metrics; see `recipes.marks`."""
        return marks(self.settings, self.changes)

    @property
    def remarks(self) -> str:
        """The marks in few words: a limit of images, and changes on the way."""
        return "; ".join(runs.remarks_on(self.settings, self.changes))

    @property
    def data(self) -> str:
        """Name of the data set or of its folder."""
        return Path(str(self.settings.get("data", ""))).name

    @property
    def last_update(self) -> str:
        """Age of the status, such as "12 s ago"."""
        updated = self.status.get("updated")
        return ago(time.time() - updated) if isinstance(updated, int | float) else ""

    @property
    def epochs_done(self) -> int:
        """Finished epochs."""
        return _whole(self.status.get("epoch"), len(self.epochs))

    @property
    def epochs_planned(self) -> int:
        """Epochs of the whole run."""
        return _whole(self.settings.get("epochs"), len(self.epochs))

    @property
    def best(self) -> float | None:
        """Best validation top-1 so far, from 0 to 1."""
        return max(self.values("top1"), default=None)

    @property
    def balanced(self) -> float | None:
        """Balanced accuracy of the last epoch, from 0 to 1; None where classes are even."""
        return next(reversed(self.values("balanced")), None)

    @property
    def speed(self) -> float | None:
        """Images per second, current or of the last epoch."""
        current = self.status.get("images_per_second") if self.alive else None
        return current if _finite(current) else next(reversed(self.values("images_per_second")), None)

    @property
    def seconds_left(self) -> float | None:
        """Time to the end of a running run."""
        left = self.status.get("seconds_left") if self.alive else None
        return left if _finite(left) else None

    @property
    def elapsed(self) -> float | None:
        """Seconds of training up to the last epoch."""
        return next(reversed(self.values("elapsed")), None)

    def values(self, metric: str) -> list[float]:
        """Return the finite values of a metric by epoch."""
        return [row[metric] for row in self.epochs if _finite(row.get(metric))]


def _finite(value: Any) -> bool:
    # Comparisons with NaN are false.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")


def _whole(value: Any, default: int) -> int:
    return int(value) if _finite(value) else default


def summarise_run(run: runs.Run) -> RunSummary:
    """Read the summary of a run from its folder."""
    devices = run.launch.get("devices")
    return RunSummary(
        name=run.name,
        title=run.title,
        settings=run.config,
        state=run.state,
        reason=run.reason,
        epochs=run.metrics(),
        steps=run.steps(),
        alive=run.alive,
        devices=tuple(map(str, devices)) if isinstance(devices, list | tuple) else (),
        status=run.status,
        changes=runs.read_changes(run.folder),
    )


def bundled_summaries() -> list[RunSummary]:
    """Return how each bundled model was trained, from the model card beside its weights."""
    cards = [weights_file(name).with_suffix(".json") for name in available()]
    return [_bundled(file, file.stat().st_mtime_ns) for file in cards if file.is_file()]


@lru_cache(maxsize=16)
def _bundled(file: Path, _changed: int) -> RunSummary:
    card = json.loads(file.read_text("utf-8"))
    elapsed, epochs = 0.0, []
    for row in card["epochs"]:
        elapsed += row["seconds"]
        epochs.append({**row, "elapsed": elapsed})
    return RunSummary(file.stem, model_title(file.stem), card["settings"], BUNDLED, epochs)
