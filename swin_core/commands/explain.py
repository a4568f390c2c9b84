"""Draw heat maps of images by models as one grid: `swinlens explain cat.jpg --models A B --out grid.png`.

`--from report.json` reproduces a grid that was written as JSON, and compares it with the report.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from PIL import Image

from swin_core.attribution.dispatch import chosen_method
from swin_core.attribution.explain import FUSIONS
from swin_core.attribution.methods import METHODS, NOT_OFFERED
from swin_core.attribution.occlusion import FILLS
from swin_core.attribution.overlay import COLORMAPS, SCALES, Look
from swin_core.attribution.strokes import parse_strokes
from swin_core.attribution.targets import RUNNER_UP
from swin_core.attribution.what_if import Edit
from swin_core.commands import shell
from swin_core.comparisons.compare import MODELS_AT_MOST, ExplainSettings, Missing, compare
from swin_core.errors import ConfigError, SwinError
from swin_core.figures.files import KINDS, kind_of, save
from swin_core.figures.grid import Grid
from swin_core.figures.matplotlib_grid import fonts_of
from swin_core.images.read import read_image
from swin_core.reports.read import read_report
from swin_core.reports.reproduce import TOLERANCE, find_models, reproduce
from swin_core.runs import runs_root
from swin_core.system.atomic import check_writable
from swin_core.system.memory import keep_freed_memory
from swin_core.zoo.classifier import Classifier
from swin_core.zoo.load import available, load

T = TypeVar("T")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    bundled = "\n".join(f"  {name}: {line}" for name, line in available().items()) or "  none"
    methods = "\n".join(f"  {name}: {method.summary}" for name, method in METHODS.items())
    left_out = "\n".join(f"  {name}: {reason}" for name, reason in NOT_OFFERED.items())
    result = argparse.ArgumentParser(
        prog=shell.program("explain"),
        description=f"Draw heat maps of images by models as one grid.\n\nbundled models:\n{bundled}",
        epilog=f"methods:\n{methods}\n\nnot offered:\n{left_out}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("images", nargs="*", default=[], metavar="IMAGE", type=Path, help="image files")
    result.add_argument(
        "--models",
        nargs="+",
        default=[],
        metavar="NAME",
        help="bundled names, runs, weights files (FILE#ENTRY for one of several state dicts in it), folders of "
        "save_pretrained, Python files with load(), timm/<model>, torchvision/<model>, hf/<repo>, or "
        "timm/<model>@FILE for a file of that model",
    )
    result.add_argument("--out", type=Path, help=f"file to write: .{', .'.join(KINDS)}")
    result.add_argument(
        "--from",
        dest="report",
        type=Path,
        metavar="REPORT",
        help="reproduce a .json report and compare; only --models (for weights that the report does not name), "
        "--runs-root and --out go with it",
    )
    result.add_argument(
        "--target",
        nargs="+",
        default=[],
        metavar="CLASS",
        help="class to explain: one for all images, one for each, or several for a single image "
        "(default: the top-1 class of each model)",
    )
    result.add_argument(
        "--rather-than", metavar="CLASS", help=f"contrast class to explain the target against, or {RUNNER_UP!r}"
    )
    result.add_argument(
        "--method",
        type=_method,
        metavar="METHOD",
        help="see below (default: the best one measured for each model)",
    )
    result.add_argument(
        "--layer",
        nargs="+",
        default=[],
        metavar="NAME",
        help="target layers of all models, one row each; 'stages' for one per stage (default: the model's own layer)",
    )
    result.add_argument("--fuse", choices=FUSIONS, help="combine several layers into one map")
    result.add_argument(
        "--without",
        metavar="STROKES",
        help="replace a region of the images first, given as strokes: b80-400.300-450.320 is a brush of diameter 80 "
        "through two points, r-100.100-300.250 a rectangle, e80-400.300 an eraser, and _ joins several; all in "
        "thousandths of the image",
    )
    result.add_argument("--fill", choices=FILLS, default=Edit.fill, help="what replaces the region")
    result.add_argument("--keep", action="store_true", help="keep only the region, and replace everything else")
    result.add_argument("--colormap", choices=COLORMAPS, default=Look.colormap)
    result.add_argument("--opacity", type=float, default=Look.opacity, help="0 to 1 (default: %(default)s)")
    result.add_argument("--threshold", type=float, default=Look.threshold, help="share of the scale, 0 to 1")
    result.add_argument("--scale", choices=SCALES, default=Look.scale, help="one scale for all cells, or one per cell")
    shell.add_runs_root(result)
    return result


def _method(name: str) -> str:
    """Return a method's name; refuse one that is unknown or not offered, with the reason."""
    try:
        return chosen_method(name).name
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _or_missing(name: str, read: Callable[[], T]) -> T | Missing:
    """Return `read()`, or its error as `Missing`, so that one image or model that fails does not stop the others."""
    try:
        return read()
    except SwinError as error:
        return Missing(name, str(error))


