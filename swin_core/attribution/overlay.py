"""Draw attribution maps over images: colour maps, opacity and scale."""

import re
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from swin_core.attribution.contours import contour_lines, with_lines
from swin_core.attribution.regions import bilinear
from swin_core.errors import ConfigError

COLORMAPS = ("viridis", "cividis", "inferno", "magma")
"""Perceptually uniform colour maps of rising lightness, readable with colour blindness and in grey print."""

SIGNED_COLORMAP = LinearSegmentedColormap.from_list(
    "against and for",
    [(0.0, "#08306B"), (0.3, "#0F5EA8"), (0.5, "#8C8C8C"), (0.7, "#E69F00"), (1.0, "#FFC933")],
)
"""Colour map of signed maps: blue lowers the score, orange raises it. Lightness rises here too, so that grey print
keeps the two apart; the grey middle is transparent in an overlay."""

SCALES = ("shared", "cell")
"""One scale for all cells of a grid, or one for each cell."""

LEAST_PIXELS = 256
"""Images with a shorter side are enlarged before a map is drawn over them."""

CONTOURS_AT_MOST = 10
_WIPE = re.compile(r"image|[0-9]{0,2}", re.ASCII)

FINE = 16
"""Maps of at least this side may have a few outliers far above the rest; these do not set the scale."""


@dataclass(frozen=True)
class Look:
    """How a map is drawn over its image.

    The weight of the colour is `opacity * v` where the map is the fraction v of its scale, and 0 where v is below
    `threshold`: a low value leaves the image as it is instead of tinting it with the lowest colour.
    """

    colormap: str = "viridis"
    opacity: float = 0.8
    """Weight of the colour at the top of the scale, in [0, 1]."""
    threshold: float = 0.0
    """Fraction of the scale below which the image is left as it is, in [0, 1)."""
    scale: str = "cell"
    """One of `SCALES`: from 0 to the largest value of all cells, or of each cell. Magnitudes compare only within one
    model and layer, so each cell has its own scale by default."""
    contours: tuple[float, ...] = ()
    """Fractions of the scale at which lines are drawn, in (0, 1], at most `CONTOURS_AT_MOST`; on both sides of 0 where
    maps are signed."""
    wipe: str = ""
    """What lies right of a line across each map: "image" for the image without its map, the number of a column,
    counted from 0, for that one's map, or nothing."""
    split: float = 0.5
    """Place of that line, a fraction of the width."""
    image: bool = True
    """Whether the image is seen below the map; else it is white."""
    raw: bool = False
    """Whether captions name the map's largest value and the layer's exact name."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "contours", tuple(self.contours))
        if self.colormap not in COLORMAPS:
            raise ConfigError(f"unknown colour map {self.colormap!r}: choose one of {', '.join(COLORMAPS)}.")
        if self.scale not in SCALES:
            raise ConfigError(f"unknown scale {self.scale!r}: choose one of {', '.join(SCALES)}.")
        if not 0 <= self.opacity <= 1:
            raise ConfigError(f"opacity {self.opacity} is outside 0 to 1.")
        if not 0 <= self.threshold < 1:
            raise ConfigError(f"threshold {self.threshold} is outside 0 to 1, 1 excluded.")
        if len(self.contours) > CONTOURS_AT_MOST or not all(0 < level <= 1 for level in self.contours):
            raise ConfigError(f"contour lines are up to {CONTOURS_AT_MOST} shares of the scale, above 0 and up to 1.")
        if not _WIPE.fullmatch(self.wipe):
            raise ConfigError(f"the wipe {self.wipe!r} is neither image nor the number of a column.")
        if not 0 <= self.split <= 1:
            raise ConfigError(f"the wipe's line at {self.split} is outside 0 to 1.")
        if not (isinstance(self.image, bool) and isinstance(self.raw, bool)):
            raise ConfigError("whether the image and raw values are shown is true or false.")

    def weight(self, fraction: np.ndarray) -> np.ndarray:
        """Return the weight of the colour, in [0, 1], for fractions of the scale in [-1, 1] of any shape."""
        return np.where(np.abs(fraction) < self.threshold, 0.0, self.opacity * np.abs(fraction))


def is_fine(values: np.ndarray) -> bool:
    """Return whether a map `(h, w)` is so fine that a few pixels may be far above the rest."""
    return max(values.shape) >= FINE


def scale_top(values: np.ndarray) -> float:
    """Return the top of a map's own scale: its largest magnitude, or the 99th percentile of a fine map's `(h, w)`."""
    magnitudes = np.abs(values)
    largest = float(magnitudes.max())
    return float(np.percentile(magnitudes, 99)) or largest if is_fine(values) else largest


def colors(look: Look, fraction: np.ndarray, signed: bool) -> np.ndarray:
    """Return the RGB colours `(..., 3)`, in [0, 1], of fractions of the scale.

    Fractions are 0 to 1, or -1 to 1 for signed maps, which use `SIGNED_COLORMAP` instead of the look's colour map.
    """
    if signed:
        return SIGNED_COLORMAP((fraction + 1) / 2)[..., :3]
    return matplotlib.colormaps[look.colormap](fraction)[..., :3]


def bar_colors(look: Look, steps: int, signed: bool = False) -> np.ndarray:
    """Return the look's opaque colours from the bottom to the top of the scale, `(steps, 3)` uint8."""
    return np.rint(255 * colors(look, np.linspace(-1 if signed else 0, 1, steps), signed)).astype(np.uint8)


def overlay(image: np.ndarray, values: np.ndarray, top: float, look: Look, signed: bool = False) -> np.ndarray:
    """Return an image with an attribution map drawn over it, `(H, W, 3)` uint8.

    Args:
        image: `(H, W, 3)`, uint8.
        values: the attribution map, `(h, w)`; it is resized to the image.
        top: the value at the top of the scale.
        look: colours, opacity, threshold and contour lines.
        signed: whether the scale goes from -top to top.
    """
    if not look.image:
        image = np.full_like(image, 255)
    fraction = np.zeros(image.shape[:2])
    if top > 0:
        fraction = np.clip(bilinear(values, *image.shape[:2]) / top, -1 if signed else 0, 1)
    weight = look.weight(fraction)[..., None]
    blended = np.rint(image * (1 - weight) + 255 * colors(look, fraction, signed) * weight).astype(np.uint8)
    levels = [side * level * top for level in look.contours for side in ((1, -1) if signed else (1,))]
    return with_lines(blended, contour_lines(values, levels)) if top > 0 else blended


def enlarged(image: np.ndarray) -> np.ndarray:
    """Return a small image with each pixel repeated, so that a map drawn over it is smooth."""
    times = max(1, LEAST_PIXELS // min(image.shape[:2]))
    return image.repeat(times, axis=0).repeat(times, axis=1)


def grey(image: np.ndarray) -> np.ndarray:
    """Return an image, `(H, W, 3)` uint8, without its colours, as the browser's `grayscale(1)` does."""
    luminance = np.rint(image @ np.array([0.2126, 0.7152, 0.0722])).astype(np.uint8)
    return np.repeat(luminance[..., None], 3, axis=-1)
