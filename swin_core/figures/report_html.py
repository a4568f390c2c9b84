"""A grid as one HTML file that loads nothing from elsewhere.

The viewer of heat maps is in the file, and a policy lets no other script run. Without scripts, the maps are there as
images. The page has a light and a dark theme, fits wide screens and phones, and can be printed. Images are encoded
from pixels, so the page holds no metadata of the image files, and jinja2 escapes every name.
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined, Template

from swin_core.attribution.explanation import Explanation
from swin_core.attribution.methods import INPUT, METHODS
from swin_core.attribution.overlay import bar_colors
from swin_core.figures.cell_image import cell_overlay, row_image
from swin_core.figures.grid import Grid, Row
from swin_core.figures.reading_guide import CROP, TRUST, describe_brightness, describe_scale
from swin_core.figures.report_json import machine, versions
from swin_core.figures.text import value_text
from swin_core.figures.viewer_payload import payload_json, viewer_script, viewer_style
from swin_core.images.data_uri import image_uri

REPRODUCE = (
    "The JSON export of this comparison holds the pixels, the maps and all values; swinlens explain --from FILE "
    "computes it again and compares within 0.1 %."
)


@dataclass(frozen=True)
class _Table:
    """A table with a title."""

    title: str
    head: Sequence[str]
    lines: Sequence[Sequence[str]]
    numbers: bool = False
    """Whether the columns after the first `words` hold numbers, which are aligned right."""
    words: int = 1
    code: int = 0
    """Index of the column that is set as code; 0 for none."""


_MOUNT = """
mount(document.querySelector("#viewer"), JSON.parse(document.querySelector("#payload").textContent));
document.body.classList.add("live");
"""


@cache
def _template() -> Template:
    source = files(__package__).joinpath("report_html.jinja").read_text("utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(source)


def report_page(grid: Grid) -> str:
    """Return the HTML page of a grid."""
    explanations = [cell.explanation for row in grid.rows for cell in row.cells if cell.explanation is not None]
    bar = np.repeat(bar_colors(grid.look, 140, grid.signed)[None], 12, axis=0)
    brightness = dict.fromkeys(describe_brightness(explanation.method) for explanation in explanations)
    script = viewer_script() + _MOUNT
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return _template().render(
        script=script,
        script_hash=f"sha256-{digest}",
        viewer_style=viewer_style(),
        payload=payload_json(grid),
        title="What did each model look at?",
        reading=" ".join([*brightness, describe_scale(grid.look), CROP]),
        trust=TRUST if any(cell.trust for row in grid.rows for cell in row.cells) else "",
        bar=image_uri(bar),
        grid=grid,
        sections=[_section(grid, row, agreement) for row, agreement in zip(grid.rows, grid.agreement(), strict=True)],
        made=_settings(grid, explanations),
        again=REPRODUCE,
    )


def _section(grid: Grid, row: Row, agreement: np.ndarray) -> dict[str, Any]:
    """Return one row's image and heat maps, and its tables of predictions, agreement and faithfulness."""
    cells = list(zip(grid.columns, row.cells, strict=True))
    figures: list[dict[str, Any]] = []
    for column, cell in cells:
        if cell.map is None:
            figures.append({"column": column, "error": cell.error, "caption": None})
        else:
            image = image_uri(cell_overlay(grid, row, cell))
            figures.append({"column": column, "image": image, "caption": grid.caption(row, cell)})
    tables = [_predictions(grid, row), _agreement(grid, agreement), _faithfulness(grid, row)]
    return {
        "row": row,
        "image": image_uri(row_image(row)),
        "figures": figures,
        "tables": [table for table in tables if table.lines],
        "sentences": [f"{column}: {cell.trust.sentence}" for column, cell in cells if cell.trust is not None],
    }


def _predictions(grid: Grid, row: Row) -> _Table:
    # The stages of one model share its predictions: each model gets one line, at its first column.
    models: dict[str, tuple[str, Explanation]] = {}
    explained = [(column, cell.explanation) for column, cell in zip(grid.columns, row.cells, strict=True)]
    for column, explanation in explained:
        if explanation is not None:
            models.setdefault(explanation.weights_hash, (column, explanation))
    repeated = len(models) < sum(explanation is not None for _, explanation in explained)
    lines = [
        [explanation.model if repeated else column]
        + [f"{label} · {value_text(value, explanation.activation)}" for label, value in explanation.top_classes()]
        for column, explanation in models.values()
    ]
    count = max(map(len, lines), default=1) - 1
    regression = all(explanation.activation == "none" for _, explanation in models.values())
    title = "Outputs" if models and regression else "Most probable classes"
    return _Table(title, ["model", *map(str, range(1, count + 1))], lines)


def _agreement(grid: Grid, matrix: np.ndarray) -> _Table:
    """Return the correlation of every two columns with a map; no lines if there are fewer than two."""
    indices = [index for index in range(len(grid.columns)) if not np.isnan(matrix[index, index])]
    names = [grid.columns[index] for index in indices]
    lines = [[grid.columns[i], *("-" if i == j else f"{matrix[i, j]:.2f}" for j in indices)] for i in indices]
    title = "Agreement of the maps (Spearman's rank correlation; 1: same order of values, 0: unrelated)"
    return _Table(title, ["", *names], lines if len(lines) > 1 else [], numbers=True)


def _faithfulness(grid: Grid, row: Row) -> _Table:
    lines = []
    for column, cell in zip(grid.columns, row.cells, strict=True):
        if cell.trust is None:
            continue
        maps = {"this map": cell.trust, "random maps": cell.trust.random, "middle of the image": cell.trust.centred}
        for name, part in maps.items():
            areas = [f"{curve.area:.2f}" for curve in (part.deletion, part.insertion)]
            lines.append([column, name, f"{part.srg:+.2f}", f"{part.road:+.2f}", *areas])
    head = ["model", "map", "SRG, higher is better", "ROAD, higher", "deletion, lower", "insertion, higher"]
    return _Table("Do the maps beat the baselines?", head, lines, numbers=True, words=2)


def _settings(grid: Grid, explanations: list[Explanation]) -> list[_Table]:
    """Return the tables of models, methods, look and versions."""
    models = {explanation.weights_hash: explanation.model for explanation in explanations}
    methods = dict.fromkeys(
        (explanation.model, METHODS[explanation.method].title, "the pixels" if layer == INPUT else layer)
        for explanation in explanations
        for layer in explanation.layers
    )
    look = [
        ["colours", "blue to orange" if grid.signed else grid.look.colormap],
        ["opacity", f"{100 * grid.look.opacity:.0f} %"],
        ["threshold", f"{100 * grid.look.threshold:.0f} %"],
        ["scale", grid.scale_name.removeprefix("scale: ")],
        *([["lines", grid.lines_name]] if grid.lines_name else []),
    ]
    computed = [[name, str(value)] for name, value in (machine() | versions()).items()]
    return [
        _Table("Models", ["model", "SHA-256 of its weights"], [[name, key] for key, name in models.items()], code=1),
        _Table("Methods", ["model", "method", "layer"], list(methods)),
        _Table("Look", ["setting", "value"], look),
        _Table("Computed with", ["component", "value"], computed),
    ]
