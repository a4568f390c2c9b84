"""Compute a report again: the same calls on the same pixels and weights, compared within a tolerance.

Last bits depend on the processor, the number of threads and the version of PyTorch, so they are not compared. The
report records what it was made with, which helps to explain a difference.
"""

import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from swin_core.attribution.explain import explain
from swin_core.attribution.explanation import Explanation
from swin_core.attribution.methods import INPUT
from swin_core.attribution.stages import explain_stages, strip_layers
from swin_core.comparisons.compare import center_square, with_trust
from swin_core.errors import ReportError, SwinError
from swin_core.figures.grid import Cell, Grid, Row
from swin_core.figures.report_json import machine, versions
from swin_core.reports.read import FailedCell, Report, SavedCell, SavedMeasures, SavedTrust
from swin_core.trust.assess import Measures, Trust
from swin_core.zoo.classifier import Classifier
from swin_core.zoo.load import available, load

__all__ = ["EQUAL", "TOLERANCE", "TRUST_TOLERANCE", "Again", "Finding", "find_models", "reproduce"]

EQUAL = "equal"
TOLERANCE = 1e-3
"""Greatest difference of maps and logits that counts as equal, as a share of their greatest magnitude."""
TRUST_TOLERANCE = 0.01
"""The same of the measures of trust, which are differences and areas of probabilities."""
_NAME = re.compile(r"\w[\w.+-]{0,199}", re.ASCII)
"""A bundled model, a run, or what follows timm/: no folder, no `..`."""
_TIMM = "timm/"


@dataclass(frozen=True)
class Finding:
    """What came of one cell."""

    row: str
    column: str
    words: str
    """`EQUAL`, by how much it differs, or why it could not be computed."""
    equal: bool


@dataclass(frozen=True)
class Again:
    """A report computed again."""

    grid: Grid
    """As computed now."""
    findings: tuple[Finding, ...]
    """One for each cell that had a map."""
    changed: tuple[str, ...]
    """What changed since the report was made: versions, threads, processor."""

    @property
    def equal(self) -> bool:
        """Whether every cell is."""
        return all(finding.equal for finding in self.findings)


def find_models(report: Report, named: Sequence[str] = (), runs_root: str | Path = "runs") -> dict[str, Classifier]:
    """The models of a report, by the hash of their weights.

    A name in the report is looked up among the bundled models, the runs and timm only; it is never a path. Weights
    elsewhere have to be named by the caller.

    Args:
        report: what to find the models of.
        named: weights files, runs or names to look at first.
        runs_root: folder of the runs.

    Raises:
        ReportError: a model is missing, or its weights are others.
        SwinError: a model that was named cannot be loaded.
    """
    found = {}
    for name in named:
        classifier = load(name, runs_root=runs_root)
        found[classifier.weights_hash] = classifier
    for cell in (cell for row in report.rows for cell in row.cells):
        if isinstance(cell, SavedCell) and cell.weights_hash not in found:
            found[cell.weights_hash] = _by_name(cell, runs_root)
    return found


def _by_name(cell: SavedCell, runs_root: str | Path) -> Classifier:
    """The model that a report names, if its weights are the report's."""
    name, wanted = cell.model, cell.weights_hash[:12]
    advice = f"name the weights file whose SHA-256 begins with {wanted}: --models FILE"
    if name in available() or (name.startswith(_TIMM) and _NAME.fullmatch(name.removeprefix(_TIMM))):
        source = name
    elif _NAME.fullmatch(name) and (Path(runs_root) / name / "model.safetensors").is_file():
        source = str(Path(runs_root) / name)
    else:
        raise ReportError(f"The report's model {name[:80]!r} is no bundled model, run or model of timm: {advice}.")
    try:
        classifier = load(source)
    except SwinError as error:
        raise ReportError(f"The report's model {name[:80]!r} cannot be loaded: {error}") from error
    if classifier.weights_hash != cell.weights_hash:
        raise ReportError(
            f"The weights of {name[:80]!r} are others than the report's: their SHA-256 begins with "
            f"{classifier.weights_hash[:12]}, not with {wanted}; {advice}."
        )
    return classifier


