"""The grid of heat maps as data: one row for each image or class, one column for each model.

`viewer_payload` prepares it for a browser and `matplotlib_grid` draws it for print; `files` writes it in every format.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from PIL import Image

from swin_core.attribution.explanation import Explanation
from swin_core.attribution.method import INPUT
from swin_core.attribution.overlay import Look, is_fine, scale_top
from swin_core.attribution.regions import common_parts
from swin_core.attribution.what_if import Edit
from swin_core.class_names import candidates
from swin_core.errors import ConfigError
from swin_core.figures.text import value_text, wrap
from swin_core.system.renderers import RENDERERS
from swin_core.trust.assess import Trust
from swin_core.trust.similarity import agreement

LEAST_SHARE = 0.01
"""A map whose peak is below this share of the largest peak of its model, method and layer has almost no signal."""
FLOAT_NOISE = 1e-6
"""So has one whose peak is below this share of the largest logit: float32 has 7 digits, and a map sums up terms."""


@dataclass(frozen=True)
class Cell:
    """An explanation's map of one target at one layer, or the reason why there is none."""

    explanation: Explanation | None
    target: int = 0
    """Index into the explanation's targets."""
    layer: int = 0
    """Index into the explanation's layers."""
    error: str = ""
    """Reason that is shown if there is no explanation."""
    note: str = ""
    """Additional line of the caption."""
    trust: Trust | None = None
    """Faithfulness of the map, if it was measured."""
    before: Explanation | None = None
    """The explanation of the image before a region was replaced, of the same targets."""

    @property
    def map(self) -> np.ndarray | None:
        """The attribution map, `(h, w)`, or None."""
        return None if self.explanation is None else self.explanation.maps[self.target, self.layer]

    @property
    def magnitude(self) -> float:
        """The map's largest absolute value; 0 without an explanation."""
        return 0.0 if self.explanation is None else self.explanation.magnitude(self.target, self.layer)

    @property
    def change(self) -> float | None:
        """Change of the target's logit where a region of the image was replaced, else None."""
        if self.explanation is None or self.before is None:
            return None
        target = self.explanation.targets[self.target]
        return float(self.explanation.logits[target] - self.before.logits[target])

    @cached_property
    def top(self) -> float:
        """Top of the map's own scale, see `scale_top`; 0 without an explanation."""
        return 0.0 if self.map is None else scale_top(self.map)


@dataclass(frozen=True)
class Row:
    """One image and its cells, one for each column."""

    title: str
    thumbnail: np.ndarray
    """The image as it is shown, `(H, W, 3)` uint8."""
    cells: Sequence[Cell]
    truth: str = ""
    """The image's true class, if it is known; captions then mark predictions as right or wrong."""
    image: Image.Image | None = None
    """The whole image, for files from which the grid can be computed again; without its edit."""
    edit: Edit | None = None
    """What was replaced in the image before it was explained; the thumbnail shows the result."""


@dataclass(frozen=True)
class Caption:
    """The text under a cell."""

    headline: str
    """Class and probability; of a regression its output."""
    notes: tuple[str, ...]
    badge: str = ""
    """Whether the map beats the baseline maps, shown between headline and notes; empty if not measured."""
    prediction: str = ""
    """The note about the top-1 class: named if it is not the headline's, and marked as right or wrong."""
    magnitude: str = ""
    """The map's largest absolute value and its layer, a note if the look shows raw values; empty if that is 0."""

    def lines(self, columns: int) -> tuple[list[str], list[str]]:
        """Wrap the headline, and the badge with the notes, to lines of at most `columns` columns."""
        notes = (self.badge, *self.notes)
        return wrap(self.headline, columns), [line for note in notes for line in wrap(note, columns)]


