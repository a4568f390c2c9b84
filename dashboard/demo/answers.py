"""What the demo answers, whoever asks: from an upload and names to a grid, its figures and its files.

Nothing here knows Gradio. Everything that comes from outside is checked here: the demo may stand on the open network.
"""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from dashboard.shared import cache
from dashboard.shared.cache import InputImage
from dashboard.shared.comparison import Comparison, Line
from dashboard.shared.model_names import model_source, sample_images, sample_label
from swin_core.attribution.methods import METHODS
from swin_core.comparisons.compare import MODELS_AT_MOST
from swin_core.errors import ConfigError, ImageError, ModelError, SwinError, first_names
from swin_core.figures.grid import Cell, Grid
from swin_core.images.read import read_image
from swin_core.zoo.load import describe

__all__ = ["PREDICTIONS", "UPLOAD_BYTES", "Answer", "Demo", "predictions"]

UPLOAD_BYTES = 20 * 2**20
"""Largest image that is taken."""

PREDICTIONS = 5
"""Likeliest classes that are named for each model."""

_SHORTER_SIDE = 512  # pixels: twice this is left of a large image, more than any model or cell shows
_NAME_LENGTH = 60


@dataclass(frozen=True)
class Answer:
    """One image explained by some models."""

    models: tuple[str, ...]
    """The models' full names, one a column of the grid."""
    grid: Grid
    """Of one row."""

    @property
    def cells(self) -> Sequence[Cell]:
        """What each model says."""
        return self.grid.rows[0].cells

    def numbers(self) -> dict[str, Any]:
        """Everything but the images, in JSON's types.

        Returns:
            `predictions`: by model, its likeliest classes, each with `label` and `probability`. `figures`: by model,
            `method`, `layer`, `target` and its `probability`, `magnitude` of the map before any scaling, and
            `weights_hash`; or `error` where there is no map.
        """
        cells = dict(zip(self.models, self.cells, strict=True))
        return {
            "predictions": {
                name: [{"label": label, "probability": value} for label, value in predictions(cell)]
                for name, cell in cells.items()
            },
            "figures": {name: _figure(cell) for name, cell in cells.items()},
        }


@dataclass(frozen=True)
class Demo:
    """The models that the demo offers, and the only folder that it reads and writes.

    Raises:
        SwinError: a model that is not there, a name that leads out of the project, or none.
    """

    models: tuple[str, ...]
    folder: Path
    """Uploads lie in it, and what is drawn for an answer."""

    def __post_init__(self) -> None:
        if not self.models:
            raise ConfigError("The demo needs a model: name one after --models.")
        self.descriptions  # noqa: B018  a wrong name shall be refused now, not by the first visitor

    @cached_property
    def descriptions(self) -> dict[str, str]:
        """One line on each model; none of them is loaded for it."""
        return {name: describe(model_source(name)) for name in self.models}

    @cached_property
    def _truths(self) -> dict[str, str]:
        """What the bundled samples show, by the hash of their bytes."""
        return {
            hashlib.sha256(file.read_bytes()).hexdigest(): sample_label(name) for name, file in sample_images().items()
        }

    def answer(self, upload: object, models: object, target: object = None, method: object = None) -> Answer:
        """Explain one image by several models; a model that cannot says why in its cell.

        Args:
            upload: what Gradio knows about an uploaded file: a dictionary with its `path`.
            models: names of offered models, 1 to 4.
            target: a class's name; None or an empty text for each model's own first choice.
            method: a key of `METHODS`; None or an empty text for the best one measured for each model.

        Raises:
            SwinError: the upload is no image or lies outside the folder; a name that is not offered; or no model can
                explain the image.
        """
        names = self._offered(models)
        known = _text(method, "method")
        if known is not None and known not in METHODS:
            raise ConfigError(f"There is no method {known[:_NAME_LENGTH]!r}; choose one of {', '.join(METHODS)}.")
        line = Line(self.picture(upload), _text(target, "target"))
        compared = Comparison((line,), names, known)
        found = Answer(names, Grid(tuple(compared.rows()), compared.columns))
        if all(cell.explanation is None for cell in found.cells):
            raise SwinError(found.cells[0].error)
        return found

    def _offered(self, models: object) -> tuple[str, ...]:
        names = [models] if isinstance(models, str) else models
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise ModelError(f"Name one to {MODELS_AT_MOST} models: the demo offers {first_names(self.models)}.")
        for name in names:
            if name not in self.models:
                raise ModelError(
                    f"There is no model {name[:_NAME_LENGTH]!r} here; the demo offers {first_names(self.models)}."
                )
        once = tuple(dict.fromkeys(names))
        if len(once) > MODELS_AT_MOST:
            raise ModelError(f"One answer holds up to {MODELS_AT_MOST} models, not {len(once)}: name fewer.")
        return once

    def picture(self, upload: object) -> InputImage:
        """The image of an upload, decoded once.

        Raises:
            ImageError: nothing was uploaded, the file lies elsewhere, or it is no image.
        """
        content = self._content(upload)
        key = hashlib.sha256(content).hexdigest()
        named = upload.get("orig_name") if isinstance(upload, dict) else None
        title = Path(named).name[-_NAME_LENGTH:] if isinstance(named, str) else ""
        return cache.read_input_image(
            (key, title), title or "picture", self._truths.get(key, ""), lambda: _read(content)
        )

    def _content(self, upload: object) -> bytes:
        path = upload.get("path") if isinstance(upload, dict) else None
        if not isinstance(path, str) or not path:
            raise ImageError("There is no image: upload one, or choose an example.")
        # A link may lead elsewhere, so it is what the path resolves to that has to lie in the folder.
        if "\0" in path or not Path(path).resolve().is_relative_to(self.folder.resolve()):
            raise ImageError("The image must be an upload: send the file itself, not a path or an address.")
        try:
            with open(path, "rb") as file:
                return file.read(UPLOAD_BYTES + 1)
        except OSError as error:
            raise ImageError("The upload is gone, as uploads are deleted after an hour: send it again.") from error

    def new_file(self, name: str) -> Path:
        """A place for a file of an answer, in a folder of its own whose name nobody can guess."""
        place = self.folder / secrets.token_hex(16)
        place.mkdir()
        return place / name


def _read(content: bytes) -> Image.Image:
    """An image whose shorter side is below four times `_SHORTER_SIDE`, so that many can be held."""
    image = read_image(content, UPLOAD_BYTES, shorter_side=_SHORTER_SIDE)
    times = min(image.size) // (2 * _SHORTER_SIDE)
    return image.reduce(times) if times > 1 else image


def _text(value: object, what: str) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise ConfigError(f"The {what} must be a name, not {type(value).__name__}.")
    return value[:200]


def predictions(cell: Cell) -> list[tuple[str, float]]:
    """The likeliest classes of a cell's model with their probabilities, greatest first; none without an explanation."""
    found = cell.explanation
    if found is None:
        return []
    order = sorted(range(len(found.labels)), key=lambda index: (-found.probabilities[index], index))
    return [(found.labels[index], float(found.probabilities[index])) for index in order[:PREDICTIONS]]


def _figure(cell: Cell) -> dict[str, Any]:
    found = cell.explanation
    if found is None:
        return {"error": cell.error}
    return {
        "method": found.method,
        "layer": found.layers[cell.layer],
        "target": found.label(cell.target),
        "probability": float(found.probabilities[found.targets[cell.target]]),
        "magnitude": cell.magnitude,
        "weights_hash": found.weights_hash,
    }
