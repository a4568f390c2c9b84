"""The brush on the Compare page: the URL holds the strokes, and images are explained without what they cover.

`brush=cat.jpg~b150-400.300` names an image of the page and its strokes, once for each painted image; `fill` and `keep`
apply to all of them.

A stroke is answered twice: at once with the new probabilities, by a request of its own, since a rerun of the page would
take longer than the models; then by the rerun, with the new maps and the URL.
"""

import json
import secrets
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import streamlit as st

from dashboard.shared.cache import InputImage, edited, probabilities
from dashboard.shared.comparison import Comparison
from dashboard.shared.url_state import ON_OFF, set_url_list, unknown_values, url_list
from swin_core.attribution.occlusion import FILLS
from swin_core.attribution.strokes import Strokes, parse_strokes
from swin_core.attribution.what_if import Edit
from swin_core.errors import SwinError
from swin_core.figures.grid import Grid
from swin_core.figures.viewer_payload import brush_payload, class_list, image_payload

OWNERS_AT_MOST = 200
"""Entries of the URL whose images a session remembers, for Back; older ones go by the image's name, as in a link."""


@dataclass(frozen=True)
class Painted:
    """What is painted on the images of the page."""

    strokes: Mapping[str, str] = field(default_factory=dict)
    """Text of the strokes on each painted image, by its title."""
    fill: str = Edit.fill
    keep: bool = Edit.keep
    time: int = field(default=0, compare=False)
    """That of the last stroke, as the browser sent it; 0 before one."""

    def after(self, comparison: Comparison, stroke: Mapping[str, Any]) -> "Painted":
        """Return what is painted after a stroke; the same if the stroke is none.

        Args:
            comparison: what is shown.
            stroke: a row as for `Comparison.seen_row`, `strokes` as text, `fill`, `keep` and `time`. From the browser,
                so it is checked.
        """
        text, fill, keep = (stroke.get(name) for name in ("strokes", "fill", "keep"))
        row, time = comparison.seen_row(stroke), _time_of(stroke)
        if row is None or not isinstance(text, str):
            return self
        title = comparison.line_and_model(row, 0)[0].image.title
        try:
            strokes = {**self.strokes, title: parse_strokes(text).text() if text else ""}
            edit = Edit(Strokes(), str(fill), bool(keep))
        except SwinError:
            return self
        return Painted({title: text for title, text in strokes.items() if text}, edit.fill, edit.keep, time)


def _time_of(stroke: Mapping[str, Any]) -> int:
    return time if isinstance(time := stroke.get("time"), int) else 0


@dataclass(eq=False)
class ShownGrid:
    """What a session shows on the Compare page, for the answers to its strokes."""

    token: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    """Names it in a request; nobody else can guess it."""
    comparison: Comparison = field(default_factory=lambda: Comparison((), ()))
    grid: Grid = field(default_factory=lambda: Grid((), ()))
    painted: Painted = field(default_factory=Painted)


# A session holds its own, so that it goes with the session.
_shown: WeakValueDictionary[str, ShownGrid] = WeakValueDictionary()


def shown_grid() -> ShownGrid:
    """Return the one of this session."""
    if "shown_grid" not in st.session_state:
        st.session_state.shown_grid = ShownGrid()
    shown: ShownGrid = st.session_state.shown_grid
    _shown[shown.token] = shown
    return shown


def answer_stroke(content: bytes) -> list[dict[str, Any]] | None:
    """Return the first answer to a stroke, for `answer` of `viewer.js`.

    Args:
        content: JSON of an object with the `token` of a `ShownGrid` and a `stroke` as for `Painted.after`; unchecked.

    Returns:
        As `first_answers`; None if the content is none, or no session has the token.
    """
    try:
        asked = json.loads(content)
        shown, stroke = _shown[asked["token"]], asked["stroke"]
    except (ValueError, TypeError, LookupError):
        return None
    if not isinstance(stroke, dict):
        return None
    comparison, brushes = repaint(shown.comparison, shown.painted.after(shown.comparison, stroke))
    return first_answers(comparison, shown.grid, brushes)