@dataclass(frozen=True)
class Grid:
    """Rows of images with their heat maps.

    Raises:
        ConfigError: a row does not have one cell for each column.
    """

    rows: tuple[Row, ...]
    columns: tuple[str, ...]
    """The models' names."""
    look: Look = field(default_factory=Look)

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.cells) != len(self.columns):
                raise ConfigError(f"row {row.title!r} has {len(row.cells)} cells for {len(self.columns)} columns.")

    def _repr_html_(self) -> str:
        """Return the viewer of the grid, for notebooks; images where no script runs."""
        return RENDERERS["Grid"](self)

    @cached_property
    def shared_top(self) -> float:
        """Top of the shared scale: the greatest `top` of all cells."""
        return max((cell.top for row in self.rows for cell in row.cells), default=0.0)

    @cached_property
    def _maps(self) -> list[np.ndarray]:
        return [cell.map for row in self.rows for cell in row.cells if cell.map is not None]

    @cached_property
    def signed(self) -> bool:
        """Whether any map has negative values; the scale then goes from -top to top."""
        return any(float(values.min()) < 0 for values in self._maps)

    def top(self, cell: Cell) -> float:
        """Return the value at the top of the cell's scale."""
        if self.look.scale == "shared" or cell.map is None:
            return self.shared_top
        return cell.top

    @property
    def scale_name(self) -> str:
        """Description of the scale, shown in every drawing of the grid."""
        if self.look.scale == "shared":
            bottom = f"-{self.shared_top:.3g}" if self.signed else "0"
            text = f"scale: shared, {bottom} to {self.shared_top:.3g}"
        else:
            text = f"scale: each map, {'minus to plus' if self.signed else '0 to'} its magnitude"
        text += ", fine maps to their 99th percentile" if any(map(is_fine, self._maps)) else ""
        text += ", orange for, blue against" if self.signed else ""
        return text + (f"; transparent below {100 * self.look.threshold:.0f} %" if self.look.threshold else "")

    @property
    def lines_name(self) -> str:
        """Description of the lines over the maps: contour lines, and that of the wipe; empty without them."""
        return _lines_name(self.look, self.columns)

    def is_almost_empty(self, cell: Cell) -> bool:
        """Whether a map has almost no signal; it is then drawn as a grey image, never stretched to full colour.

        Its peak is compared with the maps of the same model, method and layer in the grid, since only their values
        have the same unit, and with the rounding of the model's own numbers.
        """
        explanation = cell.explanation
        if explanation is None:
            return False
        noise = FLOAT_NOISE * float(np.abs(explanation.logits).max())
        largest = self._peaks.get(_kind(explanation, cell.layer), 0.0)
        return cell.magnitude <= noise or cell.magnitude < LEAST_SHARE * largest

    @cached_property
    def _peaks(self) -> dict[tuple[str, str, str, str], float]:
        """The largest peak of the maps that can be compared with each other, by `_kind`."""
        peaks: dict[tuple[str, str, str, str], float] = {}
        for row in self.rows:
            for cell in row.cells:
                if cell.explanation is not None:
                    kind = _kind(cell.explanation, cell.layer)
                    peaks[kind] = max(peaks.get(kind, 0.0), cell.magnitude)
        return peaks

    def caption(self, row: Row, cell: Cell) -> Caption:
        """Return a cell's caption: class and probability; a different or wrong prediction is named."""
        explanation = cell.explanation
        if explanation is None:
            return Caption("", ())
        labels, probabilities = explanation.labels, explanation.probabilities
        target, predicted = explanation.targets[cell.target], int(probabilities.argmax())
        notes = []
        if cell.before is not None:
            was = value_text(float(cell.before.probabilities[target]), explanation.activation)
            notes.append(f"{labels[target]} was {was}; logit {cell.change:+.2f}")
        if explanation.against is not None:
            notes.append(f"contrast with {labels[explanation.against[cell.target]]}")
        magnitude = ""
        if cell.magnitude:
            layer = explanation.layers[cell.layer]
            magnitude = f"magnitude {cell.magnitude:.3g} at {'the pixels' if layer == INPUT else layer}"
            notes += [magnitude] if self.look.raw else []
            notes += ["almost no signal"] if self.is_almost_empty(cell) else []
        else:
            notes.append("empty map: zero everywhere")
        prediction = []
        classifies = explanation.activation != "none"
        if classifies and predicted != target:
            share = value_text(float(probabilities[predicted]), explanation.activation)
            prediction.append(f"predicts {labels[predicted]} · {share}")
        truth = candidates(labels, row.truth) if row.truth and classifies else []
        if len(truth) == 1:  # a model without the true class is neither right nor wrong
            prediction.append("✓ right" if predicted == truth[0] else f"✗ wrong: it is {row.truth}")
        prediction_note = " ".join(prediction)
        notes += [prediction_note] if prediction else []
        notes += [cell.note] if cell.note else []
        headline = f"{labels[target]} · {value_text(float(probabilities[target]), explanation.activation)}"
        badge = ""
        if cell.trust is not None:
            badge = f"Map check: {cell.trust.check}"
        return Caption(headline, tuple(notes), badge, prediction_note, magnitude)

    def agreement(self) -> list[np.ndarray]:
        """Return Spearman's rank correlation between the maps of every two columns, one `(C, C)` matrix for each row.

        Models that crop an image differently are compared where both see it. NaN where a cell has no map or a
        constant one.
        """
        return [self.row_agreement(row) for row in self.rows]

    def row_agreement(self, row: Row) -> np.ndarray:
        """Return the matrix of one row, see `agreement`."""
        matrix = np.full((len(self.columns), len(self.columns)), np.nan)
        shown = [
            (j, cell.explanation.maps[cell.target, cell.layer], cell.explanation.region)
            for j, cell in enumerate(row.cells)
            if cell.explanation is not None
        ]
        for i, first, first_region in shown:
            for j, second, second_region in shown:
                parts = common_parts(first_region, second_region) if j <= i else None
                if parts is not None:
                    matrix[i, j] = matrix[j, i] = agreement(first, second, parts)
        return matrix


