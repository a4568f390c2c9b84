"""The tiles of a sheet: small images, heat maps and words, each made once and held up to a count."""

import base64
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from PIL import Image

from dashboard.shared import cache
from dashboard.shared.datasets import NAME_PATTERN, DataSetEntry, image_name, image_state
from swin_core.attribution.defaults import default_method
from swin_core.attribution.dispatch import attribute
from swin_core.attribution.overlay import Look, overlay, scale_top
from swin_core.data.catalog import Catalog
from swin_core.data.thumbnails import SIDE, encode, thumbnails
from swin_core.errors import DataError
from swin_core.evaluation.selection import CatalogPredictions
from swin_core.figures.text import percent
from swin_core.system.cache import LRUCache

__all__ = ["Shown", "Tile", "heat_maps", "in_words", "plain_tiles", "spaced", "verdict", "with_words"]

_BATCH = 10
"""Images explained at once: between two batches the page says how far it is."""

_thumbs: LRUCache[str] = LRUCache(10_000, size=len, most_bytes=16 * 2**20)
_maps: LRUCache[np.ndarray] = LRUCache(1_000)


@dataclass(frozen=True, eq=False)
class Shown:
    """A data set's splits that are browsed."""

    collection: DataSetEntry
    splits: tuple[str, ...]
    catalog: Catalog

    def name(self, row: int) -> str:
        """The name of the image in a row, as in `cifar100/test/1234`."""
        split = self.splits[int(self.catalog.part[row])]
        return image_name(self.collection.name, split, int(self.catalog.index[row]))

    def row(self, name: str) -> int | None:
        """The row of the image of that name, or None if it is of other splits."""
        found = NAME_PATTERN.fullmatch(name)
        if found is None or found["set"] != self.collection.name or found["split"] not in self.splits:
            return None
        part, index = self.splits.index(found["split"]), int(found["index"])
        before = sum(len(one) for one in self.catalog.parts[:part])
        return before + index if index < len(self.catalog.parts[part]) else None

    def state(self, row: int) -> Hashable:
        """What its thumbnail is known by."""
        part = self.catalog.parts[int(self.catalog.part[row])]
        return image_state(self.name(row), part, int(self.catalog.index[row]))

    def truth(self, row: int) -> str:
        """The class of the image in a row, in words."""
        return in_words(self.catalog.classes)[int(self.catalog.labels[row])]

    def image(self, row: int) -> Image.Image:
        """The image in a row.

        Raises:
            DataError: it cannot be read.
        """
        return self.catalog.parts[int(self.catalog.part[row])].image(int(self.catalog.index[row]))


Tile = dict[str, object]
"""What the sheet in the browser needs of one image."""


@lru_cache(maxsize=16)
def in_words(names: tuple[str, ...]) -> tuple[str, ...]:
    """Classes as a person reads them: of several names the first where no other class has it, without underscores."""
    first = [spaced(name.split(",")[0]).strip() for name in names]
    count = Counter(first)
    return tuple(short if count[short] == 1 else spaced(name) for short, name in zip(first, names, strict=True))


def spaced(name: str) -> str:
    """A name without underscores."""
    return name.replace("_", " ")


def plain_tiles(shown: Shown, rows: Sequence[int]) -> list[Tile]:
    """Images with their classes."""
    sources: dict[int, str] = {}
    missing: dict[int, list[int]] = {}
    states = {row: shown.state(row) for row in rows}
    for row in rows:
        held = _thumbs.peek(states[row])
        if held is not None:
            sources[row] = held
        else:
            missing.setdefault(int(shown.catalog.part[row]), []).append(row)
    for part, absent in missing.items():
        found = thumbnails(shown.catalog.parts[part], [int(shown.catalog.index[row]) for row in absent])
        for row, content in zip(absent, found, strict=True):
            # A line on why there is no image holds no colon and comma as an address of data does.
            sources[row] = content if isinstance(content, str) else _uri(*content)
            if not isinstance(content, str):
                _thumbs.put(states[row], sources[row])
    return [_tile(shown, row, sources[row]) for row in rows]


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _tile(shown: Shown, row: int, source: str) -> Tile:
    there = source.startswith("data:image/")
    file = str(shown.catalog.files[row])
    return {
        "name": shown.name(row),
        "source": source if there else "",
        "fault": "" if there else source,
        "alt": f"Image {file}",
        "label": shown.truth(row),
        "details": file,
        "verdicts": [],
        "picked": False,
    }