def match_strokes(images: Sequence[InputImage]) -> list[str]:
    """Keep the strokes in the URL with their images; drop those whose image is gone, or replaced by one of its name.

    Args:
        images: the images of the page.

    Returns:
        A warning for each query parameter of the brush that is not a possible value.
    """
    ignored = unknown_values("fill", list(FILLS)) + unknown_values("keep", ON_OFF)
    owners = _owners()
    now = {image.title: image.key for image in images}
    titles = {key: title for title, key in now.items()}
    kept = []
    for entry in url_list("brush", []):
        title, _, text = entry.rpartition("~")
        try:
            parse_strokes(text)
        except SwinError as error:
            ignored.append(f"brush={entry[:40]} ({str(error).rstrip('.')})")
            continue
        # A link knows images by name alone; strokes of this session follow their image, which may have got another
        # number, and do not go to another image of its name, as after Back.
        owner = owners.get(entry, now.get(title))
        if owner in titles:
            kept.append(f"{titles[owner]}~{text}")
            _remember({kept[-1]: owner})
        elif entry not in owners:
            ignored.append(f"brush={entry[:40]} (no image with this name is shown)")
    set_url_list("brush", kept)
    painted_in_url()  # writes the URL
    return ignored


def _owners() -> dict[str, Hashable]:
    """Return the key of the image that was painted, by each entry of the URL in this session."""
    owners: dict[str, Hashable] = st.session_state.setdefault("stroke_owners", {})
    return owners


def _remember(owners: Mapping[str, Hashable]) -> None:
    """Add to `_owners`, as the newest ones, and forget the oldest."""
    known = _owners()
    for entry, owner in owners.items():
        known.pop(entry, None)
        known[entry] = owner
    for entry in list(known)[:-OWNERS_AT_MOST]:
        del known[entry]


def repaint(comparison: Comparison, painted: Painted) -> tuple[Comparison, list[dict[str, Any]]]:
    """Replace the painted regions of a comparison's images.

    Returns:
        The comparison of the changed images, and the state of the brush at each row of its grid.
    """
    lines, brushes = [], []
    for line in comparison.lines:
        image, strokes, fault = line.image.source, Strokes(), ""
        if text := painted.strokes.get(image.title):
            try:
                strokes = parse_strokes(text)
                image = edited(image, Edit(strokes, painted.fill, painted.keep))
            except SwinError as error:
                fault = str(error)
        lines.append(replace(line, image=image))
        # A hash, since keys hold paths of this machine.
        key = str(hash(line.image.source.key))
        brushes.append(brush_payload(strokes, painted.fill, painted.keep, fault, key, painted.time))
    repainted = replace(comparison, lines=tuple(lines))
    rows = range(repainted.row_count)
    return repainted, [brushes[row * len(lines) // len(rows)] for row in rows]


def first_answers(comparison: Comparison, grid: Grid, brushes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the probabilities of the images whose strokes have changed, without their maps, which take far longer.

    Args:
        comparison: of the changed images.
        grid: what is shown: of the images before the change.
        brushes: state of the brush at each row.

    Returns:
        Of each changed row what `answer` of `viewer.js` takes; of none if a model fails, whose cell then says why.
    """
    answers = []
    known: dict[tuple[str, Hashable], np.ndarray] = {}
    for number, row in enumerate(grid.rows):
        line = comparison.line_and_model(number, 0)[0]
        if line.image.edit is None or line.image.edit == row.edit:
            continue
        cells = []
        for column, cell in enumerate(row.cells):
            model = comparison.line_and_model(number, column)[1]
            classes = []
            if cell.explanation is not None:
                key = model, line.image.key
                try:
                    known[key] = known[key] if key in known else probabilities(model, line.image)
                except SwinError:
                    return []
                classes = class_list(cell, row.truth, known[key], cell.before or cell.explanation)
            cells.append({"classes": classes})
        image = image_payload(line.image.square)
        answers.append({"row": number, "image": image, "brush": brushes[number], "cells": cells})
    return answers


def take_stroke(comparison: Comparison, stroke: Mapping[str, Any]) -> bool:
    """Write what was painted into the URL; return whether that changes anything. Arguments as of `Painted.after`."""
    before = painted_in_url()
    painted = before.after(comparison, stroke)
    entries = {title: f"{title}~{text}" for title, text in painted.strokes.items()}
    keys = {line.image.title: line.image.source.key for line in comparison.lines}
    _remember({entry: keys[title] for title, entry in entries.items() if title in keys})
    set_url_list("brush", list(entries.values()))
    set_url_list("fill", [painted.fill])
    set_url_list("keep", [ON_OFF[not painted.keep]])
    st.session_state.stroke_time = _time_of(stroke)  # also of a stroke that was refused: it has been answered
    return painted_in_url() != before


def painted_in_url() -> Painted:
    """Return what is painted on the images of the page."""
    entries = url_list("brush", [])
    painted = {title: text for title, _, text in (entry.rpartition("~") for entry in entries)}
    fill = url_list("fill", [Edit.fill], FILLS, 1) or [Edit.fill]
    keep = url_list("keep", [ON_OFF[1]], ON_OFF, 1) or [ON_OFF[1]]
    return Painted(painted, fill[0], keep[0] == ON_OFF[0], st.session_state.get("stroke_time", 0))
