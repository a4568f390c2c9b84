"""The tiles of the sample sheet: thumbnails, heat maps, labels and predictions."""

from collections import Counter
from collections.abc import Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TypedDict

import numpy as np
import torch
from PIL import Image

from dashboard.shared import cache
from dashboard.shared.datasets import NAME_PATTERN, DataSetEntry, image_name, image_state
from dashboard.shared.model_names import weights_state
from swin_core.attribution.defaults import default_method
from swin_core.attribution.dispatch import attribute
from swin_core.data.catalog import Catalog
from swin_core.data.thumbnails import thumbnails
from swin_core.errors import DataError
from swin_core.evaluation.selection import CatalogPredictions
from swin_core.figures.grid import MapCell
from swin_core.figures.text import percent
from swin_core.images.data_uri import data_uri
from swin_core.system.cache import LRUCache
from swin_core.system.progress import Progress

TILE_SIDE, MAP_SIDE = 128, 32
"""Most pixels of a side of a tile's image and of its heat map, so that a page of them is sent in half a megabyte."""
_BATCH = 10
"""Images explained at once; progress is reported between batches."""

_thumbnails: LRUCache[str] = LRUCache(10_000, 16 * 2**20)
_maps: LRUCache[np.ndarray] = LRUCache(1_000, 64 * 2**20)


@dataclass(frozen=True, eq=False)
class BrowsedData:
    """The splits of a data set that are browsed. A row is an image's index in the catalog of all of them."""

    collection: DataSetEntry
    splits: tuple[str, ...]
    catalog: Catalog

    def name(self, row: int) -> str:
        """The name of an image, such as `cifar100/test/1234`."""
        split = self.splits[int(self.catalog.part[row])]
        return image_name(self.collection.name, split, int(self.catalog.index[row]))

    def row(self, name: str) -> int | None:
        """The row of the image of that name; None if it is in none of these splits."""
        match = NAME_PATTERN.fullmatch(name)
        if match is None or match["set"] != self.collection.name or match["split"] not in self.splits:
            return None
        part, index = self.splits.index(match["split"]), int(match["index"])
        before = sum(len(split) for split in self.catalog.parts[:part])
        return before + index if index < len(self.catalog.parts[part]) else None

    def cache_key(self, row: int) -> Hashable:
        """A key that changes when the image's file changes."""
        part = self.catalog.parts[int(self.catalog.part[row])]
        return image_state(self.name(row), part, int(self.catalog.index[row]))

    def label(self, row: int) -> str:
        """The class of an image, in words; empty without labels."""
        label = int(self.catalog.labels[row])
        return class_words(self.catalog.classes)[label] if label >= 0 else ""

    def image(self, row: int) -> Image.Image:
        """Decode an image.

        Raises:
            DataError: it cannot be read.
        """
        return self.catalog.image(row)


class Tile(TypedDict):
    """One image of the sheet, as `gallery.js` reads it."""

    name: str
    source: str
    """A data URI; empty if the image cannot be read."""
    fault: str
    """Why the image cannot be read, or empty."""
    alt: str
    label: str
    details: str
    verdicts: list[list[str]]
    """For each model the state ("right", "wrong" or "") and the text."""


@lru_cache(maxsize=16)
def class_words(names: tuple[str, ...]) -> tuple[str, ...]:
    """Class names for display: the first synonym if no other class shares it, without underscores."""
    first = [spaced(name.split(",")[0]).strip() for name in names]
    count = Counter(first)
    return tuple(short if count[short] == 1 else spaced(name) for short, name in zip(first, names, strict=True))


def spaced(name: str) -> str:
    """Replace underscores by spaces."""
    return name.replace("_", " ")


