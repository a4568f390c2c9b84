"""What the page compares: which explanation belongs in which cell, and what stands there until it comes."""

import logging
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from dashboard import cache
from dashboard.cache import Picture, Request
from swin_core.errors import SwinError, TargetError
from swin_core.explain.figure import Cell, Row, class_index

__all__ = ["Comparison", "Line", "own_classes"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Line:
    """One row: a picture, and the class to explain on it."""

    picture: Picture
    target: str | None = None
    """A class's name, or None for each model's own first choice."""
    title: str = ""
    """What the row is called; the picture's title if empty."""


@dataclass(frozen=True)
class Comparison:
    """Rows and models to compare. Cells are computed when they are asked for, and found again after that."""

    lines: tuple[Line, ...]
    models: tuple[str, ...]
    method: str
    layer: str | None

    @property
    def key(self) -> Hashable:
        """What the finished rows depend on."""
        lines = tuple((line.picture.key, line.picture.title, line.target, line.title) for line in self.lines)
        return lines, self.models, self.method, self.layer

    def slow_models(self) -> list[str]:
        """The models for whose cells one has to wait."""
        return [model for model in self.models if not all(self._settled(line, model) for line in self.lines)]

    def rows(self, waiting: Sequence[str] = ()) -> list[Row]:
        """The rows of the grid; what the models in `waiting` have still to compute says so in its place."""
        rows = []
        for line in self.lines:
            cells = [
                self._cell(line, model)
                if model not in waiting or self._settled(line, model)
                else Cell(None, error=_waiting_for(model))
                for model in self.models
            ]
            title = line.title or line.picture.title
            rows.append(Row(title, line.picture.shown, cells, line.picture.truth))
        return rows

    def _settled(self, line: Line, model: str) -> bool:
        """Whether the cell can be had without waiting."""
        if cache.refusal(model):
            return True
        if cache.held_classifier(model) is None:
            return False
        request = self._request(line, model)
        return request is None or cache.is_settled(request)

    def _request(self, line: Line, model: str) -> Request | None:
        """The explanation in which the cell is found, or None if the model has no such class.

        The classes of all rows with this picture are explained together, from one forward pass.
        """
        if line.target is None:
            return Request(model, line.picture, None, self.method, self.layer)
        labels = cache.classifier(model).labels
        if class_index(labels, line.target) is None:
            return None
        same = [other for other in self.lines if other.picture.key == line.picture.key]
        named = [other.target for other in same if other.target]
        found = [class_index(labels, name) for name in named]
        targets = tuple(dict.fromkeys(index for index in found if index is not None))
        return Request(model, line.picture, targets, self.method, self.layer)

    def _cell(self, line: Line, model: str) -> Cell:
        try:
            request = self._request(line, model)
            if request is None:
                raise TargetError(f"This model has no class {line.target}.")
            found = cache.explanation(request)
        except SwinError as error:
            return Cell(None, error=str(error))
        except Exception as error:
            # A fault in one cell must not take the page: it is logged in full, and named in its place.
            log.exception("explaining with %s failed", model)
            reason = f"This cell failed unexpectedly ({type(error).__name__}); the server's log says more."
            return Cell(None, error=reason)
        if line.target is None:
            return Cell(found)
        index = class_index(found.labels, line.target)
        return Cell(found, target=found.targets.index(index if index is not None else -1))


def _waiting_for(model: str) -> str:
    return "Explaining ..." if cache.held_classifier(model) else "Loading the model ..."


def own_classes(picture: Picture, models: Sequence[str], method: str) -> list[str]:
    """The first choice of each model that can be had, each class once."""
    line = Line(picture)
    rows = Comparison((line,), tuple(models), method, None).rows()
    found = [cell.explanation for cell in rows[0].cells if cell.explanation is not None]
    return list(dict.fromkeys(explanation.label(0) for explanation in found))
