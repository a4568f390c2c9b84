"""Compute a report again: the same calls on the same pixels and weights, compared with a tolerance.

The last bits depend on the processor, the number of threads and the version of PyTorch, so they are not compared. The
report records these, which helps to explain a difference.
"""

import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from swin_core.attribution.explain import explain
from swin_core.attribution.explanation import Explanation
from swin_core.attribution.methods import INPUT
from swin_core.attribution.stages import explain_stages, strip_layers
from swin_core.attribution.what_if import Edit
from swin_core.comparisons.compare import center_square, with_trust
from swin_core.errors import ReportError, SwinError
from swin_core.figures.grid import Cell, Grid, Row
from swin_core.figures.report_json import machine, versions
from swin_core.reports.read import FailedCell, Report, SavedCell, SavedTrust
from swin_core.trust.assess import Trust
from swin_core.zoo.classifier import Classifier
from swin_core.zoo.load import available, load
from swin_core.zoo.timm_models import PREFIX

EQUAL = "equal"
TOLERANCE = 1e-3
"""Greatest difference of maps and logits that counts as equal, as a fraction of their largest magnitude."""
TRUST_TOLERANCE = 0.01
"""Greatest absolute difference of the measures of trust, which are areas and differences of probabilities."""
_NAME = re.compile(r"\w[\w.+-]{0,199}", re.ASCII)
"""A bundled model, a run, or the part after `timm/`: no folder, no `..`."""


@dataclass(frozen=True)
class CellResult:
    """Result of one cell."""

    row: str
    column: str
    text: str
    """`EQUAL`, the difference, or why the cell could not be computed."""

    @property
    def equal(self) -> bool:
        """Whether the cell is equal within the tolerance."""
        return self.text == EQUAL


@dataclass(frozen=True)
class Reproduction:
    """A report that was computed again."""

    grid: Grid
    """The grid as computed now."""
    results: tuple[CellResult, ...]
    """One for each cell that had a map."""
    changed: tuple[str, ...]
    """Differences in versions, threads and processor since the report was made."""

    @property
    def equal(self) -> bool:
        """Whether all cells are equal within the tolerance."""
        return all(result.equal for result in self.results)


def find_models(report: Report, named: Sequence[str] = (), runs_root: str | Path = "runs") -> dict[str, Classifier]:
    """Load the models of a report; the keys are the hashes of their weights.

    A name from the report is looked up among the bundled models, the runs and timm only and is never used as a path.
    Weights elsewhere have to be named by the caller.

    Args:
        report: the report.
        named: weights files, runs or names, which are tried first.
        runs_root: folder of the runs.

    Raises:
        ReportError: a model is missing or has other weights.
        SwinError: one of `named` cannot be loaded.
    """
    models = {}
    for name in named:
        classifier = load(name, runs_root=runs_root)
        models[classifier.weights_hash] = classifier
    for cell in (cell for row in report.rows for cell in row.cells):
        if isinstance(cell, SavedCell) and cell.weights_hash not in models:
            models[cell.weights_hash] = _load_by_name(cell, runs_root)
    return models


def _load_by_name(cell: SavedCell, runs_root: str | Path) -> Classifier:
    """Load the model that a cell names, and check its weights."""
    name, saved_hash = cell.model, cell.weights_hash[:12]
    advice = f"name the weights file whose SHA-256 begins with {saved_hash}: --models FILE"
    if name in available() or (name.startswith(PREFIX) and _NAME.fullmatch(name.removeprefix(PREFIX))):
        source = name
    elif _NAME.fullmatch(name) and (Path(runs_root) / name / "model.safetensors").is_file():
        source = str(Path(runs_root) / name)
    else:
        raise ReportError(f"the report's model {name[:80]!r} is no bundled model, run or model of timm: {advice}.")
    try:
        classifier = load(source)
    except SwinError as error:
        raise ReportError(f"the report's model {name[:80]!r} cannot be loaded: {error}") from error
    if classifier.weights_hash != cell.weights_hash:
        raise ReportError(
            f"{name[:80]!r} has other weights than the report's model: their SHA-256 begins with "
            f"{classifier.weights_hash[:12]}, not with {saved_hash}; {advice}."
        )
    return classifier


def reproduce(report: Report, models: Mapping[str, Classifier]) -> Reproduction:
    """Compute every cell of a report again and compare.

    Args:
        report: the report.
        models: the models by the hash of their weights, as `find_models` returns them.
    """
    explanations: dict[Hashable, Explanation | str] = {}
    rows, results = [], []
    for row in report.rows:
        image = None if row.picture is None else report.pictures[row.picture]
        images = _Images(row.picture, image, image)
        edit = None if row.edit is None else row.edit.edit
        if edit is not None and image is not None:
            images = replace(images, changed=edit.apply(image), edit=edit)
        cells = []
        for column, saved in zip(report.columns, row.cells, strict=True):
            if isinstance(saved, FailedCell):
                cells.append(Cell(None, error=saved.error))
                continue
            cell, text = _reproduce_cell(saved, images, models, explanations)
            cells.append(cell)
            results.append(CellResult(row.title, column, text))
        rows.append(Row(row.title, center_square(images.changed), cells, row.truth, image, edit))
    now = {name: str(value) for name, value in (machine() | versions()).items()}
    changed = [
        f"{name} {before}, now {now.get(name, 'unknown')}"
        for name, before in report.made_with.items()
        if now.get(name) != before
    ]
    return Reproduction(Grid(tuple(rows), tuple(report.columns), report.look), tuple(results), tuple(changed))


