"""Pure rendering: from an attribution map and an image to an overlay, and from text to lines that fit.

Nothing here knows of grids, pages or files; `figure.py` puts these parts together.
"""

import base64
import io
import re
import unicodedata
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from PIL import Image

from swin_core.attribution.explanation import bilinear
from swin_core.errors import ConfigError

__all__ = [
    "COLORMAPS",
    "DIVERGING",
    "NO_BREAK",
    "SCALES",
    "Look",
    "bar_colors",
    "color_scale",
    "data_uri",
    "enlarged",
    "overlay",
    "percent",
    "shorten",
    "wrap",
]

COLORMAPS = ("viridis", "cividis", "inferno", "magma")
"""Perceptually uniform, of rising lightness: they survive colour blindness and grey printing."""

DIVERGING = LinearSegmentedColormap.from_list(
    "against and for",
    [(0.0, "#08306B"), (0.3, "#0F5EA8"), (0.5, "#8C8C8C"), (0.7, "#E69F00"), (1.0, "#FFC933")],
)
"""Colours of maps with a sign: blue speaks against, orange for. Lightness rises here too, so that grey printing keeps
the two apart; in the middle, where the grey is, a map is transparent."""

SCALES = ("shared", "cell")
"""One scale for all cells of a grid, or one for each cell."""


NO_BREAK = "\N{NO-BREAK SPACE}"

LEAST_PIXELS = 256
"""An image with a shorter side is enlarged before a map is laid over it."""


@dataclass(frozen=True)
class Look:
    """How a map is laid over its image.

    The weight of the colour at a point of value v, as a fraction of the scale, is `opacity * v`, and 0 where v is
    below `threshold`. So a low value leaves the image plain instead of dyeing it with the lowest colour.
    """

    colormap: str = "viridis"
    opacity: float = 0.8
    """Weight of the colour at the top of the scale, in [0, 1]."""
    threshold: float = 0.0
    """Fraction of the scale, in [0, 1); below it the plain image shows."""
    scale: str = "cell"
    """One of `SCALES`: from 0 to the greatest value of all cells, or of each cell. Values compare only within one
    model at one layer: between models and layers they differ by far for reasons other than strength. So each
    cell has its own scale at first."""

    def __post_init__(self) -> None:
        if self.colormap not in COLORMAPS:
            raise ConfigError(f"Unknown colour map {self.colormap!r}: choose one of {', '.join(COLORMAPS)}.")
        if self.scale not in SCALES:
            raise ConfigError(f"Unknown scale {self.scale!r}: choose one of {', '.join(SCALES)}.")
        if not 0 <= self.opacity <= 1:
            raise ConfigError(f"Opacity {self.opacity} is outside 0 to 1.")
        if not 0 <= self.threshold < 1:
            raise ConfigError(f"Threshold {self.threshold} is outside 0 to 1, 1 excluded.")

    def weight(self, fraction: np.ndarray) -> np.ndarray:
        """Weight of the colour where the map is `fraction` of the scale, -1 to 1, any shape; in [0, 1]."""
        return np.where(np.abs(fraction) < self.threshold, 0.0, self.opacity * np.abs(fraction))


def colors(look: Look, fraction: np.ndarray, signed: bool) -> np.ndarray:
    """RGB colours in [0, 1] of values that are fractions of the scale; the shape gains a last axis of 3.

    Fractions are 0 to 1, or -1 to 1 of maps with a sign, which have `DIVERGING` in place of the look's colours.
    """
    return DIVERGING((fraction + 1) / 2)[..., :3] if signed else matplotlib.colormaps[look.colormap](fraction)[..., :3]


def color_scale(look: Look, stops: int = 48, signed: bool = False) -> list[tuple[float, str]]:
    """The look as a Plotly colour scale from the bottom to the top, whose colours carry the weight as their alpha."""
    fractions = np.linspace(-1.0 if signed else 0.0, 1.0, stops)
    if look.threshold > 0:
        # Two stops at the threshold make its edge sharp; interpolation over one gap between stops would blur
        # it.
        edges = np.array([np.nextafter(look.threshold, 0), look.threshold])
        fractions = np.unique(np.concatenate([fractions, edges, -edges if signed else edges]))
    rgb = np.rint(255 * colors(look, fractions, signed)).astype(int)
    return [
        (float((fraction + 1) / 2 if signed else fraction), f"rgba({r},{g},{b},{a:.3f})")
        for fraction, (r, g, b), a in zip(fractions, rgb, look.weight(fractions), strict=True)
    ]


def bar_colors(look: Look, steps: int, signed: bool = False) -> np.ndarray:
    """The look's opaque colours from the bottom to the top of the scale, `(steps, 3)`, uint8."""
    return np.rint(255 * colors(look, np.linspace(-1 if signed else 0, 1, steps), signed)).astype(np.uint8)


def overlay(picture: np.ndarray, values: np.ndarray, top: float, look: Look, signed: bool = False) -> np.ndarray:
    """The image with its heat map.

    Args:
        image: `(H, W, 3)`, uint8.
        values: the attribution map, `(h, w)`; it is enlarged to the image.
        top: the value at the top of the scale.
        look: colours, opacity and threshold.
        signed: whether the scale goes from -top to top.

    Returns:
        `(H, W, 3)`, uint8.
    """
    fraction = np.zeros(picture.shape[:2])
    if top > 0:
        fraction = np.clip(bilinear(values, *picture.shape[:2]) / top, -1 if signed else 0, 1)
    weight = look.weight(fraction)[..., None]
    blended = picture * (1 - weight) + 255 * colors(look, fraction, signed) * weight
    return np.rint(blended).astype(np.uint8)


def enlarged(picture: np.ndarray) -> np.ndarray:
    """A small image with each pixel as a square of several, so that the map over it is smooth as on a page."""
    times = max(1, LEAST_PIXELS // min(picture.shape[:2]))
    return picture.repeat(times, axis=0).repeat(times, axis=1)


def data_uri(picture: np.ndarray) -> str:
    """An image, `(H, W, 3)` uint8, as the JPEG data URI that a page or a Plotly figure can show."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def percent(probability: float) -> str:
    """A probability as a short percentage: "93 %", "99.7 %", "4.2 %", "<0.1 %"."""
    value = 100 * probability
    if value < 0.05:
        return f"<0.1{NO_BREAK}%"
    digits = 1 if value < 9.95 or 99.5 <= value < 99.95 else 0
    return f"{value:.{digits}f}{NO_BREAK}%"


def shorten(text: str, length: int = 40) -> str:
    """A name of at most `length` characters; of a longer one the middle gives way to an ellipsis."""
    if len(text) <= length:
        return text
    front = length // 2
    return f"{text[:front]}…{text[front + 1 - length :]}"


def wrap(text: str, width: int) -> list[str]:
    """The text in lines of at most `width` columns, nothing left out; a Chinese character takes two columns.

    It breaks at spaces, then after `_ - . / ,`, and inside a word only where a part is longer than a line.
    """
    text = re.sub(r"[\t\r\n]+", " ", text)
    # A part is what ends in spaces or in one of the marks; a no-break space ends none, nor does the point of a number.
    parts = re.findall(r"(?:[^ _\-./,]|(?<=\d)[.,](?=\d))*(?:[_\-./,]+ *| +|$)", text)
    lines = [""]
    for part in parts:
        if _columns((lines[-1] + part).rstrip()) > width and lines[-1].strip():
            lines.append("")
        for character in part:
            if _columns(lines[-1] + character.rstrip()) > width:
                lines.append("")
            lines[-1] += character
    return [line.strip(" ") for line in lines if line.strip()]


def _columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
