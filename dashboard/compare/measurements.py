"""What is measured after the maps are there, and held like them: trust, a run's timeline, the mean map of a class."""

import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from dashboard.shared import cache
from dashboard.shared.cache import InputImage
from dashboard.shared.comparison import Comparison, Line
from dashboard.shared.model_names import weights_state
from swin_core.comparisons.class_mean import ClassMean, class_mean
from swin_core.comparisons.timeline import Timeline, checkpoints_of, timeline
from swin_core.data.dataset import DataSet, data_root
from swin_core.data.registry import DATA_SETS
from swin_core.errors import SwinError
from swin_core.figures.grid import Cell, Grid
from swin_core.system.cache import LRUCache
from swin_core.trust.assess import Trust, assess

__all__ = [
    "MeanRequest",
    "TimelineRequest",
    "held_out_splits",
    "held_trust",
    "mean_of_class",
    "open_data_set",
    "run_folder",
    "timeline_of",
    "trust",
    "with_trust",
]

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]

_trusts: LRUCache[Trust | str] = LRUCache(256)
_timelines: LRUCache[Timeline] = LRUCache(4)
_means: LRUCache[ClassMean] = LRUCache(64)
_data_sets: LRUCache[DataSet] = LRUCache(2)


def _trust_key(line: Line, model: str, cell: Cell) -> Hashable:
    found = cell.explanation
    if found is None:
        return None
    against = None if found.against is None else found.against[cell.target]
    what = (found.method, found.targets[cell.target], found.layers[cell.layer], against, found.fused)
    return model, found.weights_hash, line.picture.key, what


def held_trust(line: Line, model: str, cell: Cell) -> Trust | str | None:
    """How far to believe a cell's map, or why that cannot be measured; None until it was. Never waits."""
    return _trusts.peek(_trust_key(line, model, cell))


def trust(line: Line, model: str, cell: Cell, progress: Progress) -> Trust | str:
    """How far to believe a cell's map, measured once, or in a line why that cannot be measured."""
    return _trusts.get(_trust_key(line, model, cell), lambda: _assess(model, cell, progress))


def _assess(model: str, cell: Cell, progress: Progress) -> Trust | str:
    found = cell.explanation
    if found is None or cell.map is None:
        return "There is no map to measure."
    if cell.magnitude == 0:
        return "The map is empty: there is nothing to believe or to doubt."
    target = found.targets[cell.target]
    try:
        return assess(cache.classifier(model), found.view, cell.map, target, progress=progress)[0]
    except SwinError as error:
        return str(error)


def with_trust(comparison: Comparison, result: Grid) -> Grid:
    """The grid with every trust figure that was measured so far."""
    rows = []
    for i, row in enumerate(result.rows):
        cells = []
        for j, cell in enumerate(row.cells):
            found = None if cell.explanation is None else held_trust(*comparison.place(i, j), cell)
            cells.append(replace(cell, trust=found) if isinstance(found, Trust) else cell)
        rows.append(replace(row, cells=cells))
    return replace(result, rows=tuple(rows))


def run_folder(model: str) -> Path | None:
    """The folder of the run that a model's name stands for, if it is one that kept several weights."""
    state = weights_state(model)
    if state is None:
        return None
    place = Path(state[0]).parent
    if place.name == "checkpoints":
        place = place.parent
    return place if (place / "checkpoints").is_dir() else None


@dataclass(frozen=True)
class TimelineRequest:
    """Which timeline is asked for."""

    run: Path
    picture: InputImage
    target: str | None
    """A class's name, or None for the last checkpoint's own first choice."""
    method: str | None
    layer: str | None

    @property
    def key(self) -> Hashable:
        """What the result depends on: the files too, since a run trains on."""
        files = tuple((str(one.file), one.file.stat().st_mtime_ns) for one in checkpoints_of(self.run))
        return files, self.picture.key, self.target, self.method, self.layer


def timeline_of(request: TimelineRequest, progress: Progress) -> Timeline:
    """The timeline that is asked for, computed once for each state of the run.

    Raises:
        SwinError: the run kept too little, or its weights cannot be explained so.
    """

    def make() -> Timeline:
        kept = checkpoints_of(request.run)
        return timeline(kept, request.picture.image, request.target, request.method, request.layer, progress)

    return _timelines.get(request.key, make)


def held_out_splits() -> dict[str, Callable[[], DataSet]]:
    """Return functions that open the splits for mean maps by title: those of data sets that training does not use."""
    words = {"val": "validation", "test": "test"}
    return {
        f"{entry.title}, {words[entry.splits[0]]}": partial(entry.open, data_root(), entry.splits[0])
        for entry in reversed(DATA_SETS.values())  # the photos first
        if entry.splits[0] in words
    }


def open_data_set(title: str) -> DataSet:
    """Open a split by its title in `held_out_splits()`, once.

    Raises:
        DataError: it is not on this machine; the message names the command that fetches it.
    """
    return _data_sets.get(title, held_out_splits()[title])


@dataclass(frozen=True)
class MeanRequest:
    """Which mean map is asked for."""

    model: str
    data: str
    """A key of `held_out_splits()`."""
    name: str
    """The class."""
    count: int
    method: str | None
    layer: str | None

    @property
    def key(self) -> Hashable:
        """What the result depends on."""
        held = cache.loaded_classifier(self.model)
        weights = held.weights_hash if held else None
        return self.model, weights, self.data, self.name, self.count, self.method, self.layer


def mean_of_class(request: MeanRequest, progress: Progress) -> ClassMean:
    """The mean map that is asked for, computed once.

    Raises:
        SwinError: the images are missing, or the model does not know the class.
    """
    classifier = cache.classifier(request.model)
    data = open_data_set(request.data)

    def make() -> ClassMean:
        return class_mean(
            classifier,
            data,
            request.name,
            request.count,
            method=request.method,
            layer=request.layer,
            progress=progress,
        )

    return _means.get(request.key, make)
