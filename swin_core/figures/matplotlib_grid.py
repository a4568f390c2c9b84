"""The grid of heat maps for print, drawn with matplotlib."""

from matplotlib.figure import Figure

from swin_core.attribution.overlay import bar_colors
from swin_core.figures.cell_image import cell_overlay, row_image
from swin_core.figures.fonts import Fonts, fonts_for
from swin_core.figures.grid import Grid
from swin_core.figures.matplotlib_page import CAPTION_COLUMNS, CELL, GAP, LINE, MARGIN, Page
from swin_core.figures.text import shorten, wrap

BAR = 1.2
"""Length of the colour bar, in inches."""


def matplotlib_figure(grid: Grid) -> Figure:
    """Draw the grid for print. It needs no pyplot, and so no global state."""
    captions = [[grid.caption(row, cell).lines(CAPTION_COLUMNS) for cell in row.cells] for row in grid.rows]
    titles = [
        [line for text in (row.title, str(row.edit or "")) for line in wrap(text, CAPTION_COLUMNS)] for row in grid.rows
    ]
    heads = [wrap(title, CAPTION_COLUMNS) for title in ("Image", *map(shorten, grid.columns))]
    head_lines = max(map(len, heads))
    lines_below = [
        max(len(title), *(len(headline) + len(notes) for headline, notes in cells), 1)
        for title, cells in zip(titles, captions, strict=True)
    ]
    width = 2 * MARGIN + len(heads) * CELL + (len(heads) - 1) * GAP
    fonts = fonts_of(grid)
    foot_columns = int((width - BAR - 3 * MARGIN) / CELL * CAPTION_COLUMNS)
    foot = [
        line for text in (f"{grid.scale_name}; {_settings(grid)}", fonts.fault) for line in wrap(text, foot_columns)
    ]
    height = 2 * MARGIN + LINE * (head_lines + 1.5 + len(foot)) + sum(CELL + LINE * (n + 1) for n in lines_below)
    page = Page(Figure(figsize=(width, height), facecolor="white"), fonts)
    y = MARGIN
    for j, head in enumerate(heads):
        page.text(MARGIN + j * (CELL + GAP), y, head, bold=True)
    y += LINE * (head_lines + 0.2)
    for i, row in enumerate(grid.rows):
        page.image(MARGIN, y, row_image(row))
        page.text(MARGIN, y + CELL + LINE * 0.3, titles[i])
        for j, cell in enumerate(row.cells):
            x = MARGIN + (j + 1) * (CELL + GAP)
            if cell.explanation is None:
                page.panel(x, y, wrap(cell.error, CAPTION_COLUMNS - 2))
                continue
            headline, notes = captions[i][j]
            page.image(x, y, cell_overlay(grid, row, cell))
            page.text(x, y + CELL + LINE * 0.3, headline, bold=True)
            page.text(x, y + CELL + LINE * (0.3 + len(headline)), notes)
        y += CELL + LINE * (lines_below[i] + 1)
    y += LINE * 0.5
    page.image(MARGIN, y, bar_colors(grid.look, 256, grid.signed)[None], width=BAR, height=0.1)
    page.text(MARGIN + BAR + 0.1, y - 0.02, foot)
    return page.figure


def fonts_of(grid: Grid) -> Fonts:
    """Return the fonts that the names in a drawing of the grid need."""
    texts = [*grid.columns, *(row.title for row in grid.rows), grid.scale_name, _settings(grid)]
    for row in grid.rows:
        for cell in row.cells:
            caption = grid.caption(row, cell)
            texts += [caption.headline, caption.badge, *caption.notes, cell.error]
    return fonts_for(texts)


def _settings(grid: Grid) -> str:
    """Return methods, layers, colours, opacity and lines as text."""
    cells = [(cell, cell.explanation) for row in grid.rows for cell in row.cells if cell.explanation is not None]
    methods = ", ".join(dict.fromkeys(explanation.method for _, explanation in cells))
    layers = ", ".join(dict.fromkeys(explanation.layers[cell.layer] for cell, explanation in cells))
    made = f"{methods} at {layers}; " if cells else ""
    lines = f"; {grid.lines_name}" if grid.lines_name else ""
    return f"{made}{'blue to orange' if grid.signed else grid.look.colormap}, opacity {grid.look.opacity:g}{lines}"
