"""Draw the two sample images that are made here and not photographed: `tulip.jpg` and `rose.jpg`.

A flower is a stack of petals, painted from back to front over a blurred background. Each petal is a filled
outline, shaded from its base to its rim and darkened along its edge. The seeds are fixed, so a second run
draws the same pixels.

    python assets/samples/draw_flowers.py
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

SIZE = 480  # pixels, of the square image
OVERSAMPLING = 2  # drawn larger, then reduced, so that outlines are smooth

Canvas = np.ndarray  # (SIZE * OVERSAMPLING, SIZE * OVERSAMPLING, 3), float, 0 to 1
Colour = tuple[float, float, float]


def grid() -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of each pixel: x to the right and y downwards, both from -1 to 1."""
    line = np.linspace(-1, 1, SIZE * OVERSAMPLING)
    x, y = np.meshgrid(line, line)
    return x, y


def meadow(rng: np.random.Generator, top: Colour, bottom: Colour) -> Canvas:
    """A background out of focus: a vertical gradient with soft spots of light and shade."""
    x, y = grid()
    blend = ((y + 1) / 2)[..., None]
    canvas = (1 - blend) * np.array(top) + blend * np.array(bottom)
    for _ in range(40):
        centre_x, centre_y = rng.uniform(-1.2, 1.2, 2)
        radius, strength = rng.uniform(0.1, 0.4), rng.uniform(-0.12, 0.12)
        canvas += strength * np.exp(-((x - centre_x) ** 2 + (y - centre_y) ** 2) / radius**2)[..., None]
    return canvas


def paint(canvas: Canvas, inside: np.ndarray, colour: np.ndarray) -> None:
    """Lay `colour` (H, W, 3) over `canvas` with the coverage `inside` (H, W), 0 to 1."""
    cover = np.clip(inside, 0, 1)[..., None]
    canvas *= 1 - cover
    canvas += cover * colour


def petal(
    canvas: Canvas,
    base: tuple[float, float],
    angle: float,
    length: float,
    width: float,
    dark: Colour,
    light: Colour,
    bend: float = 0.0,
) -> None:
    """Paint one petal that starts at `base` and points to `angle` (radians, 0 is upwards).

    `length`, `width` (half of the petal's) and `bend` (of the tip, to the side) are in half images.
    """
    x, y = grid()
    dx, dy = x - base[0], y - base[1]
    along = (-dy * np.cos(angle) + dx * np.sin(angle)) / length  # 0 at the base, 1 at the tip
    across = dx * np.cos(angle) + dy * np.sin(angle) - bend * np.clip(along, 0, 1) ** 2
    position = np.clip(along, 0, 1)
    half_width = width * np.sin(np.pi * position**0.8) ** 0.6 + 1e-6
    offset = np.abs(across) / half_width
    inside = np.clip((1 - offset) * half_width * SIZE / 3, 0, 1) * ((along > 0) & (along < 1))
    veins = 0.04 * np.sin(34 * across / width) * position
    shade = np.clip(0.25 + 0.75 * position - 0.45 * offset**3 + veins, 0, 1)[..., None]
    paint(canvas, inside, (1 - shade) * np.array(dark) + shade * np.array(light))


def stem(canvas: Canvas, x0: float, top: float, width: float) -> None:
    """A green stem from `top` to the lower edge, slightly bent, lit from the left."""
    x, y = grid()
    offset = (x - x0 - 0.06 * np.clip(y - top, 0, None) ** 2) / width
    inside = (np.abs(offset) < 1) & (y > top)
    shade = np.clip(0.6 - 0.4 * offset, 0, 1)[..., None]
    paint(canvas, inside.astype(float), shade * np.array([0.42, 0.62, 0.25]))


def tulip() -> Canvas:
    """A red tulip with yellow at its base, from the side, with two leaves."""
    canvas = meadow(np.random.default_rng(1), (0.62, 0.74, 0.78), (0.24, 0.42, 0.18))
    green, pale = (0.10, 0.28, 0.08), (0.45, 0.66, 0.30)
    stem(canvas, 0.0, 0.15, 0.035)
    petal(canvas, (0.03, 1.05), 0.42, 1.25, 0.11, green, pale, bend=0.12)
    petal(canvas, (0.03, 1.05), -0.50, 1.15, 0.12, green, pale, bend=-0.10)
    dark, light = (0.55, 0.04, 0.06), (0.92, 0.20, 0.16)
    for angle, length, width, bend in (
        (-0.16, 0.98, 0.20, -0.06),
        (0.18, 0.98, 0.20, 0.06),
        (0.0, 1.02, 0.20, 0.0),
        (-0.30, 0.96, 0.24, 0.13),
        (0.30, 0.96, 0.24, -0.13),
        (0.0, 0.92, 0.27, 0.0),
    ):
        petal(canvas, (0.0, 0.28), angle, length, width, dark, light, bend)
    x, y = grid()
    glow = np.exp(-(x**2 + (y - 0.24) ** 2) / 0.012)[..., None]
    inside = ((canvas[..., 0] > 0.5) & (canvas[..., 1] < 0.3)).astype(float)
    paint(canvas, 0.6 * inside * glow[..., 0], np.ones_like(canvas) * np.array([0.95, 0.75, 0.20]))
    return canvas


def rose() -> Canvas:
    """A pink rose from above: rings of round petals, each ring smaller and turned by the golden angle."""
    rng = np.random.default_rng(2)
    canvas = meadow(rng, (0.16, 0.30, 0.14), (0.08, 0.18, 0.08))
    green, pale = (0.05, 0.16, 0.05), (0.26, 0.46, 0.20)
    for angle in (0.5, 1.7, 2.9, 4.2, 5.4):
        petal(canvas, (0.0, 0.0), angle, 0.98, 0.24, green, pale)
    x, y = grid()
    count, golden = 34, np.pi * (3 - 5**0.5)
    for k in range(count):
        ring = 1 - k / count  # 1 outside, near 0 in the middle
        distance, radius = 0.42 * ring**0.9, 0.12 + 0.24 * ring
        angle = k * golden + rng.uniform(-0.15, 0.15)
        dx, dy = x - distance * np.cos(angle), y - distance * np.sin(angle)
        outward = (dx * np.cos(angle) + dy * np.sin(angle)) / radius
        spread = np.hypot(dx, dy) / radius * (1 + 0.05 * np.sin(3 * np.arctan2(dy, dx) + k))
        inside = np.clip((1 - spread) * radius * SIZE / 3, 0, 1)
        # The rim of a petal catches the light; its inner side lies in the shadow of the next ring.
        shade = np.clip(0.40 + 0.35 * outward + 0.25 * spread**4 + 0.10 * (1 - ring), 0, 1)[..., None]
        paint(canvas, inside, (1 - shade) * np.array([0.52, 0.05, 0.17]) + shade * np.array([0.98, 0.62, 0.70]))
    return canvas


def save(draw: Callable[[], Canvas], path: Path) -> None:
    """Reduce the drawing to SIZE pixels and write it as a JPEG without metadata."""
    pixels = (np.clip(draw(), 0, 1) * 255).round().astype(np.uint8)
    picture = Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(1)).resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    picture.save(path, "JPEG", quality=90, optimize=True)


if __name__ == "__main__":
    folder = Path(__file__).resolve().parent
    save(tulip, folder / "tulip.jpg")
    save(rose, folder / "rose.jpg")