@dataclass(frozen=True)
class Mark:
    """A line or an area over an image."""

    path: str
    """Path of an SVG, in fractions of the image's width and height."""
    stroke: str = ""
    """Colour of the line, empty for none."""
    width: float = 2.0
    """Width of the line in pixels of the screen."""
    fill: str = ""
    """Colour of the area, by the even-odd rule; empty for none."""


@dataclass(frozen=True)
class MapCell:
    """A map that is no explanation, such as a mean of maps or the attention of a token; or why there is none."""

    image: np.ndarray | None
    """`(H, W, 3)` uint8, or None."""
    map: np.ndarray | None
    """`(h, w)`, or None."""
    headline: str = ""
    notes: tuple[str, ...] = ()
    error: str = ""
    """Reason that is shown without an image."""
    top: float | None = None
    """Value at the top of its scale; if None, as of an explanation's map."""
    marks: tuple[Mark, ...] = ()
    share: bool = False
    """Whether values are shares, which are read in percent."""
    nearest: bool = False
    """Whether each value fills its place as a square; else the map is smooth."""

    @property
    def scale_top(self) -> float:
        """Value at the top of the map's own scale; 0 without a map."""
        if self.map is None:
            return 0.0
        return scale_top(self.map) if self.top is None else self.top

    @property
    def is_empty(self) -> bool:
        """Whether the map is zero everywhere, or there is none."""
        return self.map is None or not self.map.any()

    @property
    def magnitude_text(self) -> str:
        """The map's largest absolute value in words, shown beside raw values; empty without a map."""
        return "" if self.map is None else f"magnitude {float(np.abs(self.map).max()):.3g}"


@dataclass(frozen=True)
class MapRow:
    """Cells beside each other, one for each column."""

    title: str
    image: np.ndarray | None
    """The image beside the cells, `(H, W, 3)` uint8, or None."""
    cells: Sequence[MapCell]
    marks: tuple[Mark, ...] = ()
    """What lies over the row's image."""


@dataclass(frozen=True)
class MapGrid:
    """Maps over images as data for the viewer, as `Grid` is of explanations."""

    rows: tuple[MapRow, ...]
    columns: tuple[str, ...]
    look: Look = field(default_factory=Look)

    @cached_property
    def signed(self) -> bool:
        """Whether any map has negative values; the scale then goes from -top to top."""
        maps = (cell.map for row in self.rows for cell in row.cells)
        return any(values is not None and float(values.min()) < 0 for values in maps)

    @cached_property
    def shared_top(self) -> float:
        """Top of the shared scale: the greatest top of all cells."""
        return max((cell.scale_top for row in self.rows for cell in row.cells), default=0.0)

    def top(self, cell: MapCell) -> float:
        """Return the value at the top of the cell's scale."""
        return self.shared_top if self.look.scale == "shared" else cell.scale_top

    @property
    def lines_name(self) -> str:
        """Description of the lines over the maps, as of `Grid`."""
        return _lines_name(self.look, self.columns)


def _lines_name(look: Look, columns: Sequence[str]) -> str:
    levels = ", ".join(f"{100 * level:.3g} %" for level in look.contours)
    parts = [f"lines at {levels} of the scale"] if levels else []
    if look.wipe == "image":
        parts.append("right of the white line: the image")
    elif look.wipe and int(look.wipe) < len(columns):
        parts.append(f"right of the white line: {columns[int(look.wipe)]}")
    return "; ".join(parts)


def _kind(explanation: Explanation, layer: int) -> tuple[str, str, str, str]:
    """Return what the values of a map must have in common to be compared."""
    return explanation.weights_hash, explanation.method, explanation.layers[layer], explanation.fused
