"""A page for print, drawn with matplotlib: images and text at places in inches."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from swin_core.figures.fonts import Fonts

CELL, GAP, MARGIN, PADDING, LINE = 2.2, 0.12, 0.2, 0.08, 0.155
"""Side of a cell, space between cells, margin of the page, padding of a panel, height of a line, in inches."""
CAPTION_COLUMNS, FONT_POINTS = 29, 8.5
"""Columns of text under a cell, and the size of the text."""
DOTS_PER_INCH = 200


class Page:
    """A figure with coordinates in inches from the upper left corner."""

    def __init__(self, figure: Figure, fonts: Fonts) -> None:
        self.figure, self.fonts = figure, fonts
        self.width, self.height = figure.get_size_inches()

    def text(self, x: float, y: float, lines: list[str], bold: bool = False) -> None:
        """Draw lines of plain text; dollar signs and braces are not read as mathematics."""
        for number, line in enumerate(lines):
            self.figure.text(
                x / self.width,
                1 - (y + LINE * (number + 0.8)) / self.height,
                self.fonts.drawable(line),
                fontsize=FONT_POINTS,
                fontfamily=list(self.fonts.families),
                fontweight="bold" if bold else "normal",
                parse_math=False,
            )

    def image(self, x: float, y: float, pixels: np.ndarray, width: float = CELL, height: float = CELL) -> None:
        """Draw pixels, `(h, w, 3)` uint8, stretched over a rectangle."""
        axes = self.figure.add_axes(self._rectangle(x, y, width, height))
        axes.imshow(pixels, aspect="auto", interpolation="auto")
        axes.set_axis_off()

    def panel(self, x: float, y: float, lines: list[str]) -> None:
        """Draw a grey cell with text."""
        axes = self.figure.add_axes(self._rectangle(x, y, CELL, CELL))
        axes.set(xticks=[], yticks=[], facecolor="0.93")
        axes.spines[:].set_visible(False)
        self.text(x + PADDING, y + PADDING, lines)

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        """Return axes for a chart."""
        return self.figure.add_axes(self._rectangle(x, y, width, height))

    def _rectangle(self, x: float, y: float, width: float, height: float) -> tuple[float, float, float, float]:
        return x / self.width, 1 - (y + height) / self.height, width / self.width, height / self.height
