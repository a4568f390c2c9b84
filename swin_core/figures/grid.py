"""The grid of heat maps as data: one row for each image or class, one column for each model.

`browser` draws a grid for a page (Plotly), `figure` for paper (matplotlib), and `export` writes it to files.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from PIL import Image

from swin_core.attribution.explanation import Explanation
from swin_core.attribution.overlay import Look, is_fine, scale_top
from swin_core.attribution.regions import common_parts
from swin_core.class_names import candidates
from swin_core.errors import ConfigError
from swin_core.figures.text import percent, wrap
from swin_core.trust.assess import Trust
from swin_core.trust.similarity import agreement

__all__ = ["Caption", "Cell", "Grid", "Row", "badge"]

EMPTY_MAP = "empty map: nothing at this layer speaks for it"
"""What stands in place of the magnitude where the map is zero everywhere."""


@dataclass(frozen=True)
class Cell:
    """One place of the grid: an explanation's map of one target at one layer, or why there is none."""

    explanation: Explanation | None
    target: int = 0
    """Index into the explanation's targets."""
    layer: int = 0
    """Index into the explanation's layers."""
    error: str = ""
    """What stands in the cell where there is no explanation."""
    note: str = ""
    """What else to say in the caption."""
    trust: Trust | None = None
    """How far to believe the map, where it was measured."""

    @property
    def map(self) -> np.ndarray | None:
        """The attribution map, `(h, w)`, or None."""
        return None if self.explanation is None else self.explanation.maps[self.target, self.layer]

    @property
    def magnitude(self) -> float:
        """The explanation's magnitude at this cell; 0 without an explanation."""
        return 0.0 if self.explanation is None else self.explanation.magnitude(self.target, self.layer)

    @property
    def is_fine(self) -> bool:
        """Whether the map has so many places that a few of them may be far above the rest."""
        return self.map is not None and is_fine(self.map)

    @cached_property
    def top(self) -> float:
        """The top of the map's own scale: its magnitude, or of a fine map the value that one place in 100 exceeds."""
        return 0.0 if self.map is None else scale_top(self.map)


@dataclass(frozen=True)
class Row:
    """One image, `(H, W, 3)` uint8, and its cells, one a column."""

    title: str
    picture: np.ndarray
    cells: Sequence[Cell]
    truth: str = ""
    """The image's true class, if it is known: predictions are then marked right or wrong."""
    image: Image.Image | None = None
    """The whole image as it was explained, for files from which the grid can be computed again."""


@dataclass(frozen=True)
class Caption:
    """The text under a cell: what was explained, and what there is to know about it."""

    headline: str
    notes: tuple[str, ...]
    badge: str = ""
    """How far to believe the map, if that was measured; it stands between the two."""

    def lines(self, columns: int) -> tuple[list[str], list[str]]:
        """Headline, and badge and notes, wrapped to lines of at most `columns` columns."""
        notes = (self.badge, *self.notes)
        return wrap(self.headline, columns), [line for note in notes for line in wrap(note, columns)]


def badge(trust: Trust) -> str:
    """In one line, whether a map is better than maps that know nothing, with its symmetric relevance gain."""
    return f"{'believe' if trust.better else 'doubt'} · SRG {trust.srg:+.2f}"


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
    badge_room: bool = False
    """Whether a figure for a page leaves a line free under each headline, where the page puts a badge."""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.cells) != len(self.columns):
                raise ConfigError(f"Row {row.title!r} has {len(row.cells)} cells for {len(self.columns)} columns.")

    @cached_property
    def greatest(self) -> float:
        """Greatest value of all maps, of whichever sign: the top of the shared scale."""
        return max((cell.top for row in self.rows for cell in row.cells), default=0.0)

    @cached_property
    def signed(self) -> bool:
        """Whether a map says what speaks against its class; the scale then goes from -top to top."""
        maps = [cell.map for row in self.rows for cell in row.cells]
        return any(values is not None and float(values.min()) < 0 for values in maps)

    def top(self, cell: Cell) -> float:
        """The value at the top of the cell's scale."""
        if self.look.scale == "shared" or cell.map is None:
            return self.greatest
        return cell.top

    @property
    def scale_name(self) -> str:
        """The scale in words; it stands in every image of the grid."""
        if self.look.scale == "shared":
            bottom = f"-{self.greatest:.3g}" if self.signed else "0"
            words = f"scale: shared, {bottom} to {self.greatest:.3g}"
        else:
            words = f"scale: per cell, {'minus to plus' if self.signed else '0 to'} its magnitude"
        fine = any(cell.is_fine for row in self.rows for cell in row.cells)
        words += ", of fine maps to their 99th percentile" if fine else ""
        words += ", orange for, blue against" if self.signed else ""
        return words + (f"; plain below {100 * self.look.threshold:.0f} %" if self.look.threshold else "")

    def caption(self, row: Row, cell: Cell) -> Caption:
        """What stands under a cell: class, probability, magnitude; another or a wrong prediction is named."""
        found = cell.explanation
        if found is None:
            return Caption("", ())
        target, predicted = found.targets[cell.target], int(found.probabilities.argmax())
        other = None if found.against is None else found.against[cell.target]
        notes = [] if other is None else [f"rather than {found.labels[other]}"]
        notes.append(f"magnitude {cell.magnitude:.3g}" if cell.magnitude else EMPTY_MAP)
        prediction = []
        if predicted != target:
            prediction.append(f"predicts {found.labels[predicted]} · {_sure(found, predicted)}")
        truth = candidates(found.labels, row.truth) if row.truth else []
        if len(truth) == 1:  # else the model does not know the true class, and is neither right nor wrong
            prediction.append("✓ right" if predicted == truth[0] else f"✗ wrong: it is {row.truth}")
        if prediction:
            notes.append(" ".join(prediction))
        notes += [cell.note] if cell.note else []
        mark = badge(cell.trust) if cell.trust else ""
        return Caption(f"{found.labels[target]} · {_sure(found, target)}", tuple(notes), mark)

    def agreement(self) -> list[np.ndarray]:
        """Spearman's rank correlation between the maps of each two columns, one `(C, C)` matrix a row.

        Models that crop an image differently are compared where both see it. NaN where a cell has no map, or a map
        is constant.
        """
        return [self._agreement(row) for row in self.rows]

    def _agreement(self, row: Row) -> np.ndarray:
        matrix = np.full((len(self.columns), len(self.columns)), np.nan)
        shown = [(cell.map, cell.explanation) for cell in row.cells]
        for i, (first, its) in enumerate(shown):
            for j, (second, other) in enumerate(shown[: i + 1]):
                if first is None or second is None or its is None or other is None:
                    continue
                parts = common_parts(its.region, other.region)
                if parts is not None:
                    matrix[i, j] = matrix[j, i] = agreement(first, second, parts)
        return matrix


def _sure(found: Explanation, index: int) -> str:
    return percent(float(found.probabilities[index]))
