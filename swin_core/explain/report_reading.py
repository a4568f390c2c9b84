"""A report's JSON, read with suspicion: it may be cut, edited, or made to do harm.

Nothing in it is used before its type and range are known, nothing in it is a path that is opened, and the sizes that
decide how much memory it takes are bounded.
"""

import base64
import binascii
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from PIL import Image

from swin_core.errors import ConfigError, ImageError, ReportError
from swin_core.explain.methods import METHOD_FACTS
from swin_core.explain.render import Look
from swin_core.explain.report import BYTES_AT_MOST, FORMAT, PIXELS_AT_MOST, checksum
from swin_core.images import read_image

__all__ = ["Call", "Report", "SavedCell", "SavedRow", "read_report"]

ROWS_AT_MOST, COLUMNS_AT_MOST, CLASSES_AT_MOST, LETTERS_AT_MOST = 1000, 32, 1_000_000, 10_000
SIDE_AT_MOST = 4096
"""Of a map, in cells."""
THREADS_AT_MOST = 1024


@dataclass(frozen=True)
class Call:
    """The call that made an explanation."""

    model: str
    """What the model was called."""
    weights_hash: str
    method: str
    layers: tuple[str, ...]
    fused: str
    targets: tuple[int, ...]
    against: tuple[int, ...] | None


@dataclass(frozen=True, eq=False)
class SavedCell:
    """A cell of the report."""

    error: str = ""
    """Why there is no map; the rest is then empty."""
    call: Call | None = None
    target: int = 0
    """Index into the call's targets."""
    layer: int = 0
    """Index into the layers of what the call gives."""
    note: str = ""
    map: np.ndarray | None = None
    """`(h, w)`, float32; NaN for what is not finite."""
    logits: np.ndarray | None = None
    """`(classes,)`, float32, likewise."""
    completeness: float | None = None
    trust: Mapping[str, Any] | None = None
    """As `trust_numbers` wrote it."""


@dataclass(frozen=True, eq=False)
class SavedRow:
    """A row of the report."""

    title: str
    truth: str
    picture: int | None
    """Index into the report's pictures."""
    cells: tuple[SavedCell, ...]


@dataclass(frozen=True, eq=False)
class Report:
    """A report, checked."""

    look: Look
    columns: tuple[str, ...]
    rows: tuple[SavedRow, ...]
    pictures: tuple[Image.Image, ...]
    made_with: Mapping[str, str]
    """Versions and machine, by name."""
    threads: int