def reproduce(report: Report, models: Mapping[str, Classifier]) -> Again:
    """Compute every cell of a report again, and compare.

    Args:
        report: what to compute.
        models: by the hash of their weights, as `find_models` gives them.
    """
    known: dict[Hashable, Explanation | str] = {}
    rows, findings = [], []
    now = {name: str(value) for name, value in (machine() | versions()).items()}
    for row in report.rows:
        image = None if row.picture is None else report.pictures[row.picture]
        cells = []
        for column, saved in zip(report.columns, row.cells, strict=True):
            if isinstance(saved, FailedCell):
                cells.append(Cell(None, error=saved.error))
                continue
            cell, words = _cell(saved, image, row.picture, models, known)
            cells.append(cell)
            findings.append(Finding(row.title, column, words, words == EQUAL))
        shown = center_square(image)
        rows.append(Row(row.title, shown, cells, row.truth, image))
    changed = [
        f"{name} {before}, now {now.get(name, 'unknown')}"
        for name, before in report.made_with.items()
        if now.get(name) != before
    ]
    return Again(Grid(tuple(rows), tuple(report.columns), report.look), tuple(findings), tuple(changed))


def _cell(
    saved: SavedCell,
    image: Image.Image | None,
    picture: int | None,
    models: Mapping[str, Classifier],
    known: dict[Hashable, Explanation | str],
) -> tuple[Cell, str]:
    """The cell as computed now, and in words how it differs from the saved one; `known` keeps the explanations."""
    if image is None:
        return Cell(None, error="The report does not hold this image."), "its image is not in the report"
    classifier = models[saved.weights_hash]
    key = (picture, saved.weights_hash, saved.method, saved.call.model_dump_json(exclude={"place"}))
    if key not in known:
        known[key] = _explained(classifier, image, saved)
    found = known[key]
    if isinstance(found, str):
        return Cell(None, error=found), f"cannot be computed: {found}"
    target, layer = saved.call.place
    if layer >= len(found.layers):
        reason = f"its map is at layer {layer + 1} of {len(found.layers)}"
        return Cell(None, error=reason), f"cannot be computed: {reason}"
    cell = Cell(found, target, layer, note=saved.note)
    if saved.trust is not None:
        cell = with_trust(classifier, cell)
    return cell, "; ".join(_differences(saved, found, cell)) or EQUAL


def _explained(classifier: Classifier, image: Image.Image, saved: SavedCell) -> Explanation | str:
    """The explanation of a saved call, or why there is none."""
    call, method = saved.call, saved.method
    layers = tuple(call.layers)
    try:
        if layers[0] == INPUT and len(layers) > 1 and layers == strip_layers(classifier, method):
            return explain_stages(classifier, image, call.targets, method, against=call.against)
        at = None if layers == (INPUT,) else layers
        return explain(classifier, image, call.targets, method, at, against=call.against, fuse=call.fused or None)
    except SwinError as error:
        return str(error)


def _differences(saved: SavedCell, found: Explanation, cell: Cell) -> Iterator[str]:
    """By how much a cell differs from the saved one; nothing if all values are within the tolerance."""
    for name, before, now in (
        ("map", saved.map, found.maps[cell.target, cell.layer]),
        ("logits", saved.logits, found.logits),
    ):
        gap, greatest = _gap(np.array(before, dtype=np.float64), now)
        if gap > TOLERANCE * greatest:
            yield f"{name} by up to {gap:.2g} of {greatest:.3g}" if np.isfinite(gap) else f"{name} of another shape"
    rest = None if found.completeness is None else float(found.completeness[cell.target])
    if (rest is None) != (saved.completeness is None):
        yield "completeness is missing on one side"
    elif rest is not None and saved.completeness is not None:
        greatest = float(np.abs(found.logits).max())
        if abs(rest - saved.completeness) > TOLERANCE * greatest:
            yield f"completeness by {abs(rest - saved.completeness):.2g}"
    if saved.trust is not None:
        gap = np.inf if cell.trust is None else _trust_gap(saved.trust, cell.trust)
        if gap > TRUST_TOLERANCE:
            yield f"trust by up to {gap:.2g}"


def _gap(before: np.ndarray, now: np.ndarray) -> tuple[float, float]:
    """Greatest difference, infinite if shapes or finite places differ, and greatest magnitude of the saved values."""
    finite = np.isfinite(before)
    greatest = float(np.abs(before[finite]).max(initial=0))
    if before.shape != now.shape or (finite != np.isfinite(now)).any():
        return float("inf"), greatest
    return float(np.abs(before[finite] - now[finite]).max(initial=0)), greatest


def _trust_gap(saved: SavedTrust, trust: Trust) -> float:
    """Greatest difference of the measures of a map and of its baselines."""
    pairs: tuple[tuple[SavedMeasures, Measures], ...]
    pairs = ((saved.map, trust), (saved.random, trust.random), (saved.centred, trust.centred))
    gaps = []
    for before, now in pairs:
        values = (before.srg, before.road, before.deletion, before.insertion)
        new = (now.srg, now.road, now.deletion.area, now.insertion.area)
        gaps.append(_gap(np.array(values, dtype=np.float64), np.array(new))[0])
    return max(gaps)
