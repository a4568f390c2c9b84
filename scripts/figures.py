#!/usr/bin/env python
"""Draw the reproduced report's figures from our own data and runs: `python scripts/figures.py --help` has examples.

Sample sheets show images of data sets, which may not be published.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from swin_core.attribution.overlay import COLORMAPS, SCALES, Look
from swin_core.commands import shell
from swin_core.commands.explain import load_or_missing, print_failed
from swin_core.comparisons.compare import ExplainSettings, class_grid
from swin_core.data.registry import DATA_SETS, open_split, public_data_set
from swin_core.errors import ConfigError, SwinError
from swin_core.figures.files import KINDS, save
from swin_core.figures.matplotlib_grid import matplotlib_figure
from swin_core.images.read import read_image
from swin_core.reproduction import paper_figures
from swin_core.runs import runs_root
from swin_core.system.atomic import check_writable
from swin_core.system.memory import keep_freed_memory
from swin_core.system.progress import ProgressBar

EXAMPLES = """examples:
  python scripts/figures.py sheet cifar100 --out figure5.png
  python scripts/figures.py sheet flowers --out figure6.png
  python scripts/figures.py curves swin_micro_cifar100 --out figure9.png
  python scripts/figures.py saved swin_micro_cifar100 swin_micro_flowers --out figure10.png
  python scripts/figures.py classes rose=rose.jpg tulip=tulip.jpg --models swin_micro_flowers RUN --out figure11.jpg
"""
GRID_KINDS = ("jpg", *KINDS)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("--runs-root", help="folder of the runs (else SWIN_RUNS_ROOT, else runs)")
    kinds = result.add_subparsers(dest="figure", metavar="FIGURE", required=True)

    def figure(name: str, text: str, files: Sequence[str] = paper_figures.KINDS) -> argparse.ArgumentParser:
        added = kinds.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        added.add_argument("--out", type=Path, required=True, help=f"file to write: .{', .'.join(files)}")
        return added

    sheet = figure("sheet", "images of every class of a data set (figures 5 and 6)")
    sheet.add_argument("data", help=f"{', '.join(DATA_SETS)}, or a folder of class folders")
    sheet.add_argument("--split", help="as for evaluate.py (default: train, all of a folder)")
    sheet.add_argument("--data-root", help="folder of the data sets (else SWIN_DATA_ROOT, else the cache folder)")
    curves = figure("curves", "loss, top-1 and top-5 over the epochs (figure 9)")
    curves.add_argument("models", nargs="+", metavar="MODEL", help="bundled names or runs")
    saved = figure("saved", "models as they were saved, and their fine-tuning (figure 10)")
    saved.add_argument("models", nargs="+", metavar="MODEL", help="bundled names or runs")
    grid = "heat maps, a row for each class and a column for each model (figure 11)"
    classes = figure("classes", grid, GRID_KINDS)
    classes.add_argument(
        "rows", nargs="+", metavar="CLASS=IMAGE", help="a class and an image of it; =IMAGE for each first choice"
    )
    classes.add_argument("--models", nargs="+", required=True, metavar="NAME", help="as for explain.py, one a column")
    classes.add_argument("--titles", nargs="+", default=[], metavar="TITLE", help="one a column (default: the names)")
    classes.add_argument("--method", help="as for explain.py (default: the best one measured for each model)")
    classes.add_argument("--layer", help="target layer (default: each model's own)")
    classes.add_argument("--colormap", choices=COLORMAPS, default=Look.colormap)
    classes.add_argument("--scale", choices=SCALES, default=Look.scale)
    return result


def _class_grid(given: argparse.Namespace, root: Path) -> None:
    rows = []
    for text in given.rows:
        name, mark, file = text.partition("=")
        if not mark or not file:
            raise ConfigError(
                f"{text[:80]!r} is not a row; write CLASS=IMAGE, or =IMAGE for each model's first choice."
            )
        rows.append((name or f"{Path(file).stem}, first choice", read_image(file), name))
    if given.titles and len(given.titles) != len(given.models):
        raise ConfigError(f"{len(given.titles)} titles for {len(given.models)} models: give one for each, or none.")
    models = [load_or_missing(name, root) for name in given.models]
    settings = ExplainSettings(given.method, (given.layer,) if given.layer else ())
    look = Look(colormap=given.colormap, scale=given.scale)
    drawn = class_grid(rows, models, settings=settings, look=look, progress=ProgressBar("cells"))
    drawn = replace(drawn, columns=tuple(given.titles) or drawn.columns)
    if print_failed(drawn):
        raise SwinError(f"no map could be drawn, so {given.out} was not written; see the lines above.")
    if paper_figures.kind_of(given.out, GRID_KINDS) in KINDS:
        save(drawn, given.out)
    else:
        paper_figures.save(matplotlib_figure(drawn), given.out)


def draw(given: argparse.Namespace) -> int:
    """Draw and write the figure that the command line names; return the exit status."""
    root = runs_root(given.runs_root)
    kinds = GRID_KINDS if given.figure == "classes" else paper_figures.KINDS
    paper_figures.kind_of(given.out, kinds)  # refuse a wrong suffix before minutes of work
    check_writable(given.out)
    if given.figure == "classes":
        _class_grid(given, root)
    elif given.figure == "sheet":
        public = public_data_set(given.data)
        split = given.split or ("train" if public and "train" in public.splits else "all")
        paper_figures.save(paper_figures.sample_sheet(open_split(given.data, split, root=given.data_root)), given.out)
    else:
        models = [paper_figures.trained_model(name, root) for name in given.models]
        draw_models = paper_figures.curves if given.figure == "curves" else paper_figures.saved_models
        paper_figures.save(draw_models(models), given.out)
    print(given.out)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    given = parser().parse_args(arguments)
    keep_freed_memory()
    return shell.run("figures.py", lambda: draw(given))


if __name__ == "__main__":
    sys.exit(main())
