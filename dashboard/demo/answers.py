"""The demo's answers: from an upload and names to heat maps and numbers, without Gradio.

All input is checked here, since the demo may be on the open network.
"""

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from dashboard.demo.gate import NOT_AN_UPLOAD
from dashboard.demo.turns import Turns
from dashboard.demo.visitor_files import VisitorFiles
from dashboard.shared import cache
from dashboard.shared.cache import InputImage
from dashboard.shared.comparison import Comparison, ImageAndClass
from dashboard.shared.model_names import model_source, sample_images, sample_label
from swin_core.attribution.methods import METHODS
from swin_core.attribution.strokes import Strokes, parse_strokes
from swin_core.attribution.what_if import Edit
from swin_core.class_names import candidates
from swin_core.comparisons.compare import MODELS_AT_MOST
from swin_core.errors import ConfigError, ImageError, ModelError, SwinError, first_names
from swin_core.figures.grid import Cell, Grid
from swin_core.figures.viewer_payload import brush_payload, viewer_payload
from swin_core.images.read import read_image
from swin_core.zoo.load import describe

UPLOAD_BYTES = 20 * 2**20
"""Largest upload."""
_NAME_LENGTH = 60
_GONE = "the upload is gone (deleted after an hour, with its page, or to make room): send it again."


@dataclass(frozen=True)
class Painted:
    """A region that a visitor has painted on an image."""

    path: str
    """The image's upload; the region is not replaced in any other."""
    edit: Edit
    """Without strokes, only what would replace a region."""
    time: int
    """That of the stroke, as the browser sent it; 0 without one."""


@dataclass(frozen=True)
class Answer:
    """One image explained by some models."""

    models: tuple[str, ...]
    """Full names of the models, one for each column of the grid."""
    grid: Grid
    """A grid of one row."""
    image: InputImage
    """The image without its edit."""
    edit: Edit
    """What was to be replaced; without strokes, nothing."""
    fault: str
    """Why the region could not be replaced, or empty."""
    time: int
    """That of the last stroke, as in `Painted`."""

    @property
    def cells(self) -> Sequence[Cell]:
        """The cell of each model."""
        return self.grid.rows[0].cells

    def payload(self) -> dict[str, Any]:
        """Return what the viewer shows: the heat maps, and the brush over the image."""
        payload = viewer_payload(self.grid)
        strokes, fill, keep = self.edit.strokes, self.edit.fill, self.edit.keep
        payload["rows"][0]["brush"] = brush_payload(strokes, fill, keep, self.fault, str(self.image.key), self.time)
        return payload

    def numbers(self) -> dict[str, Any]:
        """Return everything but the images, as JSON types.

        `predictions`: by model, its likeliest classes, each with `label` and
        `probability` (of a regression `output`). `figures`: by model,
        `method`, `layer`, `target` and its `probability`, `magnitude` of the map before scaling, and `weights_hash`;
        where a region was replaced, the target's probability `before` and the `change` of its logit; or `error` if
        there is no map.
        """
        cells = dict(zip(self.models, self.cells, strict=True))
        return {
            "predictions": {
                name: [{"label": label, _value_name(cell): value} for label, value in likeliest_classes(cell)]
                for name, cell in cells.items()
            },
            "figures": {name: _map_numbers(cell) for name, cell in cells.items()},
        }