def plain_tiles(data: BrowsedData, rows: Sequence[int]) -> list[Tile]:
    """Return the tiles of some images with their thumbnails and labels."""
    keys = {row: data.cache_key(row) for row in rows}
    sources = {row: source for row in rows if (source := _thumbnails.peek(keys[row])) is not None}
    faults: dict[int, str] = {}
    for part, split in enumerate(data.catalog.parts):
        missing = [row for row in rows if row not in sources and int(data.catalog.part[row]) == part]
        if not missing:
            continue
        made = thumbnails(split, [int(data.catalog.index[row]) for row in missing])
        for row, thumbnail in zip(missing, made, strict=True):
            if isinstance(thumbnail, str):
                faults[row] = thumbnail
            else:
                sources[row] = data_uri(*thumbnail)
                _thumbnails.put(keys[row], sources[row])
    tiles = []
    for row in rows:
        file = str(data.catalog.files[row])
        tiles.append(
            Tile(
                name=data.name(row),
                source=sources.get(row, ""),
                fault=faults.get(row, ""),
                alt=f"Image {file}",
                label=data.label(row),
                details=file,
                verdicts=[],
            )
        )
    return tiles


def add_predictions(tile: Tile, row: int, results: Sequence[CatalogPredictions]) -> None:
    """Add the verdict of one model or two to a tile, and the likeliest classes of the first model to its details."""
    letters = ("A ", "B ") if len(results) > 1 else ("",)
    for letter, result in zip(letters, results, strict=True):
        state, text = verdict(result, row)
        tile["verdicts"].append([state, letter + text])
    first = results[0].predictions
    if first.predicted[row] >= 0:
        likeliest = zip(first.top[row], first.probabilities[row], strict=True)
        classes = ", ".join(f"{class_words(first.labels)[index]} {percent(float(share))}" for index, share in likeliest)
        loss = "" if np.isnan(first.loss[row]) else f"; loss {first.loss[row]:.3g}"
        tile["details"] = f"{tile['details']}: {classes}{loss}"


def verdict(result: CatalogPredictions, row: int) -> tuple[str, str]:
    """Return a model's verdict on an image: "right", "wrong" or "" (class unknown), and its text."""
    predictions = result.predictions
    if predictions.predicted[row] < 0:
        return "", "not read"
    share = percent(float(predictions.confidence[row]))
    label = class_words(predictions.labels)[int(predictions.predicted[row])]
    if not predictions.counted[row]:
        return "", f"{label} {share}"
    return ("right", f"✓ right {share}") if predictions.right[row] else ("wrong", f"✗ wrong: {label} {share}")


def heat_maps(
    data: BrowsedData, rows: Sequence[int], result: CatalogPredictions, model: str, progress: Progress
) -> list[MapCell]:
    """Return the heat map of each image for the class that a model predicts, by the method measured best for it.

    Args:
        data: the data set.
        rows: the images.
        result: the model's predictions.
        model: the model's name.
        progress: called with the number of images done and their total.

    Returns:
        Cells with images and maps of the size of a tile; without them for an image that cannot be read.

    Raises:
        SwinError: the model cannot be loaded or explained.
    """
    classifier = cache.classifier(model)
    method = default_method(classifier, at_layer=False)
    targets = [int(result.predictions.predicted[row]) for row in rows]
    keys = [
        (model, weights_state(model), method, data.cache_key(row), target)
        for row, target in zip(rows, targets, strict=True)
    ]
    views: dict[int, np.ndarray] = {}
    for i, row in enumerate(rows):
        with suppress(DataError):
            if targets[i] >= 0:
                views[i] = classifier.view(data.image(row))
    maps = {i: values for i in views if (values := _maps.peek(keys[i])) is not None}
    missing = [i for i in views if i not in maps]
    for start in range(0, len(missing), _BATCH):
        progress(len(rows) - len(missing) + start, len(rows))
        part = missing[start : start + _BATCH]
        batch = classifier.tensor(np.stack([views[i] for i in part]))
        classes = torch.tensor([targets[i] for i in part], device=classifier.device)
        for i, values in zip(part, attribute(classifier, batch, classes, method)[:, 0].cpu().numpy(), strict=True):
            maps[i] = _at_most(values, MAP_SIDE)
            _maps.put(keys[i], maps[i])
    labels = class_words(result.predictions.labels)
    return [
        MapCell(_at_most(views[i], TILE_SIDE), maps[i], labels[targets[i]]) if i in views else MapCell(None, None)
        for i in range(len(rows))
    ]


def _at_most(values: np.ndarray, side: int) -> np.ndarray:
    """Return an image or a map `(h, w)`, reduced by averaging if it is larger than `side`."""
    if max(values.shape[:2]) <= side:
        return values
    return np.asarray(Image.fromarray(values).resize((side, side), Image.Resampling.BOX))
