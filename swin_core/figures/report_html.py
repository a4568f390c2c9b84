"""A grid as one HTML file that holds all it shows: no script, no link, nothing that is loaded from elsewhere.

It is read in light and dark, on a wide screen and on a phone, and printed. Images are made from pixels, so that
nothing of the files that they came from is in it, and every name is escaped.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined, Template

from swin_core.attribution.explanation import Explanation
from swin_core.attribution.methods import METHOD_FACTS
from swin_core.attribution.overlay import bar_colors, data_uri, enlarged
from swin_core.figures.grid import Grid, Row
from swin_core.figures.matplotlib_grid import cell_overlay
from swin_core.figures.reading_guide import CROP, TRUST, bright, colours
from swin_core.figures.report_json import first_choices, machine, versions
from swin_core.figures.text import percent

__all__ = ["report_page"]

TITLE = "What did each model look at?"
AGAIN = (
    "The same comparison as JSON holds pixels, maps and numbers to the last bit; swinlens explain --from FILE "
    "computes it again and compares within 0.1 %."
)


@dataclass(frozen=True)
class _Table:
    """A table with a title; where it holds numbers, all but the first `words` columns are aligned right."""

    title: str
    head: Sequence[str]
    lines: Sequence[Sequence[str]]
    numbers: bool = False
    words: int = 1
    code: int = 0
    """The column that is set as code; 0 for none."""


@cache
def _template() -> Template:
    source = files(__package__).joinpath("report_html.jinja").read_text("utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(source)


def report_page(grid: Grid) -> str:
    """Make the HTML page of a grid; jinja2 escapes every name."""
    measured = any(cell.trust for row in grid.rows for cell in row.cells)
    bar = np.repeat(bar_colors(grid.look, 140, grid.signed)[None], 12, axis=0)
    lines = dict.fromkeys(bright(found.method) for found in _explanations(grid))
    return _template().render(
        title=TITLE,
        reading=" ".join([*lines, colours(grid.look), CROP]),
        trust=TRUST if measured else "",
        bar=data_uri(bar),
        grid=grid,
        sections=[_section(grid, number, row) for number, row in enumerate(grid.rows)],
        made=_made(grid),
        again=AGAIN,
    )


def _section(grid: Grid, number: int, row: Row) -> dict[str, Any]:
    """One row: its image and heat maps, its first choices, its agreement and its measures of trust."""
    figures: list[dict[str, Any]] = []
    for column, cell in zip(grid.columns, row.cells, strict=True):
        if cell.map is None:
            figures.append({"column": column, "error": cell.error, "caption": None})
        else:
            image = data_uri(cell_overlay(grid, cell))
            figures.append({"column": column, "image": image, "caption": grid.caption(row, cell)})
    tables = [_choices(grid, row), _agreement(grid, number), _trust(grid, row)]
    return {
        "row": row,
        "image": data_uri(enlarged(row.thumbnail)),
        "figures": figures,
        "tables": [table for table in tables if table is not None],
        "sentences": [
            f"{column}: {cell.trust.sentence}"
            for column, cell in zip(grid.columns, row.cells, strict=True)
            if cell.trust is not None
        ],
    }


def _choices(grid: Grid, row: Row) -> _Table:
    shown = [(column, cell.explanation) for column, cell in zip(grid.columns, row.cells, strict=True)]
    # Stages of one model have the same choices; each model is named once.
    several = {found.weights_hash: (column, found) for column, found in reversed(shown) if found is not None}
    lines = [
        [found.model if len(several) < len([1 for _, one in shown if one]) else column]
        + [f"{label} · {percent(value)}" for label, value in first_choices(found)]
        for column, found in reversed(several.values())
    ]
    count = max(map(len, lines), default=1) - 1
    return _Table("First choices", ["model", *map(str, range(1, count + 1))], lines)


def _agreement(grid: Grid, number: int) -> _Table | None:
    matrix = grid.agreement()[number]
    there = [index for index in range(len(grid.columns)) if not np.isnan(matrix[index, index])]
    if len(there) < 2:
        return None
    names = [grid.columns[index] for index in there]
    lines = [
        [name, *("-" if i == j else f"{matrix[i, j]:.2f}" for j in there)] for i, name in zip(there, names, strict=True)
    ]
    title = "Agreement of the maps (Spearman's rank correlation: 1 is the same order of bright and dark, 0 unrelated)"
    return _Table(title, ["", *names], lines, numbers=True)


def _trust(grid: Grid, row: Row) -> _Table | None:
    lines = []
    for column, cell in zip(grid.columns, row.cells, strict=True):
        if cell.trust is None:
            continue
        parts = {"this map": cell.trust, "random maps": cell.trust.random, "middle of the image": cell.trust.centred}
        for name, part in parts.items():
            figures = (part.srg, part.road, part.deletion.area, part.insertion.area)
            signs = ("+.2f", "+.2f", ".2f", ".2f")
            lines.append([column, name, *(format(value, sign) for value, sign in zip(figures, signs, strict=True))])
    if not lines:
        return None
    head = ["model", "of", "SRG, higher is better", "ROAD, higher", "deletion, lower", "insertion, higher"]
    return _Table("Can the maps be believed?", head, lines, numbers=True, words=2)


def _made(grid: Grid) -> list[_Table]:
    """Models, settings and versions."""
    found = _explanations(grid)
    models = {one.weights_hash: [one.model, f"{one.weights_hash}"] for one in found}
    places = [(one, "the pixels" if layer == "input" else layer) for one in found for layer in one.layers]
    made = dict.fromkeys((one.model, METHOD_FACTS[one.method].title, layer) for one, layer in places)
    look = grid.look
    settings = [
        ["colours", "blue to orange" if grid.signed else look.colormap],
        ["opacity", f"{100 * look.opacity:.0f} %"],
        ["threshold", f"{100 * look.threshold:.0f} %"],
        ["scale", grid.scale_name.removeprefix("scale: ")],
    ]
    computed = [[name, str(value)] for name, value in (machine(grid) | versions()).items()]
    return [
        _Table("Models", ["model", "SHA-256 of its weights"], list(models.values()), code=1),
        _Table("Methods", ["model", "method", "layer"], list(made)),
        _Table("Look", ["setting", "value"], settings),
        _Table("Computed with", ["what", "value"], computed),
    ]


def _explanations(grid: Grid) -> list[Explanation]:
    return [cell.explanation for row in grid.rows for cell in row.cells if cell.explanation is not None]