@dataclass(frozen=True)
class Demo:
    """The models that the demo offers, and the only folder that it reads and writes.

    Raises:
        SwinError: there is no model, a model does not exist, or its name leads out of the project.
    """

    models: tuple[str, ...]
    folder: Path
    """Holds uploads and the files of answers."""
    files: VisitorFiles = field(default_factory=VisitorFiles)
    turns: Turns = field(default_factory=Turns)

    def __post_init__(self) -> None:
        if not self.models:
            raise ConfigError("the demo needs a model: name one after --models.")
        self.descriptions  # noqa: B018  refuse a wrong name now, not at the first request

    @cached_property
    def descriptions(self) -> dict[str, str]:
        """One line on each model, without loading it."""
        return {name: describe(model_source(name)) for name in self.models}

    @cached_property
    def _sample_truths(self) -> dict[str, str]:
        """The true class of each bundled sample, by the SHA-256 of its bytes."""
        return {
            hashlib.sha256(file.read_bytes()).hexdigest(): sample_label(name) for name, file in sample_images().items()
        }

    def answer(
        self,
        upload: object,
        models: object,
        target: object = None,
        method: object = None,
        painted: Painted | None = None,
    ) -> Answer:
        """Explain one image by several models; a model that fails has the reason in its cell.

        Args:
            upload: Gradio's description of an uploaded file: a dictionary with its `path`.
            models: names of 1 to 4 offered models.
            target: a class name; None or empty for each model's top-1 class.
            method: a key of `METHODS`; None or empty for the method measured best for each model.
            painted: what is replaced before the models see the image, if it was painted on this upload.

        Raises:
            SwinError: the upload is no image or lies outside the folder, a name is not offered, or no model can
                explain the image.
        """
        names = self._check_models(models)
        method_name = _check_text(method, "method")
        if method_name is not None and method_name not in METHODS:
            raise ConfigError(f"there is no method {method_name[:_NAME_LENGTH]!r}; choose one of {', '.join(METHODS)}.")
        image, fault = self.picture(upload), ""
        edit = painted.edit if painted is not None and painted.path == _path(upload) else Edit(Strokes())
        changed = image
        if edit.strokes.strokes:
            try:
                changed = cache.edited(image, edit)
            except ConfigError as error:  # such as strokes that leave nothing to replace; shown under the image
                fault = str(error)
        line = ImageAndClass(changed, _check_text(target, "target"))
        comparison = Comparison((line,), names, method_name)
        (row,) = comparison.rows()
        row = replace(row, cells=[_of_class(cell, line.target) for cell in row.cells])
        time = painted.time if painted is not None else 0
        answer = Answer(names, Grid((row,), comparison.columns), image, edit, fault, time)
        if all(cell.explanation is None for cell in answer.cells):
            raise SwinError(answer.cells[0].error)
        return answer

    def _check_models(self, models: object) -> tuple[str, ...]:
        names = [models] if isinstance(models, str) else models
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise ModelError(f"name one to {MODELS_AT_MOST} models: the demo offers {first_names(self.models)}.")
        for name in names:
            if name not in self.models:
                raise ModelError(
                    f"there is no model {name[:_NAME_LENGTH]!r} here; the demo offers {first_names(self.models)}."
                )
        unique = tuple(dict.fromkeys(names))
        if len(unique) > MODELS_AT_MOST:
            raise ModelError(f"a request may name up to {MODELS_AT_MOST} models, not {len(unique)}.")
        return unique

    def picture(self, upload: object) -> InputImage:
        """Return the decoded image of an upload.

        Raises:
            ImageError: nothing was uploaded, the file lies outside the folder, or it is no image.
        """
        content = self._read_upload(upload)
        key = hashlib.sha256(content).hexdigest()
        file_name = upload.get("orig_name") if isinstance(upload, dict) else None
        title = Path(file_name).name[-_NAME_LENGTH:] if isinstance(file_name, str) else ""
        truth = self._sample_truths.get(key, "")
        read = partial(read_image, content, UPLOAD_BYTES, shorter_side=cache.SHORTER_SIDE)
        return cache.read_input_image((key, title), title or "image", truth, read)

    def _read_upload(self, upload: object) -> bytes:
        path = _path(upload)
        if not path:
            raise ImageError("there is no image: upload one, or choose an example.")
        # Resolve links before the check: they may lead out of the folder.
        if "\0" in path or not Path(path).resolve().is_relative_to(self.folder.resolve()):
            raise ImageError(NOT_AN_UPLOAD)
        try:
            with open(path, "rb") as file:
                return file.read(UPLOAD_BYTES + 1)
        except OSError as error:
            raise ImageError(_GONE) from error

    def new_file(self, name: str) -> Path:
        """Return the path of a new file of an answer, in a folder whose name cannot be guessed."""
        folder = self.folder / secrets.token_hex(16)
        folder.mkdir()
        return folder / name


def read_stroke(upload: object, stroke: Mapping[str, Any]) -> Painted:
    """Return what a visitor has painted on an upload.

    Args:
        upload: as in `Demo.answer`.
        stroke: the viewer's `strokes` as text, empty for none, `fill`, `keep` and `time`; unchecked.

    Raises:
        ConfigError: the strokes are no strokes or too many, or the fill is unknown.
    """
    text, fill, time = stroke.get("strokes"), stroke.get("fill"), stroke.get("time")
    if not isinstance(text, str) or not isinstance(fill, str):
        raise ConfigError("a stroke has its text in `strokes` and in `fill` what replaces the region.")
    strokes = parse_strokes(text) if text else Strokes()
    return Painted(_path(upload), Edit(strokes, fill, stroke.get("keep") is True), time if isinstance(time, int) else 0)


def _path(upload: object) -> str:
    """Return the path of Gradio's description of a file, or an empty text."""
    path = upload.get("path") if isinstance(upload, dict) else None
    return path if isinstance(path, str) else ""


def _check_text(value: object, what: str) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise ConfigError(f"the {what} must be a name, not {type(value).__name__}.")
    return value[:200]


def _of_class(cell: Cell, target: str | None) -> Cell:
    """Return the cell, or an error if its model does not have the class.

    The Compare page explains another class then and says so; an answer of the demo must be of the class asked for.
    """
    if target is None or cell.explanation is None or candidates(cell.explanation.labels, target):
        return cell
    return Cell(None, error=f"this model has no class {target}.")


def likeliest_classes(cell: Cell) -> list[tuple[str, float]]:
    """Return the five likeliest classes of a cell's model with their probabilities; none without an explanation."""
    return [] if cell.explanation is None else cell.explanation.top_classes()


def _value_name(cell: Cell) -> str:
    """Return what the numbers of a cell's model are: "probability", or "output" of a regression."""
    return "output" if cell.explanation is not None and cell.explanation.activation == "none" else "probability"


def _map_numbers(cell: Cell) -> dict[str, Any]:
    explanation = cell.explanation
    if explanation is None:
        return {"error": cell.error}
    target = explanation.targets[cell.target]
    numbers = {
        "method": explanation.method,
        "layer": explanation.layers[cell.layer],
        "target": explanation.label(cell.target),
        _value_name(cell): float(explanation.probabilities[target]),
        "magnitude": cell.magnitude,
        "weights_hash": explanation.weights_hash,
    }
    if cell.before is not None:
        numbers |= {"before": float(cell.before.probabilities[target]), "change": cell.change}
    return numbers