@dataclass(frozen=True)
class _Images:
    """The image of a row, and what its cells explain."""

    picture: int | None
    """Index into the report's images."""
    original: Image.Image | None
    changed: Image.Image | None
    """The original if nothing was replaced."""
    edit: Edit | None = None


def _reproduce_cell(
    saved: SavedCell,
    images: _Images,
    models: Mapping[str, Classifier],
    explanations: dict[Hashable, Explanation | str],
) -> tuple[Cell, str]:
    """Return the cell as computed now, and how it differs from the saved one; `explanations` is a cache."""
    if images.original is None or images.changed is None:
        return Cell(None, error="The report does not hold this image."), "its image is not in the report"
    classifier = models[saved.weights_hash]
    answers = []
    for image, edit in ((images.original, None), (images.changed, images.edit)):
        key = (images.picture, edit, saved.weights_hash, saved.method, saved.call.model_dump_json(exclude={"place"}))
        if key not in explanations:
            try:
                explanations[key] = _repeat_call(classifier, image, saved)
            except SwinError as error:
                explanations[key] = str(error)
        answers.append(explanations[key])
    before, explanation = answers
    target, layer = saved.call.place
    if not isinstance(explanation, str) and layer >= len(explanation.layers):
        explanation = f"its map is at layer {layer + 1} of {len(explanation.layers)}"
    if isinstance(explanation, str):
        return Cell(None, error=explanation), f"cannot be computed: {explanation}"
    cell = Cell(explanation, target, layer, note=saved.note)
    if images.edit is not None and not isinstance(before, str):
        cell = replace(cell, before=before)
    if saved.trust is not None:
        cell = with_trust(classifier, cell)
    return cell, "; ".join(_differences(saved, explanation, cell)) or EQUAL


def _repeat_call(classifier: Classifier, image: Image.Image, saved: SavedCell) -> Explanation:
    call, method, layers = saved.call, saved.method, tuple(saved.call.layers)
    if layers[0] == INPUT and len(layers) > 1 and layers == strip_layers(classifier, method):
        return explain_stages(classifier, image, call.targets, method, against=call.against)
    return explain(
        classifier,
        image,
        call.targets,
        method,
        None if layers == (INPUT,) else layers,
        against=call.against,
        fuse=call.fused or None,
    )


def _differences(saved: SavedCell, explanation: Explanation, cell: Cell) -> Iterator[str]:
    """Yield by how much a cell differs from the saved one; nothing if all values are within the tolerance."""
    for name, before, now in (
        ("map", saved.map, explanation.maps[cell.target, cell.layer]),
        ("logits", saved.logits, explanation.logits),
    ):
        difference, largest = _difference(np.array(before, dtype=np.float64), now)
        if np.isinf(difference):
            yield f"{name} of another shape"
        elif difference > TOLERANCE * largest:
            yield f"{name} by up to {difference:.2g} of {largest:.3g}"
    completeness = None if explanation.completeness is None else float(explanation.completeness[cell.target])
    if (completeness is None) != (saved.completeness is None):
        yield "completeness is missing on one side"
    elif completeness is not None and saved.completeness is not None:
        difference = abs(completeness - saved.completeness)
        if difference > TOLERANCE * float(np.abs(explanation.logits).max()):
            yield f"completeness by {difference:.2g}"
    if saved.trust is not None:
        difference = np.inf if cell.trust is None else _trust_difference(saved.trust, cell.trust)
        if difference > TRUST_TOLERANCE:
            yield f"trust by up to {difference:.2g}"


def _difference(before: np.ndarray, now: np.ndarray) -> tuple[float, float]:
    """Return the greatest difference, and the largest magnitude of the saved values.

    The difference is infinite if the shapes differ or if other values are finite.
    """
    finite = np.isfinite(before)
    largest = float(np.abs(before[finite]).max(initial=0))
    if before.shape != now.shape or (finite != np.isfinite(now)).any():
        return float("inf"), largest
    return float(np.abs(before[finite] - now[finite]).max(initial=0)), largest


def _trust_difference(saved: SavedTrust, trust: Trust) -> float:
    """Return the greatest difference of the measures of a map and of its baseline maps."""
    pairs = ((saved.map, trust), (saved.random, trust.random), (saved.centred, trust.centred))
    before = [[old.srg, old.road, old.deletion, old.insertion] for old, _ in pairs]
    now = [[new.srg, new.road, new.deletion.area, new.insertion.area] for _, new in pairs]
    return _difference(np.array(before, dtype=np.float64), np.array(now))[0]
