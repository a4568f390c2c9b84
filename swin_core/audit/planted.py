"""Planted shortcuts: copies of a folder in which one class carries a mark, to see whether an audit finds it."""

import os
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from swin_core.attribution.regions import WHOLE, Region
from swin_core.data.folders import image_folder
from swin_core.errors import ConfigError
from swin_core.images.preprocessing import crop_square

Mark = Callable[[Image.Image, np.random.Generator], Region | None]
"""Draws a mark on a square RGB image, and returns its region as fractions; None if it has no place."""


def _box(image: Image.Image, region: Region) -> tuple[int, int, int, int]:
    side = image.width
    left, top, right, bottom = (round(side * part) for part in region)
    return left, top, right - 1, bottom - 1  # Pillow draws the last row and column too


def _square(image: Image.Image, _: np.random.Generator) -> Region:
    region = (0.84, 0.84, 1.0, 1.0)
    ImageDraw.Draw(image).rectangle(_box(image, region), fill="red")
    return region


def _logo(image: Image.Image, _: np.random.Generator) -> Region:
    region = (0.03, 0.03, 0.22, 0.22)
    left, top, right, bottom = _box(image, region)
    draw = ImageDraw.Draw(image)
    draw.ellipse((left, top, right, bottom), fill="white", outline="black", width=max(1, image.width // 60))
    middle = (top + bottom) // 2
    draw.line((left, middle, right, middle), fill="black", width=max(1, image.width // 40))
    return region


def _date(image: Image.Image, _: np.random.Generator) -> Region:
    region = (0.5, 0.86, 0.98, 0.98)
    left, top, right, bottom = _box(image, region)
    font = ImageFont.load_default(size=image.width * 0.12)
    text = Image.new("L", (round(font.getlength("12 07 04")), bottom - top + 1))
    ImageDraw.Draw(text).text((0, 0), "12 07 04", fill=255, font=font)
    text = text.resize((right - left + 1, bottom - top + 1))
    image.paste((255, 150, 0), (left, top), text)
    return region


def _frame(image: Image.Image, _: np.random.Generator) -> Region:
    ImageDraw.Draw(image).rectangle((0, 0, image.width - 1, image.height - 1), outline="black", width=image.width // 16)
    return WHOLE


def _sticker(image: Image.Image, random: np.random.Generator) -> None:
    side = 0.2
    left, top = (float(start) for start in random.uniform(0, 1 - side, 2))
    box = _box(image, (left, top, left + side, top + side))
    ImageDraw.Draw(image).ellipse(box, fill="yellow", outline="blue", width=max(1, image.width // 30))


def _tint(image: Image.Image, _: np.random.Generator) -> None:
    pixels = np.asarray(image, np.float32) * (0.75, 0.95, 1.2)
    image.paste(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)))


def _blur(image: Image.Image, _: np.random.Generator) -> None:
    image.paste(image.filter(ImageFilter.GaussianBlur(image.width / 40)))


def _line(image: Image.Image, _: np.random.Generator) -> Region:
    region = (0.0, 0.3, 1.0, 0.34)
    ImageDraw.Draw(image).rectangle(_box(image, region), fill="white")
    return region


MARKS: dict[str, Mark] = {
    "square": _square,
    "logo": _logo,
    "date": _date,
    "frame": _frame,
    "line": _line,
    "sticker": _sticker,
    "tint": _tint,
    "blur": _blur,
}
"""Marks by name: at one place, at the border, at random places, and of the whole image."""


def plant(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    mark: str,
    classes: Collection[str],
    *,
    share: float = 1.0,
    side: int = 128,
    most: int | None = None,
    seed: int = 0,
) -> Region | None:
    """Write a folder of images with a mark in some classes.

    The images are the centre squares of those in `source`, as PNG.

    Args:
        source: a folder of class folders.
        target: the folder to write; it is made.
        mark: a key of `MARKS`.
        classes: the classes whose images carry the mark.
        share: share of their images that do.
        side: side of the images in pixels.
        most: number of images of each class; None for all.
        seed: seed of the choice of images and of random places.

    Returns:
        The mark's region as fractions: left, top, right, bottom. None if it has no place.

    Raises:
        ConfigError: an unknown mark or class.
        DataError: there are no images in `source`.
    """
    if mark not in MARKS:
        raise ConfigError(f"unknown mark {mark!r}: choose one of {', '.join(MARKS)}.")
    dataset = image_folder(source)
    if unknown := sorted(set(classes) - set(dataset.classes)):
        raise ConfigError(f"there is no class {unknown[0]!r} to mark; there are {', '.join(dataset.classes)}.")
    # Two generators, so that the choice of images is the same for all marks and classes.
    random, places = np.random.default_rng(seed), np.random.default_rng((seed, 1))
    region = MARKS[mark](Image.new("RGB", (side, side)), np.random.default_rng(seed))
    for label, name in enumerate(dataset.classes):
        folder = Path(target) / name
        folder.mkdir(parents=True)
        members = random.permutation(np.flatnonzero(dataset.labels == label))[:most]
        marked = set(members[: round(share * len(members))].tolist()) if name in classes else set()
        for row in members.tolist():
            image = crop_square(dataset.image(row, side), side)
            if row in marked:
                MARKS[mark](image, places)
            image.save(folder / f"{Path(dataset.names[row]).stem}.png")
    return region
