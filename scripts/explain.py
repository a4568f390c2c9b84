#!/usr/bin/env python
"""Draw heat maps of pictures by models as one grid: `python scripts/explain.py cat.jpg --models A B --out grid.png`."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from PIL import Image

from swin_core.errors import ConfigError, SwinError
from swin_core.explain import FUSIONS, METHOD_FACTS, METHODS, RUNNER_UP
from swin_core.explain.compare import MODELS_AT_MOST, Missing, Wish, compare
from swin_core.explain.export import kind_of
from swin_core.explain.figure import Grid
from swin_core.explain.render import COLORMAPS, SCALES, Look
from swin_core.images import read_image
from swin_core.zoo import Classifier, available, load

Found = TypeVar("Found")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    bundled = "\n".join(f"  {name}: {line}" for name, line in available().items()) or "  none"
    methods = "\n".join(f"  {name}: {method.summary}" for name, method in METHOD_FACTS.items())
    result = argparse.ArgumentParser(
        description=f"Draw heat maps of pictures by models as one grid.\n\nbundled models:\n{bundled}",
        epilog=f"methods:\n{methods}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("images", nargs="+", metavar="IMAGE", type=Path, help="picture files")
    result.add_argument(
        "--models", nargs="+", required=True, metavar="NAME", help="bundled names, runs, weights files or timm/<model>"
    )
    result.add_argument("--out", required=True, type=Path, help="file to write: .png, .pdf, .npz or .json")
    result.add_argument(
        "--target",
        nargs="+",
        default=[],
        metavar="CLASS",
        help="class to explain: one for all pictures, one for each, or several for a single picture "
        "(default: each model's own first choice)",
    )
    result.add_argument(
        "--rather-than", metavar="CLASS", help=f"explain the class rather than this one, or {RUNNER_UP!r}"
    )
    result.add_argument(
        "--method",
        choices=list(METHODS),
        metavar="METHOD",
        help="see below (default: the best one measured for each model)",
    )
    result.add_argument(
        "--layer",
        nargs="+",
        default=[],
        metavar="NAME",
        help="target layers of all models, a row each; 'stages' for one a stage of each model (default: its own layer)",
    )
    result.add_argument("--fuse", choices=FUSIONS, help="make one map of several layers")
    result.add_argument("--colormap", choices=COLORMAPS, default=Look.colormap)
    result.add_argument("--opacity", type=float, default=Look.opacity, help="0 to 1 (default: %(default)s)")
    result.add_argument("--threshold", type=float, default=Look.threshold, help="share of the scale, 0 to 1")
    result.add_argument("--scale", choices=SCALES, default=Look.scale, help="one scale for all cells, or one a cell")
    result.add_argument("--runs-root", default="runs", help="folder of the runs (default: runs)")
    return result


def _found(name: str, read: Callable[[], Found]) -> Found | Missing:
    """What `read` returns, or why it cannot: one picture or model that fails must not take the others along."""
    try:
        return read()
    except SwinError as error:
        return Missing(name, str(error))


def _picture(path: Path) -> tuple[str, Image.Image] | Missing:
    return _found(path.name, lambda: (path.name, read_image(path)))


def _model(name: str, runs_root: str) -> Classifier | Missing:
    return _found(name, lambda: load(name, runs_root))


def _print_failed(drawn: Grid) -> bool:
    """Print a line for each cell that failed; whether all did."""
    failed = [
        f"{row.title}, {column}: {cell.error}"
        for row in drawn.rows
        for column, cell in zip(drawn.columns, row.cells, strict=True)
        if cell.map is None
    ]
    for line in failed:
        print(" ".join(line.split()), file=sys.stderr)
    return len(failed) == len(drawn.rows) * len(drawn.columns)


def main(arguments: list[str] | None = None) -> int:
    """Explain, draw and write; 1 after an error, which is printed as one line, or if every cell failed."""
    given = parser().parse_args(arguments)
    try:
        kind_of(given.out)
        look = Look(given.colormap, given.opacity, given.threshold, given.scale)
        if len(given.models) > MODELS_AT_MOST:
            raise ConfigError(f"One grid holds up to {MODELS_AT_MOST} models, not {len(given.models)}: name fewer.")
        pictures = [_picture(path) for path in given.images]
        models = [_model(name, given.runs_root) for name in given.models]
        wish = Wish(given.method, tuple(given.layer), given.rather_than, given.fuse)
        drawn = compare(pictures, models, given.target, wish=wish, look=look)
        if _print_failed(drawn):
            raise SwinError(f"No cell could be explained, so {given.out} was not written; see the lines above.")
        drawn.save(given.out)
        print(given.out)
    except SwinError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