def read_report(path: str | os.PathLike[str]) -> Report:
    """Read and check a report that `Grid.save` wrote as JSON.

    Raises:
        ReportError: no such file, no report, of a newer program, damaged or edited, or too large.
    """
    path = Path(path)
    content = _content(path)
    try:
        parsed = json.loads(content, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ReportError(f"{path.name} is no report or is cut short: it is not JSON; export it again.") from error
    whole = _Part(path.name, "the report", parsed)
    if whole.content.get("program") != "SwinLens":
        raise ReportError(f"{path.name} is no report of SwinLens; export one as JSON first.")
    form = whole.content.get("format")
    if form != FORMAT or isinstance(form, bool):
        raise ReportError(f"{path.name} has no format that this program reads ({FORMAT}); export it again.")
    if whole.text("sha256") != checksum(whole.content):
        raise ReportError(f"{path.name} was changed after it was written: its checksum differs; export it again.")
    return _report(whole)


def _content(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise ReportError(f"There is no file {path.name!r}: name a report that was exported as JSON.")
        with path.open("rb") as file:
            content = file.read(BYTES_AT_MOST + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with NUL
        raise ReportError(f"{path.name!r} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    if len(content) > BYTES_AT_MOST:
        raise ReportError(f"{path.name} has more than {BYTES_AT_MOST // 2**20} MiB, which no report has.")
    return content


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


class _Part:
    """An object of the JSON, whose values are taken out with their type and range checked."""

    def __init__(self, file: str, name: str, content: Any) -> None:
        self.file, self.name = file, name
        if not isinstance(content, dict):
            self.refuse("is no object")
        self.content: dict[str, Any] = content

    def refuse(self, what: str) -> NoReturn:
        raise ReportError(f"{self.file} is damaged: {self.name} {what}; export it again.")

    def part(self, key: str) -> "_Part":
        return _Part(self.file, f"{self.name}, {key}", self.content.get(key))

    def text(self, key: str) -> str:
        value = self.content.get(key)
        if not isinstance(value, str) or len(value) > LETTERS_AT_MOST:
            self.refuse(f"has no short text {key!r}")
        return value

    def number(self, key: str) -> float:
        value: Any = self.content.get(key)
        if not _is_number(value):
            self.refuse(f"has no number {key!r}")
        return float(value)

    def maybe_number(self, key: str) -> float | None:
        return None if self.content.get(key) is None else self.number(key)

    def index(self, key: str, count: int) -> int:
        return self.check_index(self.content.get(key), count, key)

    def check_index(self, value: Any, count: int, key: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < count:
            self.refuse(f"has no {key!r} from 0 to {count - 1}")
        return value

    def items(self, key: str, at_most: int, at_least: int = 0) -> list[Any]:
        value = self.content.get(key)
        if not isinstance(value, list) or not at_least <= len(value) <= at_most:
            self.refuse(f"has no list {key!r} of {at_least} to {at_most} items")
        return value

    def texts(self, key: str, at_most: int, at_least: int = 0) -> tuple[str, ...]:
        values = self.items(key, at_most, at_least)
        if not all(isinstance(value, str) and len(value) <= LETTERS_AT_MOST for value in values):
            self.refuse(f"has other things than short texts in {key!r}")
        return tuple(values)

    def indices(self, key: str) -> tuple[int, ...]:
        values = self.items(key, ROWS_AT_MOST, 1)
        return tuple(self.check_index(value, CLASSES_AT_MOST, key) for value in values)

    def floats(self, key: str, values: Any) -> np.ndarray:
        """Numbers as float32, NaN for null."""
        if not isinstance(values, list) or not all(value is None or _is_number(value) for value in values):
            self.refuse(f"has other things than numbers in {key!r}")
        with np.errstate(over="ignore"):
            return np.array([np.nan if value is None else value for value in values], dtype=np.float32)


def _is_number(value: Any) -> bool:
    # A whole number may be too large for a float.
    return isinstance(value, float | int) and not isinstance(value, bool) and abs(value) < 1e308


def _report(whole: _Part) -> Report:
    settings, machine, versions = whole.part("settings"), whole.part("machine"), whole.part("versions")
    try:
        look = Look(
            settings.text("colormap"),
            settings.number("opacity"),
            settings.number("threshold"),
            settings.text("scale"),
        )
    except ConfigError as error:
        settings.refuse(f"cannot be ({error})")
    pictures = _pictures(whole)
    columns = whole.texts("columns", COLUMNS_AT_MOST, 1)
    rows = [
        _row(_Part(whole.file, f"row {number}", one), len(columns), len(pictures))
        for number, one in enumerate(whole.items("rows", ROWS_AT_MOST, 1), 1)
    ]
    made_with = {name: str(machine.content.get(name))[:200] for name in machine.content}
    made_with |= {name: str(versions.content.get(name))[:200] for name in versions.content}
    return Report(look, columns, tuple(rows), pictures, made_with, machine.index("threads", THREADS_AT_MOST + 1))


def _pictures(whole: _Part) -> tuple[Image.Image, ...]:
    left = PIXELS_AT_MOST
    pictures = []
    for number, text in enumerate(whole.items("pictures", ROWS_AT_MOST), 1):
        try:
            content = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
            pictures.append(read_image(content, BYTES_AT_MOST, left))
        except (ImageError, binascii.Error, ValueError) as error:
            whole.refuse(f"has a picture {number} that cannot be read ({error})")
        left -= pictures[-1].width * pictures[-1].height
    return tuple(pictures)


def _row(row: _Part, columns: int, pictures: int) -> SavedRow:
    cells = row.items("cells", columns, columns)
    place = None if row.content.get("picture") is None else row.index("picture", pictures)
    parts = [_Part(row.file, f"{row.name}, cell {number}", cell) for number, cell in enumerate(cells, 1)]
    return SavedRow(row.text("title"), row.text("truth"), place, tuple(map(_cell, parts)))


def _cell(cell: _Part) -> SavedCell:
    if "error" in cell.content:
        return SavedCell(error=cell.text("error"))
    call = _call(cell)
    place = cell.part("call").items("place", 2, 2)
    lines = cell.items("map", SIDE_AT_MOST, 1)
    rows = [cell.floats("map", line) for line in lines]
    if len({len(line) for line in rows}) != 1 or not 1 <= len(rows[0]) <= SIDE_AT_MOST:
        cell.refuse("has a map that is no rectangle")
    trust = cell.content.get("trust")
    return SavedCell(
        call=call,
        target=cell.check_index(place[0], len(call.targets), "place"),
        layer=cell.check_index(place[1], 1 if call.fused else len(call.layers), "place"),
        note=cell.text("note"),
        map=np.stack(rows),
        logits=cell.floats("logits", cell.items("logits", CLASSES_AT_MOST, 1)),
        completeness=cell.maybe_number("completeness"),
        trust=None if trust is None else cell.part("trust").content,
    )


def _call(cell: _Part) -> Call:
    call, method = cell.part("call"), cell.text("method")
    if method not in METHOD_FACTS:
        cell.refuse(f"names the method {method[:40]!r}, which is not known")
    weights = cell.text("weights_hash")
    if not re.fullmatch(r"[0-9a-f]{64}", weights):
        cell.refuse("has no hash of weights")
    targets = call.indices("targets")
    against = None if call.content.get("against") is None else call.indices("against")
    if against is not None and len(against) != len(targets):
        call.refuse("compares another number of classes")
    return Call(cell.text("model"), weights, method, call.texts("layers", 64, 1), call.text("fused"), targets, against)
