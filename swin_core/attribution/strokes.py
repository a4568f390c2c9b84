"""A region painted with a brush: vector strokes, their text for a URL, and the mask that they paint."""

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from swin_core.errors import ConfigError

STEPS = 1000
"""Points lie on a grid of so many steps along each side of the image."""
STROKES_AT_MOST, POINTS_AT_MOST = 100, 800
TOOLS = {"b": "brush", "r": "rectangle", "e": "erase"}
"""Tools by the letter that begins a stroke's text."""

_STROKE = re.compile(r"([bre])([0-9]{0,4})((?:-[0-9]{1,4}\.[0-9]{1,4})+)", re.ASCII)
_EXAMPLE = "a region is written as strokes such as b80-400.300-450.320 or r-100.100-300.250"


@dataclass(frozen=True)
class Stroke:
    """One movement of a tool."""

    tool: str
    """A value of `TOOLS`."""
    points: tuple[tuple[int, int], ...]
    """Column and row of each point, in thousandths of the image's width and height; a rectangle has two corners."""
    size: int = 0
    """Diameter of a brush or an eraser, in thousandths of the image's shorter side."""


@dataclass(frozen=True)
class Strokes:
    """Strokes in the order in which they were made; an eraser removes what earlier ones painted."""

    strokes: tuple[Stroke, ...] = ()

    def text(self) -> str:
        """Return the strokes as text that a URL holds unescaped, see `parse_strokes`."""
        letters = {tool: letter for letter, tool in TOOLS.items()}
        return "_".join(
            f"{letters[stroke.tool]}{stroke.size or ''}" + "".join(f"-{x}.{y}" for x, y in stroke.points)
            for stroke in self.strokes
        )

    def vectors(self) -> list[dict[str, Any]]:
        """Return the strokes as JSON types for a browser, with points and sizes as fractions of the image."""
        return [
            {
                "tool": stroke.tool,
                "size": stroke.size / STEPS,
                "points": [[x / STEPS, y / STEPS] for x, y in stroke.points],
            }
            for stroke in self.strokes
        ]

    def mask(self, height: int, width: int) -> np.ndarray:
        """Return the painted pixels, `(height, width)` bool.

        A pixel is painted if its centre lies under the tool; at the edge of a round stroke it may be the next one.
        """
        region = Image.new("1", (width, height))
        draw = ImageDraw.Draw(region)
        for stroke in self.strokes:
            # Pillow counts from the centre of the first pixel, and the points from its corner.
            points = np.array(stroke.points) * (width, height) / STEPS - 0.5
            if stroke.tool == "rectangle":
                (left, top), (right, bottom) = np.ceil(np.sort(points, 0)).astype(int).tolist()
                if left < right and top < bottom:
                    draw.rectangle((left, top, right - 1, bottom - 1), fill=1)
                continue
            radius, ink = stroke.size * min(width, height) / STEPS / 2, int(stroke.tool == "brush")
            for x, y in points.tolist():
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=ink)
            for start, end in pairwise(points):
                along = end - start
                across = np.array((-along[1], along[0])) * radius / max(float(np.hypot(*along)), 1e-9)
                corners = (start + across, end + across, end - across, start - across)
                draw.polygon([tuple(corner) for corner in np.array(corners).tolist()], fill=ink)
        return np.array(region)


def parse_strokes(text: str) -> Strokes:
    """Read strokes from text.

    Strokes are joined by `_`. Each begins with a letter of `TOOLS` and, for brush and eraser, the diameter in
    thousandths of the image's shorter side; `-column.row` follows for each point, in thousandths of the image's sides.

    Raises:
        ConfigError: text that is no strokes, or with points outside the image, or too many strokes or points.
    """
    if text.count("_") >= STROKES_AT_MOST or text.count("-") > POINTS_AT_MOST:
        raise ConfigError(
            f"a region has up to {STROKES_AT_MOST} strokes and {POINTS_AT_MOST} points: paint it with fewer."
        )
    strokes = []
    for part in text.split("_"):
        match = _STROKE.fullmatch(part)
        if match is None:
            raise ConfigError(f"{_EXAMPLE}, not as {part[:40]!r}.")
        tool, size = TOOLS[match[1]], int(match[2] or 0)
        points = tuple((int(x), int(y)) for x, y in (point.split(".") for point in match[3][1:].split("-")))
        if size > STEPS or max(map(max, points)) > STEPS:
            raise ConfigError(f"the points and sizes of strokes are 0 to {STEPS}, unlike those of {part[:40]!r}.")
        if (tool == "rectangle") != (size == 0) or (tool == "rectangle" and len(points) != 2):
            raise ConfigError(f"a rectangle has two corners, and a brush or an eraser a size, unlike {part[:40]!r}.")
        strokes.append(Stroke(tool, points, size))
    return Strokes(tuple(strokes))
