"""A grid as one HTML file that holds all it shows: no script, no link, nothing that is loaded from elsewhere.

It is read in light and dark, on a wide screen and on a phone, and printed. Pictures are made from pixels, so that
nothing of the files that they came from is in it, and every name is escaped.
"""

from collections.abc import Iterable, Sequence
from html import escape

import numpy as np

from swin_core.explain.explanation import Explanation
from swin_core.explain.figure import cell_overlay
from swin_core.explain.grid import Cell, Grid, Row
from swin_core.explain.methods import METHOD_FACTS
from swin_core.explain.reading import CROP, TRUST, bright, colours
from swin_core.explain.render import bar_colors, data_uri, enlarged, percent
from swin_core.explain.report import first_choices, machine, versions

__all__ = ["report_page"]

TITLE = "What did each model look at?"
BITS = (
    "The same comparison as JSON holds pixels, maps and numbers to the last bit; python scripts/explain.py --from FILE "
    "computes it again and compares within 0.1 %."
)
STYLE = """
:root { color-scheme: light dark; --ground: #ffffff; --ink: #1b2430; --soft: #56616f; --line: #d5dae1;
  --panel: #f2f4f7; --accent: #0069a6; }
@media (prefers-color-scheme: dark) { :root { --ground: #12161c; --ink: #e4e9f0; --soft: #a3aebc; --line: #333c48;
  --panel: #1d232c; --accent: #6db6e8; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1280px; padding: 24px; background: var(--ground); color: var(--ink);
  font: 15px/1.5 "Source Sans 3", system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 8px; }
h2 { font-size: 1.25rem; margin: 36px 0 8px; overflow-wrap: anywhere; }
h3 { font-size: 1rem; margin: 20px 0 6px; }
p { margin: 4px 0; max-width: 80ch; }
.soft, figcaption small { color: var(--soft); font-size: 0.9rem; }
.cells { display: grid; gap: 20px 16px; grid-template-columns: repeat(auto-fit, minmax(min(230px, 42vw), 1fr));
  max-width: calc(var(--cells) * 416px - 16px); }
figure { margin: 0; max-width: 400px; min-width: 0; break-inside: avoid; overflow-wrap: anywhere; }
figure img { display: block; width: 100%; aspect-ratio: 1; height: auto; border-radius: 6px; }
figcaption { margin-top: 6px; line-height: 1.35; }
figcaption b, figcaption small { display: block; }
.name { font-weight: 650; margin-bottom: 6px; }
.none { aspect-ratio: 1; background: var(--panel); border-radius: 6px; padding: 12px; }
.badge { display: inline-block; border: 1px solid var(--line); border-radius: 9px; padding: 0 8px; font-size: 0.85rem; }
.table { overflow-x: auto; }
table { border-collapse: collapse; margin: 4px 0; }
th, td { text-align: left; vertical-align: top; padding: 4px 20px 4px 0; border-bottom: 1px solid var(--line); }
th, td { white-space: nowrap; }
th { font-weight: 600; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
code { font: 0.85rem/1.4 ui-monospace, "Source Code Pro", Menlo, Consolas, monospace; }
code { overflow-wrap: anywhere; white-space: normal; }
.scale { display: flex; align-items: center; gap: 10px; margin: 10px 0; }
.scale img { width: 140px; height: 12px; border-radius: 3px; flex: none; }
@media (max-width: 640px) { body { padding: 14px; } h1 { font-size: 1.5rem; } th, td { padding-right: 12px; } }
@media print { :root { color-scheme: light; --ground: #ffffff; --ink: #000000; --soft: #444444; --line: #bbbbbb;
    --panel: #eeeeee; }
  body { max-width: none; padding: 0; font-size: 10pt; -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  .cells { grid-template-columns: repeat(auto-fill, minmax(42mm, 1fr)); }
  h2, h3 { break-after: avoid; } table, .table { break-inside: avoid; overflow: visible; } }
"""


def report_page(grid: Grid) -> str:
    """The page of a grid; see `export.encode`."""
    sections = "".join(_section(grid, number, row) for number, row in enumerate(grid.rows))
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>SwinLens: {escape(TITLE)}</title><style>{STYLE}</style></head>"
        f"<body><main><h1>{escape(TITLE)}</h1>{_reading(grid)}{sections}{_made(grid)}</main></body></html>\n"
    )


def _reading(grid: Grid) -> str:
    """How to read the page, and the scale."""
    found = _explanations(grid)
    lines = dict.fromkeys(bright(one.method) for one in found)
    text = " ".join([*lines, colours(grid.look), CROP])
    trust = f"<p>{escape(TRUST)}</p>" if any(cell.trust for row in grid.rows for cell in row.cells) else ""
    bar = np.repeat(bar_colors(grid.look, 140, grid.signed)[None], 12, axis=0)
    return (
        f"<p>{escape(text)}</p>{trust}"
        f'<div class="scale"><img src="{data_uri(bar)}" alt="Colours from the bottom to the top of the scale">'
        f"<span>{escape(grid.scale_name)}</span></div>"
    )