def with_words(tile: Tile, row: int, judgements: Sequence[tuple[str, CatalogPredictions]]) -> None:
    """Add to a tile what one model or two say about its image; the letter of each is shown if there are two."""
    for letter, judgement in judgements:
        state, words = verdict(judgement, row)
        tile["verdicts"] = [*tile["verdicts"], [state, f"{letter} {words}".strip()]]  # type: ignore[misc]
    first = judgements[0][1].predictions
    if first.predicted[row] >= 0:
        five = zip(first.top[row], first.probabilities[row], strict=True)
        listed = ", ".join(f"{in_words(first.labels)[index]} {percent(float(share))}" for index, share in five)
        loss = "" if np.isnan(first.loss[row]) else f"; loss {first.loss[row]:.3g}"
        tile["details"] = f"{tile['details']}: {listed}{loss}"


def verdict(judgement: CatalogPredictions, row: int) -> tuple[str, str]:
    """Whether a model is right about an image: "right", "wrong" or "", and that in words."""
    found = judgement.predictions
    if found.predicted[row] < 0:
        return "", "not read"
    share = percent(float(found.confidence[row]))
    label = in_words(found.labels)[int(found.predicted[row])]
    if not found.counted[row]:
        return "", f"{label} {share}"
    return ("right", f"✓ right {share}") if found.right[row] else ("wrong", f"✗ wrong: {label} {share}")


def heat_maps(
    shown: Shown,
    rows: Sequence[int],
    targets: Sequence[int],
    model: str,
    look: Look,
    progress: Callable[[int, int], None],
) -> list[str]:
    """What a model looked at in some images, each for its own class, by the best method measured for the model.

    Args:
        shown: the images.
        rows: which of them.
        targets: a class of the model for each.
        model: the model's name.
        look: colours, opacity, threshold and scale.
        progress: called with the images done and their number.

    Returns:
        The overlays as addresses of data; of an image that cannot be read a line that says why.

    Raises:
        SwinError: the model cannot be loaded or explained.
    """
    classifier = cache.classifier(model)
    method = default_method(classifier, at_layer=False)
    keys = [
        (classifier.weights_hash, method, shown.state(row), target) for row, target in zip(rows, targets, strict=True)
    ]
    views: list[np.ndarray | str] = []
    for row in rows:
        try:
            views.append(classifier.view(shown.image(row)))
        except DataError as error:
            views.append(str(error))
    held = [_maps.peek(key) for key in keys]
    absent = [place for place, values in enumerate(held) if values is None and not isinstance(views[place], str)]
    for start in range(0, len(absent), _BATCH):
        progress(len(rows) - len(absent) + start, len(rows))
        part = absent[start : start + _BATCH]
        batch = classifier.tensor(np.stack([views[place] for place in part]))
        wanted = torch.tensor([targets[place] for place in part], device=classifier.device)
        found = attribute(classifier, batch, wanted, method)[:, 0].cpu().numpy()
        for place, values in zip(part, found, strict=True):
            held[place] = values
            _maps.put(keys[place], values)
    tops = [0.0 if values is None else scale_top(values) for values in held]
    shared = max(tops, default=0.0)
    result = []
    for view, values, top in zip(views, held, tops, strict=True):
        if isinstance(view, str) or values is None:
            result.append(str(view))
        else:
            result.append(_overlaid(view, values, shared if look.scale == "shared" else top, look))
    return result


def _overlaid(view: np.ndarray, values: np.ndarray, top: float, look: Look) -> str:
    # A map has few cells: on an image of 32 pixels they would be blocks.
    picture = np.asarray(Image.fromarray(view).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    return _uri(*encode(Image.fromarray(overlay(picture, values, top, look))))
