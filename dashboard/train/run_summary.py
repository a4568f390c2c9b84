"""What the Train page lists: runs as they lie on the disk, and how the bundled models were trained."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from dashboard.shared.formatting import ago
from swin_core import runs
from swin_core.training import RECIPES
from swin_core.zoo.load import available, weights_file

__all__ = ["BUNDLED", "Record", "bundled_records", "changed_settings", "nearest_recipe", "run_record"]

BUNDLED = "bundled"
"""The state of a model that comes with the project: its training is over, and no run's folder is here."""

_OWN = ("name", "seed", "limit")
"""Settings that say nothing about which recipe was run."""


@dataclass(frozen=True)
class Record:
    """One training: what there is to know about it in a line, and its curves."""

    name: str
    """A run's name, which is its folder's, or a bundled model's."""
    title: str
    settings: Mapping[str, Any]
    state: str
    epochs: Sequence[Mapping[str, Any]]
    """One line an epoch."""
    steps: Sequence[Mapping[str, Any]] = ()
    """Lines within the epochs."""
    reason: str = ""
    alive: bool = False
    devices: tuple[str, ...] = ()
    status: Mapping[str, Any] = field(default_factory=dict)

    @property
    def recipe(self) -> str:
        """The recipe it was made from, with the number of settings that differ."""
        name = nearest_recipe(self.settings)
        changes = len(changed_settings(self.settings, name))
        return f"{name} + {changes}" if changes else name

    @property
    def data(self) -> str:
        """The data set's name, or its folder's."""
        return Path(str(self.settings.get("data", ""))).name

    @property
    def sign_of_life(self) -> str:
        """How long ago it wrote its status."""
        updated = self.status.get("updated")
        return ago(time.time() - updated) if isinstance(updated, int | float) else ""

    @property
    def epochs_done(self) -> int:
        """Full epochs."""
        return _whole(self.status.get("epoch"), len(self.epochs))

    @property
    def epochs_planned(self) -> int:
        """All epochs."""
        return _whole(self.settings.get("epochs"), len(self.epochs))

    @property
    def best(self) -> float | None:
        """Best top-1 of the validation images so far, as a share."""
        return max(self.values("top1"), default=None)

    @property
    def speed(self) -> float | None:
        """Images in a second, now or in the last epoch."""
        now = self.status.get("images_per_second") if self.alive else None
        return now if _finite(now) else next(reversed(self.values("images_per_second")), None)

    @property
    def seconds_left(self) -> float | None:
        """Until it is done, if it is under way."""
        left = self.status.get("seconds_left") if self.alive else None
        return left if _finite(left) else None

    @property
    def elapsed(self) -> float | None:
        """Seconds of training until the last line."""
        return next(reversed(self.values("elapsed")), None)

    def values(self, name: str) -> list[float]:
        """The finite values of a figure by epoch."""
        return [line[name] for line in self.epochs if _finite(line.get(name))]


def _finite(value: Any) -> bool:
    # A comparison with NaN is false, and so is one with infinity here.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")


def _whole(value: Any, otherwise: int) -> int:
    return int(value) if _finite(value) else otherwise


def run_record(run: runs.Run) -> Record:
    """A run's record, read from its folder."""
    devices = run.launch.get("devices")
    return Record(
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
    )


def bundled_records() -> list[Record]:
    """How each bundled model was trained, from the file beside its weights."""
    cards = [weights_file(name).with_suffix(".json") for name in available()]
    return [_bundled(file, file.stat().st_mtime_ns) for file in cards if file.is_file()]


@lru_cache(maxsize=16)
def _bundled(file: Path, _changed: int) -> Record:
    card = json.loads(file.read_text("utf-8"))
    elapsed, lines = 0.0, []
    for line in card["epochs"]:
        elapsed += line["seconds"]
        lines.append({**line, "elapsed": elapsed})
    return Record(file.stem, card["name"], card["settings"], BUNDLED, lines)


def nearest_recipe(settings: Mapping[str, Any]) -> str:
    """The recipe from which the fewest settings differ."""
    return min(RECIPES, key=lambda name: len(changed_settings(settings, name)))


def changed_settings(settings: Mapping[str, Any], recipe: str) -> dict[str, Any]:
    """The settings that a recipe has otherwise: name to value, without what names or shortens a run."""
    usual = RECIPES[recipe].config.to_dict()
    return {
        name: value for name, value in settings.items() if name not in _OWN and name in usual and usual[name] != value
    }
