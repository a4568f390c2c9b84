"""The rows and columns that the Compare page and the demo show, and the cell at each place."""

import logging
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dashboard.shared import cache
from dashboard.shared.cache import STAGES, InputImage, Request
from dashboard.shared.formatting import unexpected
from dashboard.shared.model_names import column_titles
from swin_core.attribution.methods import METHODS
from swin_core.attribution.targets import RUNNER_UP
from swin_core.class_names import candidates, find_class
from swin_core.errors import SwinError, TargetError
from swin_core.figures.grid import Cell, Row

log = logging.getLogger(__name__)

_DEFAULT_STAGES = 4
"""Columns while no model is loaded."""


@dataclass(frozen=True)
class ImageAndClass:
    """An image and the class to explain on it."""

    image: InputImage
    target: str | None = None
    """A class's name, or None for each model's top-1 class."""
    title: str = ""
    """Title of the row; the image's title if empty."""


@dataclass(frozen=True)
class Comparison:
    """Lines and models to compare.

    Rows: image and class; columns: models. With `STAGES`, rows also split by model and columns are stages.
    """

    lines: tuple[ImageAndClass, ...]
    models: tuple[str, ...]
    method: str | None = None
    """None for the method that was measured to be best for each model."""
    layer: str | None = None
    """As in `Request`."""
    against: str | None = None
    """Contrast class: a class's name, `RUNNER_UP`, or None."""

    @property
    def key(self) -> Hashable:
        """Identifies the finished rows."""
        lines = tuple((line.image.key, line.image.title, line.target, line.title) for line in self.lines)
        return lines, self.models, self.method, self.layer, self.against

    @property
    def columns(self) -> tuple[str, ...]:
        """Titles of the columns."""
        if self.layer != STAGES:
            return column_titles(self.models)
        layers = max((cache.stages(model, self.method) for model in self.models), key=len, default=())
        pixels = layers[:1] == ("input",)
        count = len(layers) - pixels if layers else _DEFAULT_STAGES
        return (*(["Pixels"] if pixels else []), *(f"Stage {number + 1}" for number in range(count)))

    @property
    def row_count(self) -> int:
        """Number of rows of the grid."""
        return len(self.lines) * (len(self.models) if self.layer == STAGES else 1)

    @property
    def row_titles(self) -> list[str]:
        """Titles of the rows of the grid."""
        titles = [line.title or line.image.title for line in self.lines]
        if self.layer != STAGES:
            return titles
        return [f"{model} · {title}" for title in titles for model in column_titles(self.models)]

    def seen_row(self, event: Mapping[str, Any]) -> int | None:
        """Return the row that an event of the browser means; None if there is none any more.

        Args:
            event: `row` as it was numbered on the page, and its `title`, by which it is found where rows have moved.
                From the browser, so both are checked.
        """
        row, titles = event.get("row"), self.row_titles
        if type(row) is not int or row < 0:
            return None
        title = event.get("title", titles[row] if row < len(titles) else None)
        if row < len(titles) and titles[row] == title:
            return row
        return titles.index(title) if titles.count(title) == 1 else None

    def line_and_model(self, row: int, column: int) -> tuple[ImageAndClass, str]:
        """Return the line and the model of a cell."""
        if self.layer != STAGES:
            return self.lines[row], self.models[column]
        line, model = divmod(row, len(self.models))
        return self.lines[line], self.models[model]

    def slow_models(self) -> list[str]:
        """Return the models with cells that are not cached."""
        return [model for model in self.models if not all(self._is_cached(line, model) for line in self.lines)]

    def rows(self, waiting: Sequence[str] = ()) -> list[Row]:
        """Return the rows of the grid. Cells of models in `waiting` are not computed but say what they wait for."""
        rows: list[Row] = []
        titles = self.row_titles
        for line in self.lines:
            cells = [self._cell(line, model, wait=model not in waiting) for model in self.models]
            for part in map(self._stage_cells, cells) if self.layer == STAGES else [cells]:
                rows.append(_row(titles[len(rows)], line.image, part))
        return rows

    def _stage_cells(self, cell: Cell) -> list[Cell]:
        """Split a cell with the maps of all stages into one cell per column."""
        explanation = cell.explanation
        if explanation is None:
            return [cell] * len(self.columns)
        cells = []
        for index, column in enumerate(self.columns):
            if index >= len(explanation.layers):
                cells.append(Cell(None, error=f"this model has no {column.lower()}."))
                continue
            note = cell.note
            if self.method and METHODS[self.method].staged:
                total = float(explanation.maps[cell.target, index].sum(dtype=float))
                score = float(explanation.logits[explanation.targets[cell.target]])
                if explanation.against is not None:
                    score -= float(explanation.logits[explanation.against[cell.target]])
                note = f"sum {total:.3g} of score {score:.3g}"
            cells.append(replace(cell, layer=index, note=note))
        return cells

    def _is_cached(self, line: ImageAndClass, model: str) -> bool:
        if cache.load_failure(model):
            return True
        if cache.loaded_classifier(model) is None:
            return False
        try:
            line = _known(line, model)[0]
            before = self._request(_unedited(line), model)
            return cache.is_explained(before) and cache.is_explained(self._request(line, model))
        except SwinError:
            return True

    def _request(self, line: ImageAndClass, model: str) -> Request:
        """Return the request whose explanation contains the cell.

        All classes asked of an image are explained together, from one forward pass. With a contrast class each is
        explained alone, since the contrast class may be one of them. An image with a replaced region is explained for
        the classes of the original, which is explained first.

        Raises:
            TargetError: the model has no such class, or several classes match the name.
        """
        if line.image.edit is not None:
            before = cache.explanation(self._request(_unedited(line), model))
            return Request(model, line.image, before.targets, self.method, self.layer, before.against)
        against: int | str | None = self.against
        if self.against is not None and self.against != RUNNER_UP:
            against = _class_index(model, self.against)
        if line.target is None:
            return Request(model, line.image, None, self.method, self.layer, against)
        targets = {_class_index(model, line.target): None}
        if against is None:
            labels = cache.classifier(model).labels
            same_image = [
                other.target for other in self.lines if other.target and other.image.source.key == line.image.key
            ]
            matches = [candidates(labels, target) for target in same_image]
            targets = {indices[0]: None for indices in matches if len(indices) == 1}
        return Request(model, line.image, tuple(targets), self.method, self.layer, against)

    def _cell(self, line: ImageAndClass, model: str, wait: bool) -> Cell:
        if not wait and not self._is_cached(line, model):
            loaded = cache.loaded_classifier(model) is not None
            return Cell(None, error="Explaining ..." if loaded else "Loading the model ...")
        try:
            line, note = _known(line, model)
            explanation = cache.explanation(self._request(line, model))
            before = None if line.image.edit is None else cache.explanation(self._request(_unedited(line), model))
            target = 0 if line.target is None else explanation.targets.index(_class_index(model, line.target))
        except SwinError as error:
            return Cell(None, error=str(error))
        except Exception as error:  # shown in its cell, so that the other cells stay
            log.exception("explaining with %s failed", model)
            return Cell(None, error=unexpected(error))
        note = note or (METHODS[explanation.method].title if self.method is None else "")
        return Cell(explanation, target=target, note=note, before=before)


def _known(line: ImageAndClass, model: str) -> tuple[ImageAndClass, str]:
    """Return the line, with the likeliest class and a note in place of a class that the model does not have."""
    if line.target is None or candidates(cache.classifier(model).labels, line.target):
        return line, ""
    return replace(line, target=None), f"this model has no class {line.target}, so its likeliest is shown"


def _unedited(line: ImageAndClass) -> ImageAndClass:
    return replace(line, image=line.image.source)


def _row(title: str, image: InputImage, cells: Sequence[Cell]) -> Row:
    return Row(title, image.square, cells, image.truth, image.source.pil, image.edit)


def _class_index(model: str, name: str) -> int:
    index = find_class(cache.classifier(model).labels, name)
    if index is None:
        raise TargetError(f"this model has no class {name}.")
    return index


def top_classes(image: InputImage, models: Sequence[str], method: str | None) -> list[str]:
    """Return the top-1 class of each model that could be explained, without repetitions."""
    row = Comparison((ImageAndClass(image),), tuple(models), method).rows()[0]
    return list(dict.fromkeys(cell.explanation.label(0) for cell in row.cells if cell.explanation is not None))