def _section(grid: Grid, number: int, row: Row) -> str:
    """One row: its picture and heat maps, its first choices, its agreement and its trust figures."""
    truth = f'<p class="soft">It shows: {escape(row.truth)}</p>' if row.truth else ""
    words = escape(f"The picture {row.title}")
    cells = [
        f'<figure><div class="name">Picture</div><img src="{data_uri(enlarged(row.picture))}" alt="{words}">'
        f"<figcaption>{escape(row.title)}</figcaption></figure>"
    ]
    cells += [_figure(grid, row, column, cell) for column, cell in zip(grid.columns, row.cells, strict=True)]
    parts = [_choices(grid, row), _agreement(grid, number), _trust(grid, row)]
    return (
        f"<section><h2>{escape(row.title)}</h2>{truth}"
        f'<div class="cells" style="--cells: {len(cells)}">{"".join(cells)}</div>{"".join(parts)}</section>'
    )


def _figure(grid: Grid, row: Row, column: str, cell: Cell) -> str:
    name = f'<div class="name">{escape(column)}</div>'
    found = cell.explanation
    if found is None or cell.map is None:
        return f'<figure>{name}<div class="none">{escape(cell.error)}</div></figure>'
    picture = cell_overlay(grid, cell)
    caption = grid.caption(row, cell)
    words = escape(f"Heat map of {column} on {row.title}: {caption.headline}")
    badge = f'<span class="badge">{escape(caption.badge)}</span>' if caption.badge else ""
    notes = "".join(f"<small>{escape(note)}</small>" for note in caption.notes)
    return (
        f'<figure>{name}<img src="{data_uri(picture)}" alt="{words}">'
        f"<figcaption><b>{escape(caption.headline)}</b>{badge}{notes}</figcaption></figure>"
    )


def _choices(grid: Grid, row: Row) -> str:
    shown = [(column, cell.explanation) for column, cell in zip(grid.columns, row.cells, strict=True)]
    # Stages of one model have the same choices; each model is named once.
    several = {found.weights_hash: (column, found) for column, found in reversed(shown) if found is not None}
    lines = [
        [found.model if len(several) < len([1 for _, one in shown if one]) else column]
        + [f"{label} · {percent(value)}" for label, value in first_choices(found)]
        for column, found in reversed(several.values())
    ]
    count = max(map(len, lines), default=1) - 1
    return _table("First choices", ["model", *map(str, range(1, count + 1))], lines)


def _agreement(grid: Grid, number: int) -> str:
    matrix = grid.agreement()[number]
    there = [index for index in range(len(grid.columns)) if not np.isnan(matrix[index, index])]
    if len(there) < 2:
        return ""
    names = [grid.columns[index] for index in there]
    lines = [
        [name, *("-" if i == j else f"{matrix[i, j]:.2f}" for j in there)] for i, name in zip(there, names, strict=True)
    ]
    title = "Agreement of the maps (Spearman's rank correlation: 1 is the same order of bright and dark, 0 unrelated)"
    return _table(title, ["", *names], lines, numbers=True)


def _trust(grid: Grid, row: Row) -> str:
    lines, sentences = [], []
    for column, cell in zip(grid.columns, row.cells, strict=True):
        if cell.trust is None:
            continue
        parts = {"this map": cell.trust, "random maps": cell.trust.random, "middle of the picture": cell.trust.centred}
        for name, part in parts.items():
            figures = (part.srg, part.road, part.deletion.area, part.insertion.area)
            signs = ("+.2f", "+.2f", ".2f", ".2f")
            lines.append([column, name, *(format(value, sign) for value, sign in zip(figures, signs, strict=True))])
        sentences.append(f"<p>{escape(f'{column}: {cell.trust.sentence}')}</p>")
    if not lines:
        return ""
    head = ["model", "of", "SRG, higher is better", "ROAD, higher", "deletion, lower", "insertion, higher"]
    return _table("Can the maps be believed?", head, lines, numbers=True, words=2) + "".join(sentences)


def _made(grid: Grid) -> str:
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
    weights = _table("Models", ["model", "SHA-256 of its weights"], models.values(), code=1)
    return (
        f"<section><h2>How it was made</h2>{weights}"
        f"{_table('Methods', ['model', 'method', 'layer'], made)}"
        f"{_table('Look', ['setting', 'value'], settings)}{_table('Computed with', ['what', 'value'], computed)}"
        f'<p class="soft">{escape(BITS)}</p></section>'
    )


def _explanations(grid: Grid) -> list[Explanation]:
    return [cell.explanation for row in grid.rows for cell in row.cells if cell.explanation is not None]


def _table(
    title: str,
    head: Sequence[str],
    lines: Iterable[Sequence[str]],
    *,
    numbers: bool = False,
    words: int = 1,
    code: int | None = None,
) -> str:
    """A table with a title; of numbers, all but the first `words` columns stand at the right, `code` is a column."""
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = []
    for line in lines:
        cells = [f'<th scope="row">{escape(line[0])}</th>']
        for place, value in enumerate(line[1:], 1):
            shown = f"<code>{escape(value)}</code>" if place == code else escape(value)
            cells.append(f"<td{' class=number' if numbers and place >= words else ''}>{shown}</td>")
        body.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<h3>{escape(title)}</h3><div class="table" role="region" aria-label="{escape(title)}" tabindex="0">'
        f"<table><thead><tr>{top}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )
