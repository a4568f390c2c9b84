"""What the page compares: which explanation belongs in which cell, and what stands there until it comes."""

import logging
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

from dashboard.shared import cache
from dashboard.shared.cache import STAGES, InputImage, Request
from dashboard.shared.model_names import column_titles
from swin_core.attribution.methods import METHOD_FACTS, METHODS
from swin_core.attribution.targets import RUNNER_UP
from swin_core.class_names import candidates, find_class
from swin_core.errors import SwinError, TargetError
from swin_core.figures.grid import Cell, Row

__all__ = ["Comparison", "Line", "top_classes"]

log = logging.getLogger(__name__)

_USUAL_STAGES = 4


@dataclass(frozen=True)
class Line:
    """One row: an image, and the class to explain on it."""

    picture: InputImage
    target: str | None = None
    """A class's name, or None for each model's own first choice."""
    title: str = ""
    """What the row is called; the image's title if empty."""


@dataclass(frozen=True)
class Comparison:
    """Rows and models to compare. Cells are computed when they are asked for, and found again after that.

    A row is a line, and a column a model; or, where the stages are compared, a row is a line and a model, and a column
    a stage.
    """

    lines: tuple[Line, ...]
    models: tuple[str, ...]
    method: str | None = None
    """None for the best one measured for each model."""
    layer: str | None = None
    """A layer's name, `STAGES`, a key of `FUSED`, or None for each model's default."""
    against: str | None = None
    """A class's name or `RUNNER_UP`, to explain the targets rather than that; or None."""

    @property
    def key(self) -> Hashable:
        """What the finished rows depend on."""
        lines = tuple((line.picture.key, line.picture.title, line.target, line.title) for line in self.lines)
        return lines, self.models, self.method, self.layer, self.against

    @property
    def columns(self) -> tuple[str, ...]:
        """What the columns are called."""
        if self.layer != STAGES:
            return column_titles(self.models)
        layers = max((cache.stages(model, self.method) for model in self.models), key=len, default=())
        pixels = layers[:1] == ("input",)
        count = len(layers) - pixels if layers else _USUAL_STAGES
        return (*(["Pixels"] if pixels else []), *(f"Stage {number + 1}" for number in range(count)))

    def place(self, row: int, column: int) -> tuple[Line, str]:
        """The line and the model of a cell."""
        if self.layer != STAGES:
            return self.lines[row], self.models[column]
        line, model = divmod(row, len(self.models))
        return self.lines[line], self.models[model]

    def slow_models(self) -> list[str]:
        """The models for whose cells one has to wait."""
        return [model for model in self.models if not all(self._settled(line, model) for line in self.lines)]

    def rows(self, waiting: Sequence[str] = ()) -> list[Row]:
        """The rows of the grid; what the models in `waiting` have still to compute says so in its place."""
        rows = []
        for line in self.lines:
            title, picture = line.title or line.picture.title, line.picture
            cells = [
                self._cell(line, model)
                if model not in waiting or self._settled(line, model)
                else Cell(None, error=_waiting_for(model))
                for model in self.models
            ]
            if self.layer == STAGES:
                for model, cell in zip(self.models, cells, strict=True):
                    stages = self._stage_cells(cell)
                    rows.append(Row(f"{model} · {title}", picture.shown, stages, picture.truth, picture.image))
            else:
                rows.append(Row(title, picture.shown, cells, picture.truth, picture.image))
        return rows

    def _stage_cells(self, cell: Cell) -> list[Cell]:
        """One cell a stage, of the cell that holds all of them."""
        found = cell.explanation
        if found is None:
            return [cell] * len(self.columns)
        cells = []
        for place, column in enumerate(self.columns):
            if place >= len(found.layers):
                cells.append(Cell(None, error=f"This model has no {column.lower()}."))
                continue
            note = f"{cell.note} at {found.layers[place]}" if cell.note else found.layers[place]
            if self.method and METHOD_FACTS[self.method].staged:
                total = float(found.maps[cell.target, place].sum(dtype=float))
                score = float(found.logits[found.targets[cell.target]])
                score -= 0.0 if found.against is None else float(found.logits[found.against[cell.target]])
                note = f"sum {total:.3g} of score {score:.3g}"
            cells.append(replace(cell, layer=place, note=note))
        return cells

    def _settled(self, line: Line, model: str) -> bool:
        """Whether the cell can be had without waiting."""
        if cache.refusal(model):
            return True
        if cache.loaded_classifier(model) is None:
            return False
        try:
            request = self._request(line, model)
        except SwinError:
            return True
        return cache.is_settled(request)

    def _request(self, line: Line, model: str) -> Request:
        """The explanation in which the cell is found.

        The classes of all rows with this image are explained together, from one forward pass; but not in contrast to
        another class, where one of them may be that class itself.

        Raises:
            TargetError: the model has no such class, or several classes fit the name.
        """
        against = self._against(model)
        if line.target is None:
            return Request(model, line.picture, None, self.method, self.layer, against)
        labels = cache.classifier(model).labels
        if find_class(labels, line.target) is None:
            raise TargetError(f"This model has no class {line.target}.")
        same = [line]
        if against is None:
            same = [other for other in self.lines if other.picture.key == line.picture.key]
        found = [candidates(labels, other.target) for other in same if other.target]
        targets = tuple(dict.fromkeys(fits[0] for fits in found if len(fits) == 1))
        return Request(model, line.picture, targets, self.method, self.layer, against)

    def _against(self, model: str) -> int | str | None:
        """The class to compare with, by its index in the model."""
        if self.against is None or self.against == RUNNER_UP:
            return self.against
        index = find_class(cache.classifier(model).labels, self.against)
        if index is None:
            raise TargetError(f"This model has no class {self.against}.")
        return index

    def _cell(self, line: Line, model: str) -> Cell:
        try:
            found = cache.explanation(self._request(line, model))
        except SwinError as error:
            return Cell(None, error=str(error))
        except Exception as error:
            # A fault in one cell must not take the page: it is logged in full, and named in its place.
            log.exception("explaining with %s failed", model)
            reason = f"This cell failed unexpectedly ({type(error).__name__}); the server's log says more."
            return Cell(None, error=reason)
        note = METHODS[found.method] if self.method is None else ""
        if line.target is None:
            return Cell(found, note=note)
        index = find_class(found.labels, line.target)
        return Cell(found, target=found.targets.index(index if index is not None else -1), note=note)


def _waiting_for(model: str) -> str:
    return "Explaining ..." if cache.loaded_classifier(model) else "Loading the model ..."


def top_classes(picture: InputImage, models: Sequence[str], method: str | None) -> list[str]:
    """The first choice of each model that can be had, each class once."""
    line = Line(picture)
    rows = Comparison((line,), tuple(models), method).rows()
    found = [cell.explanation for cell in rows[0].cells if cell.explanation is not None]
    return list(dict.fromkeys(explanation.label(0) for explanation in found))
