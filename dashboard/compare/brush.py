"""The brush on the Compare page: the URL holds the strokes, and images are explained without what they cover.

`brush=cat.jpg~b150-400.300` names an image of the page and its strokes, once for each painted image; `fill` and `keep`
apply to all of them.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import streamlit as st

from dashboard.shared.cache import edited, probabilities
from dashboard.shared.comparison import Comparison
from dashboard.shared.url_state import ON_OFF, set_url_list, unknown_values, url_list
from swin_core.attribution.occlusion import FILLS
from swin_core.attribution.strokes import Strokes, parse_strokes
from swin_core.attribution.what_if import Edit
from swin_core.errors import SwinError
from swin_core.figures.grid import Grid
from swin_core.figures.viewer_payload import brush_payload, class_list, image_payload


def invalid_brush() -> list[str]:
    """Return a warning for each query parameter of the brush that is not a possible value."""
    ignored = unknown_values("fill", list(FILLS)) + unknown_values("keep", ON_OFF)
    for entry in st.query_params.get_all("brush"):
        try:
            parse_strokes(entry.rpartition("~")[2])
        except SwinError as error:
            ignored.append(f"brush={entry[:40]} ({str(error).rstrip('.')})")
    return ignored


def repaint(comparison: Comparison) -> tuple[Comparison, list[dict[str, Any]]]:
    """Replace the painted regions of a comparison's images.

    Returns:
        The comparison of the changed images, and the state of the brush at each row of its grid.
    """
    painted, fill, keep = _painted()
    lines, brushes = [], []
    for line in comparison.lines:
        image, strokes, fault = line.image.source, Strokes(), ""
        if text := painted.get(image.title):
            try:
                strokes = parse_strokes(text)
                image = edited(image, Edit(strokes, fill, keep))
            except SwinError as error:
                fault = str(error)
        lines.append(replace(line, image=image))
        brushes.append(brush_payload(strokes, fill, keep, fault, line.image.title))
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
        Of each changed row what `show_answer` takes; of none if a model fails, whose cell then says why.
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
    """Write what was painted into the URL; return whether that changes anything.

    Args:
        comparison: what is shown.
        stroke: `row` of the grid, `strokes` as text, `fill` and `keep`. From the browser, so it is checked.
    """
    row, text, fill, keep = (stroke.get(name) for name in ("row", "strokes", "fill", "keep"))
    if not isinstance(row, int) or not 0 <= row < comparison.row_count or not isinstance(text, str):
        return False
    before = _painted()
    painted = dict(before[0])
    title = comparison.line_and_model(row, 0)[0].image.title
    try:
        painted[title] = parse_strokes(text).text() if text else ""
        edit = Edit(Strokes(), str(fill), bool(keep))
    except SwinError:
        return False
    set_url_list("brush", [f"{title}~{text}" for title, text in painted.items() if text])
    set_url_list("fill", [edit.fill])
    set_url_list("keep", [ON_OFF[not edit.keep]])
    return _painted() != before


def _painted() -> tuple[dict[str, str], str, bool]:
    """Return the strokes of each painted image by its title, the fill, and whether only the region is kept."""
    entries = url_list("brush", [])
    painted = {title: text for title, _, text in (entry.rpartition("~") for entry in entries)}
    fill = url_list("fill", [Edit.fill], FILLS, 1) or [Edit.fill]
    keep = url_list("keep", [ON_OFF[1]], ON_OFF, 1) or [ON_OFF[1]]
    return painted, fill[0], keep[0] == ON_OFF[0]
