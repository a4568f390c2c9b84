"""Draw heat maps of images by models as one grid: `swinlens explain cat.jpg --models A B --out grid.png`.

`--from report.json` computes a grid that was written as JSON again, and compares it with the report.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from PIL import Image

from swin_core.attribution.dispatch import chosen_method
from swin_core.attribution.explain import FUSIONS
from swin_core.attribution.methods import METHOD_FACTS, NOT_OFFERED
from swin_core.attribution.overlay import COLORMAPS, SCALES, Look
from swin_core.attribution.targets import RUNNER_UP
from swin_core.commands import shell
from swin_core.comparisons.compare import MODELS_AT_MOST, ExplainSettings, Missing, compare
from swin_core.errors import ConfigError, SwinError
from swin_core.figures.files import KINDS, kind_of, save
from swin_core.figures.grid import Grid
from swin_core.images.read import read_image
from swin_core.reports.read import read_report
from swin_core.reports.reproduce import TOLERANCE, find_models, reproduce
from swin_core.runs import runs_root
from swin_core.system.memory import keep_freed_memory
from swin_core.zoo.classifier import Classifier
from swin_core.zoo.load import available, load

Found = TypeVar("Found")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    bundled = "\n".join(f"  {name}: {line}" for name, line in available().items()) or "  none"
    methods = "\n".join(f"  {name}: {method.summary}" for name, method in METHOD_FACTS.items())
    left_out = "\n".join(f"  {name}: {reason}" for name, reason in NOT_OFFERED.items())
    result = argparse.ArgumentParser(
        prog="swinlens explain",
        description=f"Draw heat maps of images by models as one grid.\n\nbundled models:\n{bundled}",
        epilog=f"methods:\n{methods}\n\nnot offered:\n{left_out}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("images", nargs="*", default=[], metavar="IMAGE", type=Path, help="image files")
    result.add_argument(
        "--models", nargs="+", default=[], metavar="NAME", help="bundled names, runs, weights files or timm/<model>"
    )
    result.add_argument("--out", type=Path, help=f"file to write: .{', .'.join(KINDS)}")
    result.add_argument(
        "--from",
        dest="report",
        type=Path,
        metavar="REPORT",
        help="compute a .json report again and compare it; only --models (where weights are that the "
        "report cannot name), --runs-root and --out go with it",
    )
    result.add_argument(
        "--target",
        nargs="+",
        default=[],
        metavar="CLASS",
        help="class to explain: one for all images, one for each, or several for a single image "
        "(default: each model's own first choice)",
    )
    result.add_argument(
        "--rather-than", metavar="CLASS", help=f"explain the class rather than this one, or {RUNNER_UP!r}"
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
        help="target layers of all models, a row each; 'stages' for one a stage of each model (default: its own layer)",
    )
    result.add_argument("--fuse", choices=FUSIONS, help="make one map of several layers")
    result.add_argument("--colormap", choices=COLORMAPS, default=Look.colormap)
    result.add_argument("--opacity", type=float, default=Look.opacity, help="0 to 1 (default: %(default)s)")
    result.add_argument("--threshold", type=float, default=Look.threshold, help="share of the scale, 0 to 1")
    result.add_argument("--scale", choices=SCALES, default=Look.scale, help="one scale for all cells, or one a cell")
    result.add_argument("--runs-root", help="folder of the runs (else SWIN_RUNS_ROOT, else runs)")
    return result


def _method(name: str) -> str:
    """A method's name; one that is not known or not offered is refused with the reason."""
    try:
        return chosen_method(name).name
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _found(name: str, read: Callable[[], Found]) -> Found | Missing:
    """What `read` returns, or why it cannot: one image or model that fails must not take the others along."""
    try:
        return read()
    except SwinError as error:
        return Missing(name, str(error))


def _picture(path: Path) -> tuple[str, Image.Image] | Missing:
    return _found(path.name, lambda: (path.name, read_image(path)))


def found_model(name: str, root: str | Path) -> Classifier | Missing:
    """A model by its name, or why it cannot be loaded."""
    return _found(name, lambda: load(name, runs_root=root))


def print_failed(drawn: Grid) -> bool:
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


def _reproduce(given: argparse.Namespace) -> int:
    """Compute a report again; 1 if a cell differs by more than the tolerance."""
    if given.out:
        kind_of(given.out)
    report = read_report(given.report)
    again = reproduce(report, find_models(report, given.models, runs_root(given.runs_root)))
    for result in again.results:
        print(" ".join(f"{result.row}, {result.column}: {result.text}".split()))
    if given.out:
        save(again.grid, given.out)
        print(given.out)
    equal = sum(result.equal for result in again.results)
    print(f"{equal} of {len(again.results)} cells are equal within {TOLERANCE:.1%} of their greatest value.")
    if not again.equal:
        print(f"Other than when the report was made: {'; '.join(again.changed) or 'nothing that is known'}.")
    return 0 if again.equal else 1


def _draw(given: argparse.Namespace) -> int:
    """Explain, draw and write."""
    kind_of(given.out)
    look = Look(given.colormap, given.opacity, given.threshold, given.scale)
    if len(given.models) > MODELS_AT_MOST:
        raise ConfigError(f"One grid holds up to {MODELS_AT_MOST} models, not {len(given.models)}: name fewer.")
    pictures = [_picture(path) for path in given.images]
    root = runs_root(given.runs_root)
    models = [found_model(name, root) for name in given.models]
    settings = ExplainSettings(given.method, tuple(given.layer), given.rather_than, given.fuse)
    drawn = compare(pictures, models, given.target, settings=settings, look=look)
    if print_failed(drawn):
        raise SwinError(f"No cell could be explained, so {given.out} was not written; see the lines above.")
    save(drawn, given.out)
    print(given.out)
    return 0


def _check(known: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    """Leave with a line of usage if what was given does not go together."""
    if given.report is None:
        needed = {"IMAGE": given.images, "--models": given.models, "--out": given.out}
        if missing := [name for name, value in needed.items() if not value]:
            known.error(f"the following arguments are required: {', '.join(missing)}")
        return
    alone = {"report", "models", "runs_root", "out"}
    if others := [name for name in vars(given) if name not in alone and vars(given)[name] != known.get_default(name)]:
        known.error(f"with --from everything else is in the report: leave {', '.join(others)} out")


def main(arguments: list[str] | None = None) -> int:
    """Explain or compute again; 1 after an error, which is one line, if no cell came out, or if one differs."""
    known = parser()
    given = known.parse_args(arguments)
    _check(known, given)
    keep_freed_memory()
    return shell.run("swinlens explain", lambda: _draw(given) if given.report is None else _reproduce(given))
