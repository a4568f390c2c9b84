"""The grid of heat maps as data for the browser's viewer, and as an HTML fragment that holds everything it needs.

The viewer (`viewer/*.js`, `viewer.css`) colours the maps in the browser. So opacity, threshold, colour map and scale
follow the hand, and the payload is sent once per explanation.
"""

import base64
import hashlib
import json
import re
from dataclasses import asdict, dataclass
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np

from swin_core.attribution.explanation import Explanation
from swin_core.attribution.occlusion import FILLS
from swin_core.attribution.overlay import COLORMAPS, Look, bar_colors, is_fine, scale_top
from swin_core.attribution.regions import Region
from swin_core.attribution.strokes import Strokes
from swin_core.class_names import candidates
from swin_core.figures.cell_image import cell_overlay
from swin_core.figures.grid import Cell, Grid, MapCell, MapGrid, Row
from swin_core.images.data_uri import image_uri
from swin_core.system.cache import LRUCache

SCRIPTS = ("maps.js", "brush.js", "controls.js", "cells.js", "drawing.js", "heads.js", "viewer.js")
"""Modules of the viewer, each before those that import it."""
_EXPORT = re.compile(r"^export (?:async )?(?:function|class|const) (\w+)", re.MULTILINE)
SMALL_PIXELS = 64
"""Images of at most this side are sent with every pixel as it is."""
CLASSES = 3
"""Most probable classes that stand under a map."""

_WHOLE = [0.0, 0.0, 1.0, 1.0]
"""The region of a cell that shows its row's whole image."""

Json = dict[str, Any]


@dataclass(frozen=True)
class _Encoded:
    """An image as a data URI."""

    digest: str
    source: str
    width: int
    height: int


# A page sends the same explanations again and again.
_crops: WeakKeyDictionary[Explanation, _Encoded] = WeakKeyDictionary()
_thumbnails: LRUCache[_Encoded] = LRUCache(256)
_maps: WeakKeyDictionary[Explanation, dict[tuple[int, int], tuple[str, Json]]] = WeakKeyDictionary()
"""Digest and payload of the maps of an explanation, by target and layer."""


def _encode(image: np.ndarray, digest: str) -> _Encoded:
    # JPEG is coarse where each pixel is enlarged.
    kind: Literal["JPEG", "PNG"] = "PNG" if max(image.shape[:2]) <= SMALL_PIXELS else "JPEG"
    return _Encoded(digest, image_uri(image, kind), image.shape[1], image.shape[0])


def _digest(array: np.ndarray) -> str:
    content = hashlib.blake2b(str(array.shape).encode(), digest_size=8)
    content.update(array.tobytes())
    return content.hexdigest()


def _crop(explanation: Explanation) -> _Encoded:
    if explanation not in _crops:
        _crops[explanation] = _encode(explanation.image, _digest(explanation.image))
    return _crops[explanation]


def _encoded_map(cell: Cell) -> tuple[str, Json]:
    """Return digest and payload of a cell's map, which it must have."""
    assert cell.explanation is not None
    assert cell.map is not None
    known, place = _maps.setdefault(cell.explanation, {}), (cell.target, cell.layer)
    if place not in known:
        known[place] = _digest(cell.map), map_payload(cell.map)
    return known[place]


def _thumbnail(image: np.ndarray) -> _Encoded:
    digest = _digest(image)
    return _thumbnails.get(digest, lambda: _encode(image, digest))


class _Images:
    """Images of a payload, each once."""

    def __init__(self) -> None:
        self.sources: list[Json] = []
        self._known: dict[str, int] = {}

    def add(self, image: _Encoded) -> int:
        """Return the index of an image."""
        if image.digest not in self._known:
            self._known[image.digest] = len(self.sources)
            self.sources.append({"source": image.source, "width": image.width, "height": image.height})
        return self._known[image.digest]


def viewer_payload(grid: Grid | MapGrid) -> Json:
    """Return what `mount` of `viewer.js` draws, JSON types only. Texts are not escaped: the viewer sets them as text.

    Places are fractions of the row's photo, so that the crosshair marks the same place in crops that differ.
    """
    images = _Images()
    rows = _map_rows(grid, images) if isinstance(grid, MapGrid) else _rows(grid, images)
    tops = [cell["map"]["top"] for row in rows for cell in row["cells"] if cell["map"]]
    return {
        "look": look_payload(grid.look),
        "colormaps": colormap_tables(),
        "sharedTop": max(tops, default=0.0),
        "columns": [{"title": column} for column in grid.columns],
        "rows": rows,
        "images": images.sources,
    }


def _rows(grid: Grid, images: _Images) -> list[Json]:
    rows = []
    for row in grid.rows:
        width, height = _photo_size(row)
        rows.append(
            {
                "title": row.title,
                "truth": row.truth,
                "image": images.add(_thumbnail(row.thumbnail)),
                "region": _fractions(_thumbnail_region(row), width, height),
                "brush": row.edit and brush_payload(row.edit.strokes, row.edit.fill, row.edit.keep),
                "cells": [_cell(grid, row, cell, images) for cell in row.cells],
            }
        )
    return rows


