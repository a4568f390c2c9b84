"""A report computed again: the same calls on the same pixels and weights, compared with what it holds, bit for bit.

On the machine that made a report, with the same versions and number of threads, every cell comes out equal. Elsewhere
the last bits may differ: sums are taken in another order by another processor, another number of threads or another
release of PyTorch. The report knows what it was made with, so that such a difference can be told from a fault.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from swin_core.errors import ReportError, SwinError
from swin_core.explain import explain
from swin_core.explain.compare import blank, measured, middle
from swin_core.explain.explanation import Explanation
from swin_core.explain.grid import Cell, Grid, Row
from swin_core.explain.methods import INPUT
from swin_core.explain.report import machine, trust_numbers, versions
from swin_core.explain.report_reading import Call, Report, SavedCell
from swin_core.explain.strip import explain_stages, strip_layers
from swin_core.explain.trust import Trust
from swin_core.zoo import Classifier, available, load

__all__ = ["EQUAL", "Again", "Finding", "find_models", "reproduce"]

EQUAL = "equal, bit for bit"
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
    """What is other than when the report was made: versions, threads, processor."""

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
        classifier = load(name, runs_root)
        found[classifier.weights_hash] = classifier
    calls = [cell.call for row in report.rows for cell in row.cells if cell.call is not None]
    for call in calls:
        if call.weights_hash not in found:
            classifier = _by_name(call, runs_root)
            found[classifier.weights_hash] = classifier
    return found


def _by_name(call: Call, runs_root: str | Path) -> Classifier:
    """The model that a report names, if its weights are the report's."""
    name, wanted = call.model, call.weights_hash[:12]
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
    if classifier.weights_hash != call.weights_hash:
        raise ReportError(
            f"The weights of {name[:80]!r} are others than the report's: their SHA-256 begins with "
            f"{classifier.weights_hash[:12]}, not with {wanted}; {advice}."
        )
    return classifier


def reproduce(report: Report, models: Mapping[str, Classifier]) -> Again:
    """Compute every cell of a report again, with its number of threads, and compare.

    Args:
        report: what to compute.
        models: by the hash of their weights, as `find_models` gives them.
    """
    known: dict[tuple[int, Call], Explanation | str] = {}
    rows, findings = [], []
    with _threads(report.threads):
        now = {name: str(value) for name, value in (machine() | versions()).items()}
        for row in report.rows:
            image = None if row.picture is None else report.pictures[row.picture]
            cells = []
            for column, saved in zip(report.columns, row.cells, strict=True):
                cell, words = _cell(saved, image, row.picture, models, known)
                cells.append(cell)
                if saved.call is not None:
                    findings.append(Finding(row.title, column, words, words == EQUAL))
            shown = blank() if image is None else middle(image)
            rows.append(Row(row.title, shown, cells, row.truth, image))
    changed = [
        f"{name} {before}, now {now.get(name, 'unknown')}"
        for name, before in report.made_with.items()
        if now.get(name) != before
    ]
    return Again(Grid(tuple(rows), report.columns, report.look), tuple(findings), tuple(changed))


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """So many threads of PyTorch, if the machine can have them."""
    before = torch.get_num_threads()
    if 1 <= count <= 4 * (os.cpu_count() or 1):
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _cell(
    saved: SavedCell,
    image: Image.Image | None,
    place: int | None,
    models: Mapping[str, Classifier],
    known: dict[tuple[int, Call], Explanation | str],
) -> tuple[Cell, str]:
    """A cell as it is now, and in words how it differs from the one that was saved."""
    if saved.call is None:
        return Cell(None, error=saved.error), ""
    if image is None or place is None:
        return Cell(None, error="The report does not hold this picture."), "its picture is not in the report"
    classifier = models[saved.call.weights_hash]
    found = known.get((place, saved.call))
    if found is None:
        found = known[place, saved.call] = _explained(classifier, image, saved.call)
    if isinstance(found, str):
        return Cell(None, error=found), f"cannot be computed: {found}"
    if saved.layer >= len(found.layers):
        reason = f"its map is at layer {saved.layer + 1} of {len(found.layers)}"
        return Cell(None, error=reason), f"cannot be computed: {reason}"
    cell = Cell(found, saved.target, saved.layer, note=saved.note)
    if saved.trust is not None:
        cell = measured(classifier, cell)
    return cell, "; ".join(_differences(saved, cell, cell.trust)) or EQUAL


def _explained(classifier: Classifier, image: Image.Image, call: Call) -> Explanation | str:
    """The explanation of a call, or why there is none."""
    targets, against = list(call.targets), None if call.against is None else list(call.against)
    try:
        if call.layers[0] == INPUT and len(call.layers) > 1 and call.layers == strip_layers(classifier, call.method):
            return explain_stages(classifier, image, targets, call.method, against=against)
        layers = None if call.layers == (INPUT,) else call.layers
        return explain(classifier, image, targets, call.method, layers, against=against, fuse=call.fused or None)
    except SwinError as error:
        return str(error)


def _differences(saved: SavedCell, cell: Cell, trust: Trust | None) -> Iterator[str]:
    """By how much a cell differs from the one that was saved; nothing if every bit is equal."""
    found = cell.explanation
    if found is None or cell.map is None or saved.map is None or saved.logits is None:
        return
    if not _same(saved.map, cell.map):
        of = f" of {cell.magnitude:.3g}"
        yield (
            "the map has another grid"
            if saved.map.shape != cell.map.shape
            else f"map by up to {_gap(saved.map, cell.map)}{of}"
        )
    if not _same(saved.logits, found.logits):
        same_count = saved.logits.shape == found.logits.shape
        yield f"logits by up to {_gap(saved.logits, found.logits)}" if same_count else "there are other classes"
    if found.completeness is not None or saved.completeness is not None:
        now = np.nan if found.completeness is None else float(found.completeness[cell.target])
        before = np.nan if saved.completeness is None else saved.completeness
        if not _same(np.array([before]), np.array([now])):
            yield f"completeness by {abs(before - now):.2g}"
    if saved.trust is not None:
        now_trust: dict[str, Any] = {} if trust is None else trust_numbers(trust)
        if now_trust != dict(saved.trust):
            yield f"trust: {_trust_gap(saved.trust, now_trust)}"


def _same(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two arrays have the same bits; what is not finite is written as one thing."""
    if first.shape != second.shape:
        return False
    finite = np.isfinite(second)
    bits = f"u{first.itemsize}"
    return bool((np.isfinite(first) == finite).all()) and bool(
        (np.ascontiguousarray(first).view(bits) == np.ascontiguousarray(second).view(bits))[finite].all()
    )


def _gap(first: np.ndarray, second: np.ndarray) -> str:
    """Greatest difference of two arrays."""
    return f"{np.abs(first.astype(np.float64) - second).max():.2g}"


def _trust_gap(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    try:
        return f"SRG {before['map']['srg']:+.6f}, now {now['map']['srg']:+.6f}"
    except (KeyError, TypeError, ValueError):
        return "the figures are others"
