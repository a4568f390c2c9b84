"""An exercise sheet for a class: a page A4 of heat maps without their classes, and a page with the solutions."""

import io

from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure

from swin_core.figures.cell_image import cell_overlay, row_image
from swin_core.figures.fonts import fonts_for
from swin_core.figures.grid import Cell, Grid, Row
from swin_core.figures.matplotlib_page import CAPTION_COLUMNS, CELL, GAP, LINE, Page
from swin_core.figures.text import shorten, wrap

A4 = 8.27, 11.69
"""Width and height in inches."""
MARGIN, CAPTION_LINES = 0.6, 3.5
TITLE, SOLUTIONS = "What does each heat map speak for?", "Solutions"
TASK = (
    "Each heat map shows where a model finds evidence for one class: the brighter, the more. Write under each map the "
    "class that it speaks for, and mark in the image what gave it away."
)
BLANK = "_" * 120


def exercise_sheet(grid: Grid) -> bytes:
    """Return the PDF of two pages: maps with a line for each answer, and the same with class, probability and truth."""
    labels = {cell.explanation.label(cell.target) for row in grid.rows for cell in row.cells if cell.explanation}
    words = [TASK, f"Classes: {', '.join(sorted(labels))}."]
    stream = io.BytesIO()
    with PdfPages(stream, metadata={"Title": "SwinLens", "CreationDate": None}) as file:
        for title, lines in ((TITLE, words), (SOLUTIONS, [])):
            file.savefig(_page(grid, title, lines))
    return stream.getvalue()


def _page(grid: Grid, title: str, words: list[str]) -> Figure:
    """Draw a page; with `words` that of the exercise, without that of the solutions."""
    inner, columns = A4[0] - 2 * MARGIN, len(grid.columns) + 1
    text = [line for each in words for line in wrap(each, int(inner / CELL * CAPTION_COLUMNS))]
    top = MARGIN + LINE * (len(text) + 5)
    below = LINE * CAPTION_LINES
    high = (A4[1] - MARGIN - top) / max(len(grid.rows), 1) - below
    side = min((inner - GAP * (columns - 1)) / columns, high, CELL)
    width = max(int(side / CELL * CAPTION_COLUMNS), 8)
    heads = ["Image", *(shorten(name, width) for name in grid.columns)]
    cells = [(row, cell, _answer(grid, row, cell, width)) for row in grid.rows for cell in row.cells]
    everything = [title, *words, *heads, *(row.title for row in grid.rows), *(line for *_, a in cells for line in a)]
    page = Page(Figure(figsize=A4, facecolor="white"), fonts_for(everything))
    page.text(MARGIN, MARGIN, [title], bold=True)
    if words:
        page.text(MARGIN + inner / 2, MARGIN, [f"Name {BLANK[:22]} Date {BLANK[:10]}"])
    page.text(MARGIN, MARGIN + 2 * LINE, text)
    for number, head in enumerate(heads):
        page.text(MARGIN + number * (side + GAP), top - 1.3 * LINE, [head], bold=True)
    for i, row in enumerate(grid.rows):
        y = top + i * (side + below)
        page.image(MARGIN, y, row_image(row), side, side)
        name = "" if words else shorten(row.title, width - 3)  # a file's name often is the answer
        page.text(MARGIN, y + side + 0.2 * LINE, [f"{i + 1}. {name}".strip()])
        for j, (_, cell, answer) in enumerate(cells[i * len(row.cells) : (i + 1) * len(row.cells)], 1):
            x = MARGIN + j * (side + GAP)
            if cell.explanation is not None:
                page.image(x, y, cell_overlay(grid, row, cell), side, side)
                answer = [BLANK[: int(width * 0.9)]] if words else answer
            page.text(x, y + side + (0.7 if words else 0.2) * LINE, answer)
    return page.figure


def _answer(grid: Grid, row: Row, cell: Cell, width: int) -> list[str]:
    """Return the solution of a cell, or why it has no map."""
    caption = grid.caption(row, cell)
    texts = (caption.headline, caption.prediction) if cell.explanation is not None else (cell.error,)
    return [line for text in texts for line in wrap(text, width)][: int(CAPTION_LINES)]