def _map_rows(grid: MapGrid, images: _Images) -> list[Json]:
    return [
        {
            "title": row.title,
            "truth": "",
            "image": None if row.image is None else images.add(_thumbnail(row.image)),
            "region": _WHOLE,
            "brush": None,
            "cells": [_map_cell(cell, grid.signed, images) for cell in row.cells],
            "marks": [asdict(mark) for mark in row.marks],
        }
        for row in grid.rows
    ]


def _map_cell(cell: MapCell, signed: bool, images: _Images) -> Json:
    if cell.image is None or cell.map is None:
        return {"image": None, "map": None, "error": cell.error}
    values = map_payload(cell.map, cell.top)
    return {
        "key": f"{_digest(cell.map)}{_digest(cell.image)}",
        "image": images.add(_thumbnail(cell.image)),
        "region": _WHOLE,
        "map": values | {"nearest": cell.nearest},
        "signed": signed,
        "empty": cell.is_empty,
        "headline": cell.headline,
        "classes": [],
        "badge": None,
        "magnitude": cell.magnitude_text,
        "notes": list(cell.notes),
        "error": "",
        "marks": [asdict(mark) for mark in cell.marks],
        "share": cell.share,
    }


def brush_payload(strokes: Strokes, fill: str, keep: bool, fault: str = "", image: str = "", time: int = 0) -> Json:
    """Return what the brush of a row shows.

    Args:
        strokes: the painted region.
        fill: what replaces it, a key of `FILLS`.
        keep: whether only the region is kept.
        fault: why the region could not be replaced, or empty.
        image: identifies the photo; strokes that the host has not answered are dropped when it changes.
        time: that of the last stroke that the host knows, as the brush sent it; 0 for none.
    """
    state = {"strokes": strokes.vectors(), "fill": fill, "keep": keep, "fault": fault, "image": image}
    return state | {"time": time, "fills": FILLS}


def look_payload(look: Look) -> Json:
    """Return a look as JSON types; `Look(**look_payload(look))` is equal to `look`."""
    return asdict(look) | {"contours": list(look.contours)}


@cache
def colormap_tables() -> dict[str, str]:
    """Return the 256 RGB colours of each colour map, and of "signed", in base64."""
    tables = {name: bar_colors(Look(name), 256) for name in COLORMAPS}
    tables["signed"] = bar_colors(Look(), 256, signed=True)
    return {name: base64.b64encode(table.tobytes()).decode() for name, table in tables.items()}


def map_payload(values: np.ndarray, top: float | None = None) -> Json:
    """Return a map, `(h, w)`, as integers with their scale: code 0 is `low`, the highest code is `high`.

    A coarse map has 16 bits, and so has one with a given top of its scale. A fine one has 8 bits, which end at the top
    of its scale, as its colours do.
    """
    low, high, bits = float(values.min()), float(values.max()), 16
    if top is None:
        top = scale_top(values)
        if is_fine(values):
            low, high, bits = max(low, -top), min(high, top), 8
    codes = np.rint((np.clip(values, low, high) - low) * ((2**bits - 1) / (high - low or 1)))
    return {
        "data": base64.b64encode(codes.astype("<u2" if bits == 16 else "u1").tobytes()).decode(),
        "bits": bits,
        "width": values.shape[1],
        "height": values.shape[0],
        "low": low,
        "high": high if high > low else low + 1.0,
        "top": top,
        "peak": float(np.abs(values).max()),
    }


def _photo_size(row: Row) -> tuple[float, float]:
    """Return width and height of a row's photo; without the photo, of what the models saw of it."""
    if row.image is not None:
        return row.image.size
    regions = [cell.explanation.region for cell in row.cells if cell.explanation is not None]
    return max((region[2] for region in regions), default=1), max((region[3] for region in regions), default=1)


def _thumbnail_region(row: Row) -> Region:
    """Return the part of the photo that a row's thumbnail shows: the middle; without the photo, what a model saw."""
    if row.image is None:
        return next((cell.explanation.region for cell in row.cells if cell.explanation is not None), (0, 0, 1, 1))
    width, height = row.image.size
    side = min(width, height)
    return (width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2


def _fractions(region: Region, width: float, height: float) -> list[float]:
    return [region[0] / width, region[1] / height, region[2] / width, region[3] / height]


def _cell(grid: Grid, row: Row, cell: Cell, images: _Images) -> Json:
    explanation = cell.explanation
    if explanation is None or cell.map is None:
        return {"image": None, "map": None, "error": cell.error}
    caption = grid.caption(row, cell)
    classifies = explanation.activation != "none"
    # The classes say what the prediction is, and the magnitude stands beside raw values only.
    apart = (caption.magnitude, caption.prediction if classifies else "")
    return {
        "key": map_key(cell),
        "image": images.add(_crop(explanation)),
        "region": _fractions(explanation.region, *_photo_size(row)),
        "map": _encoded_map(cell)[1],
        "signed": grid.signed,
        "empty": grid.is_almost_empty(cell),
        "headline": caption.headline,
        "classes": class_list(cell, row.truth, explanation.probabilities, cell.before),
        "badge": None if cell.trust is None else {"text": caption.badge, "better": cell.trust.better},
        "magnitude": caption.magnitude,
        "notes": [note for note in caption.notes if note not in apart],
        "error": "",
    }


def class_list(cell: Cell, truth: str, probabilities: np.ndarray, before: Explanation | None) -> list[Json]:
    """Return the classes under a map, the most probable first; none of a regression.

    Args:
        cell: whose model and target it is.
        truth: the image's true class, or empty.
        probabilities: `(classes,)`.
        before: of the image before a region was replaced, or None.
    """
    explanation = cell.explanation
    if explanation is None or explanation.activation == "none":
        return []
    right = candidates(explanation.labels, truth) if truth else []
    return [
        {
            "label": explanation.labels[index],
            "probability": float(probabilities[index]),
            "before": None if before is None else float(before.probabilities[index]),
            # A model without the true class is neither right nor wrong.
            "right": bool(index == right[0]) if len(right) == 1 else None,
            "explained": bool(index == explanation.targets[cell.target]),
        }
        for index in np.argsort(-probabilities, kind="stable")[:CLASSES]
    ]


def image_payload(image: np.ndarray) -> Json:
    """Return an image, `(H, W, 3)` uint8, as an entry of a payload's `images`."""
    encoded = _thumbnail(image)
    return {"source": encoded.source, "width": encoded.width, "height": encoded.height}


def map_key(cell: Cell) -> str:
    """Return a short text that identifies a cell's map and its image, so that no badge outlives its map."""
    if cell.explanation is None or cell.map is None:
        return ""
    return f"{_encoded_map(cell)[0]}{_crop(cell.explanation).digest}"


@cache
def viewer_script() -> str:
    """Return the viewer as one JavaScript module without imports, which exports what its files export.

    Each file is a function of its own, so that two may use one name.
    """
    parts, names = [], []
    for file in SCRIPTS:
        source = (files(__package__) / "viewer" / file).read_text("utf-8")
        exported = ", ".join(_EXPORT.findall(source))
        body = re.sub(r"^(import .*|export )", "", source, flags=re.MULTILINE)
        parts.append(f"const {{ {exported} }} = (() => {{\n{body}\nreturn {{ {exported} }};\n}})();\n")
        names.append(exported)
    return "".join(parts) + f"export {{ {', '.join(names)} }};\n"


@cache
def viewer_style() -> str:
    """Return the viewer's style sheet."""
    return (files(__package__) / "viewer" / "viewer.css").read_text("utf-8")


def payload_json(grid: Grid) -> str:
    """Return the payload as JSON for a script element: no text of it can end the element."""
    return json.dumps(viewer_payload(grid)).replace("<", "\\u003c")


def viewer_html(grid: Grid) -> str:
    """Return a fragment of HTML that shows the grid: style, script and payload are in it, and nothing is loaded.

    Where scripts do not run, the maps are there as images.
    """
    return (
        f'<div class="swinlens-viewer"><style>{viewer_style()}</style><div>{_still(grid)}</div>'
        f'<script type="application/json">{payload_json(grid)}</script>'
        f'<script type="module">{viewer_script()}\n{_MOUNT_ALL}</script></div>'
    )


_MOUNT_ALL = """for (const host of document.querySelectorAll(".swinlens-viewer:not([data-mounted])")) {
  host.dataset.mounted = "";
  const place = host.querySelector("div");
  place.replaceChildren();
  mount(place, JSON.parse(host.querySelector("script").textContent));
}"""
"""Several fragments may be in one page, as the outputs of a notebook; each script mounts those that are not yet."""


def _still(grid: Grid) -> str:
    """Return the heat maps as images with captions, drawn by the server."""
    figures = []
    for row in grid.rows:
        for column, cell in zip(grid.columns, row.cells, strict=True):
            if cell.explanation is None:
                figures.append(f"<figure><figcaption>{escape(f'{column}: {cell.error}')}</figcaption></figure>")
                continue
            words = escape(f"{column} on {row.title}: {grid.caption(row, cell).headline}")
            source = image_uri(cell_overlay(grid, row, cell), "PNG")
            figures.append(
                '<figure style="display:inline-block;margin:4px;max-width:256px">'
                f'<img alt="{words}" src="{source}" width="256"><figcaption>{words}</figcaption></figure>'
            )
    return "".join(figures)


def explanation_html(explanation: Explanation) -> str:
    """Return the fragment of an explanation: the maps of all targets and layers beside the image."""
    pairs = [(k, layer) for k in range(len(explanation.targets)) for layer in range(len(explanation.layers))]
    columns = tuple(f"{explanation.label(k)} at {explanation.layers[layer]}" for k, layer in pairs)
    cells = [Cell(explanation, k, layer, note=explanation.method) for k, layer in pairs]
    return viewer_html(Grid((Row(explanation.model, explanation.image, cells),), columns))
