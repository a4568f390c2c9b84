#!/usr/bin/env python
"""Draw heat maps of pictures by models as one grid: `python scripts/explain.py cat.jpg --models A B --out grid.png`."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from swin_core.errors import SwinError
from swin_core.explain import METHODS
from swin_core.explain.compare import compare
from swin_core.explain.export import kind_of
from swin_core.explain.render import COLORMAPS, SCALES, Look
from swin_core.images import read_image
from swin_core.zoo import available, load


def parser() -> argparse.ArgumentParser:
    """The command line."""
    bundled = "\n".join(f"  {name}: {line}" for name, line in available().items()) or "  none"
    result = argparse.ArgumentParser(
        description=f"Draw heat maps of pictures by models as one grid.\n\nbundled models:\n{bundled}",
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
    result.add_argument("--method", choices=list(METHODS), default="gradcam", help="attribution method")
    result.add_argument("--layer", help="target layer of all models (default: each model's own)")
    result.add_argument("--colormap", choices=COLORMAPS, default=Look.colormap)
    result.add_argument("--opacity", type=float, default=Look.opacity, help="0 to 1 (default: %(default)s)")
    result.add_argument("--threshold", type=float, default=Look.threshold, help="share of the scale, 0 to 1")
    result.add_argument("--scale", choices=SCALES, default=Look.scale, help="one scale for all cells, or one a cell")
    result.add_argument("--runs-root", default="runs", help="folder of the runs (default: runs)")
    return result


def main(arguments: list[str] | None = None) -> int:
    """Explain, draw and write; 1 after an error, which is printed as one line."""
    given = parser().parse_args(arguments)
    try:
        kind_of(given.out)
        look = Look(given.colormap, given.opacity, given.threshold, given.scale)
        pictures = [(path.name, read_image(path)) for path in given.images]
        models = [load(name, given.runs_root) for name in given.models]
        compare(pictures, models, given.target, method=given.method, layer=given.layer, look=look).save(given.out)
    except SwinError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