def _image(path: Path) -> tuple[str, Image.Image] | Missing:
    return _or_missing(path.name, lambda: (path.name, read_image(path)))


def load_or_missing(name: str, root: str | Path) -> Classifier | Missing:
    """Return a model by its name, or why it cannot be loaded."""
    return _or_missing(name, lambda: load(name, runs_root=root))


def print_failed(drawn: Grid) -> bool:
    """Print a line for each cell that failed, or for a row that failed as a whole; return whether all failed."""
    for row in drawn.rows:
        cells = zip(drawn.columns, row.cells, strict=True)
        failed = [(f"{row.title}, {column}", cell.error) for column, cell in cells if cell.map is None]
        if len(failed) == len(row.cells) > 1 and len({error for _, error in failed}) == 1:
            failed = [(row.title, failed[0][1])]
        for place, error in failed:
            print(" ".join(f"{place}: {error}".split()), file=sys.stderr)
    return all(cell.map is None for row in drawn.rows for cell in row.cells)


def _reproduce(options: argparse.Namespace) -> int:
    """Reproduce a report; return 1 if a cell differs by more than the tolerance."""
    if options.out:
        kind_of(options.out)
        check_writable(options.out)
    report = read_report(options.report)
    again = reproduce(report, find_models(report, options.models, runs_root(options.runs_root)))
    for result in again.results:
        print(" ".join(f"{result.row}, {result.column}: {result.text}".split()))
    if options.out:
        save(again.grid, options.out)
        print(options.out)
    equal = sum(result.equal for result in again.results)
    print(f"{equal} of {len(again.results)} cells are equal within {TOLERANCE:.1%} of their greatest value.")
    if not again.equal:
        print(f"Environment changes since the report: {'; '.join(again.changed) or 'none'}.")
    return 0 if again.equal else 1


def _draw(options: argparse.Namespace) -> int:
    """Explain, draw and save."""
    kind_of(options.out)
    check_writable(options.out)
    look = Look(options.colormap, options.opacity, options.threshold, options.scale)
    edit = None if options.without is None else Edit(parse_strokes(options.without), options.fill, options.keep)
    if len(options.models) > MODELS_AT_MOST:
        raise ConfigError(f"one grid holds up to {MODELS_AT_MOST} models, not {len(options.models)}: name fewer.")
    images = [_image(path) for path in options.images]
    root = runs_root(options.runs_root)
    tried = [load_or_missing(name, root) for name in options.models]
    for model in tried:
        if isinstance(model, Missing):
            print(" ".join(f"{model.name} has no column: {model.reason}".split()), file=sys.stderr)
    models = [model for model in tried if not isinstance(model, Missing)]
    if not models:
        raise SwinError(f"no model could be loaded, so {options.out} was not written; see the lines above.")
    settings = ExplainSettings(options.method, tuple(options.layer), options.rather_than, options.fuse, edit)
    drawn = compare(images, models, options.target, settings=settings, look=look)
    if print_failed(drawn):
        raise SwinError(f"no cell could be explained, so {options.out} was not written; see the lines above.")
    save(drawn, options.out)
    if kind_of(options.out) in ("png", "pdf") and (fault := fonts_of(drawn).fault):
        print(fault, file=sys.stderr)
    print(options.out)
    return 0


def _check(known: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Exit with a usage message if options are missing or contradict each other."""
    if options.report is None:
        needed = {"IMAGE": options.images, "--models": options.models, "--out": options.out}
        if missing := [name for name, value in needed.items() if not value]:
            known.error(f"the following arguments are required: {', '.join(missing)}")
        return
    alone = {"report", "models", "runs_root", "out"}
    if others := [
        name for name in vars(options) if name not in alone and vars(options)[name] != known.get_default(name)
    ]:
        known.error(f"with --from, everything else is in the report: leave out {', '.join(others)}")


def main(arguments: list[str] | None = None) -> int:
    """Draw or reproduce a grid; return 1 after an error, if no cell was explained, or if a cell differs."""
    known = parser()
    options = known.parse_args(arguments)
    _check(known, options)
    keep_freed_memory()
    return shell.run(
        shell.program("explain"), lambda: _draw(options) if options.report is None else _reproduce(options)
    )
