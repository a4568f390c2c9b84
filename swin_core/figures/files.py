"""Write the grid of heat maps: a drawing for print (PNG, PDF, SVG), its values (NPZ, JSON), or a report (HTML)."""

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from swin_core.errors import ConfigError
from swin_core.figures.grid import Grid
from swin_core.figures.matplotlib_grid import matplotlib_figure
from swin_core.figures.matplotlib_page import DOTS_PER_INCH
from swin_core.figures.report_html import report_page
from swin_core.figures.report_json import encode_report, report_content
from swin_core.system.atomic import write_file

KINDS = {
    "png": "image/png",
    "pdf": "application/pdf",
    "svg": "image/svg+xml",
    "npz": "application/octet-stream",
    "json": "application/json",
    "html": "text/html",
}
"""File formats, with their media types."""


def kind_of(path: Path) -> str:
    """Return the key of `KINDS` that a path's suffix names.

    Raises:
        ConfigError: another suffix.
    """
    kind = path.suffix.removeprefix(".").lower()
    if kind not in KINDS:
        raise ConfigError(f"a grid cannot be written as {path.name!r}: name a file .{', .'.join(KINDS)}.")
    return kind


def encode(grid: Grid, kind: str) -> bytes:
    """Return the bytes of a file of the given kind, a key of `KINDS`.

    The images are encoded from pixels, so the file holds no metadata of the image files.

    Raises:
        ConfigError: an unknown kind, or images too large for a JSON report.
    """
    if kind not in KINDS:
        raise ConfigError(f"a grid cannot be written as {kind!r}: choose {', '.join(KINDS)}.")
    if kind == "json":
        return encode_report(grid)
    if kind == "html":
        return report_page(grid).encode("utf-8", "replace")
    if kind == "npz":
        stream = io.BytesIO()
        np.savez_compressed(stream, allow_pickle=False, **_arrays(grid))
        return stream.getvalue()
    return encode_figure(matplotlib_figure(grid), kind)


def encode_figure(figure: Figure, kind: str) -> bytes:
    """Return the bytes of a drawing for print: "png", "pdf" or "svg"."""
    # A higher compression level takes most of the time of the whole drawing, for a tenth fewer bytes.
    options: dict[str, Any] = {"metadata": {"Title": "SwinLens"}}
    if kind == "png":
        options = {"metadata": {"Software": "SwinLens"}, "pil_kwargs": {"compress_level": 3}}
    stream = io.BytesIO()
    figure.savefig(stream, format=kind, dpi=DOTS_PER_INCH, **options)
    return stream.getvalue()


def save(grid: Grid, path: str | os.PathLike[str]) -> None:
    """Write the grid to a file whose suffix is one of `KINDS`.

    Raises:
        ConfigError: another suffix, or a path that cannot be written.
    """
    write_file(path, encode(grid, kind_of(Path(path))))


def _arrays(grid: Grid) -> dict[str, np.ndarray]:
    """Return all arrays by name: `picture_R`, and `map_R_C`, `view_R_C`, `logits_R_C` of row R and column C."""
    arrays = {"settings": np.array(json.dumps(report_content(grid, whole=False), ensure_ascii=False))}
    for i, row in enumerate(grid.rows):
        arrays[f"picture_{i}"] = row.thumbnail
        for j, cell in enumerate(row.cells):
            if cell.explanation is not None and cell.map is not None:
                arrays[f"map_{i}_{j}"] = cell.map
                arrays[f"view_{i}_{j}"] = cell.explanation.view
                arrays[f"logits_{i}_{j}"] = cell.explanation.logits
    return arrays
