"""Results that are computed after the maps, and cached: trust, and a run's timeline."""

from collections.abc import Hashable
from dataclasses import dataclass, replace
from pathlib import Path

from dashboard.shared import cache
from dashboard.shared.cache import InputImage
from dashboard.shared.comparison import Comparison, ImageAndClass
from dashboard.shared.model_names import weights_state
from swin_core.comparisons.timeline import Timeline, checkpoints_of, timeline
from swin_core.errors import SwinError
from swin_core.figures.grid import Cell, Grid
from swin_core.system.cache import LRUCache
from swin_core.system.progress import Progress
from swin_core.trust.assess import Trust, assess

_trusts: LRUCache[Trust | str] = LRUCache(256)
_timelines: LRUCache[Timeline] = LRUCache(4)


def trust_key(line: ImageAndClass, model: str, cell: Cell) -> Hashable:
    """Return what identifies a cell's map: the model and its weights, the image, and how it is explained."""
    explanation = cell.explanation
    if explanation is None:
        return None
    against = None if explanation.against is None else explanation.against[cell.target]
    target, layer = explanation.targets[cell.target], explanation.layers[cell.layer]
    return (
        model,
        weights_state(model),  # that of the model card too
        line.image.key,
        explanation.method,
        target,
        layer,
        against,
        explanation.fused,
    )


def cached_trust(line: ImageAndClass, model: str, cell: Cell) -> Trust | str | None:
    """Return the result of `measure_trust` if it is cached; never wait."""
    return _trusts.peek(trust_key(line, model, cell))


def measure_trust(line: ImageAndClass, model: str, cell: Cell, progress: Progress) -> Trust | str:
    """Return the trust of a cell's map, or why it cannot be measured; cached."""

    def measure() -> Trust | str:
        if cell.explanation is None or cell.map is None:
            return "There is no map to measure."
        if cell.magnitude == 0:
            return "The map is empty, so there is nothing to measure."
        target = cell.explanation.targets[cell.target]
        try:
            return assess(cache.classifier(model), cell.explanation.view, cell.map, target, progress=progress)[0]
        except SwinError as error:
            return str(error)

    return _trusts.get(trust_key(line, model, cell), measure)


def keep_failure(key: Hashable, reason: str) -> None:
    """Remember why the map of a `trust_key` could not be measured."""
    _trusts.put(key, reason)


def with_trust(comparison: Comparison, grid: Grid) -> Grid:
    """Return the grid with the trust of each cell that was measured so far."""
    rows = []
    for i, row in enumerate(grid.rows):
        cells = []
        for j, cell in enumerate(row.cells):
            trust = cached_trust(*comparison.line_and_model(i, j), cell) if cell.explanation else None
            cells.append(replace(cell, trust=trust) if isinstance(trust, Trust) else cell)
        rows.append(replace(row, cells=cells))
    return replace(grid, rows=tuple(rows))


def run_folder(model: str) -> Path | None:
    """Return the folder of a model's run if the run has a folder of checkpoints."""
    state = weights_state(model)
    if state is None:
        return None
    folder = Path(state[0]).parent
    if folder.name == "checkpoints":
        folder = folder.parent
    return folder if (folder / "checkpoints").is_dir() else None


@dataclass(frozen=True)
class TimelineRequest:
    """Arguments of a timeline."""

    run: Path
    image: InputImage
    target: str | None
    """A class's name, or None for the top-1 class of the last checkpoint."""
    method: str | None
    layer: str | None


def cached_timeline(request: TimelineRequest, progress: Progress) -> Timeline:
    """Return a run's timeline, computed once for each state of its checkpoints.

    Raises:
        SwinError: the run has too few checkpoints, or they cannot be explained this way.
    """
    kept = checkpoints_of(request.run)
    files = tuple((str(checkpoint.file), checkpoint.file.stat().st_mtime_ns) for checkpoint in kept)
    image, target, method, layer = request.image, request.target, request.method, request.layer
    return _timelines.get(
        (files, image.key, target, method, layer),
        lambda: timeline(kept, image.pil, target, method, layer, progress),
    )
