"""The grid of heat maps as a file: a page for paper (PNG, PDF), its numbers (NPZ, JSON), a report (HTML)."""

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from swin_core.errors import ConfigError
from swin_core.figures.grid import Grid
from swin_core.figures.matplotlib_grid import DOTS_PER_INCH, matplotlib_figure
from swin_core.figures.report_html import report_page
from swin_core.figures.report_json import encode_report, report_numbers

__all__ = ["KINDS", "encode", "kind_of", "save"]

KINDS = {
    "png": "image/png",
    "pdf": "application/pdf",
    "npz": "application/octet-stream",
    "json": "application/json",
    "html": "text/html",
}
"""Kinds of file, with their media types."""


def kind_of(path: Path) -> str:
    """The kind of file that a path's suffix names.

    Raises:
        ConfigError: none of `KINDS`.
    """
    kind = path.suffix.removeprefix(".").lower()
    if kind not in KINDS:
        raise ConfigError(f"A grid cannot be written as {path.name!r}: name a file .{', .'.join(KINDS)}.")
    return kind


def encode(grid: Grid, kind: str) -> bytes:
    """Encode the grid as the bytes of a file; `kind` is a key of `KINDS`.

    The images are encoded from pixels, so the result holds no metadata of the image files.

    Raises:
        ConfigError: an unknown kind, or images too large for a JSON report.
    """
    if kind not in KINDS:
        raise ConfigError(f"A grid cannot be written as {kind!r}: choose {', '.join(KINDS)}.")
    if kind == "json":
        return encode_report(grid)
    if kind == "html":
        return report_page(grid).encode("utf-8", "replace")
    stream = io.BytesIO()
    if kind == "npz":
        np.savez_compressed(stream, allow_pickle=False, **_arrays(grid))
    else:
        marks = {"Title": "SwinLens"} if kind == "pdf" else {"Software": "SwinLens"}
        # Pillow's own level takes most of the time that the whole figure takes, for a tenth fewer bytes.
        quick: dict[str, Any] = {} if kind == "pdf" else {"pil_kwargs": {"compress_level": 3}}
        matplotlib_figure(grid).savefig(stream, format=kind, dpi=DOTS_PER_INCH, metadata=marks, **quick)
    return stream.getvalue()


def save(grid: Grid, path: str | os.PathLike[str]) -> None:
    """Write the grid to a file whose suffix is one of `KINDS`.

    Raises:
        ConfigError: another suffix, or a path that cannot be written.
    """
    path = Path(path)
    content = encode(grid, kind_of(path))
    try:
        path.write_bytes(content)
    except OSError as error:
        raise ConfigError(f"Cannot write {path}: {error.strerror}. Choose another place.") from error


def _arrays(grid: Grid) -> dict[str, np.ndarray]:
    """All arrays by name: `picture_R`, and `map_R_C`, `view_R_C`, `logits_R_C` of row R and column C."""
    arrays = {"settings": np.array(json.dumps(report_numbers(grid, whole=False), ensure_ascii=False))}
    for i, row in enumerate(grid.rows):
        arrays[f"picture_{i}"] = row.thumbnail
        for j, cell in enumerate(row.cells):
            if cell.explanation is not None and cell.map is not None:
                arrays[f"map_{i}_{j}"] = cell.map
                arrays[f"view_{i}_{j}"] = cell.explanation.view
                arrays[f"logits_{i}_{j}"] = cell.explanation.logits
    return arrays
