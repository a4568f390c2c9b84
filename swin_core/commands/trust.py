"""Rank attribution methods and layers by their faithfulness: `swinlens trust swin_micro_flowers --data flowers`.

Several ranks share the images under torchrun: `torchrun --nproc-per-node 2 -m swin_core.commands trust ...`.
"""

import argparse
from functools import partial
from pathlib import Path

from swin_core.attribution.methods import METHODS
from swin_core.commands import shell
from swin_core.data.registry import DATA_SETS
from swin_core.evaluation.accuracy import named_split
from swin_core.runs import runs_root
from swin_core.system.distributed import Ranks
from swin_core.system.progress import Progress
from swin_core.trust.ranking import Ranking, rank
from swin_core.zoo.load import load


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    methods = "\n".join(f"  {name} ({facts.cost})" for name, facts in METHODS.items())
    result = argparse.ArgumentParser(
        prog=shell.program("trust"),
        description=f"{__doc__}\n\nmethods:\n{methods}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("model", help="a bundled name, a run, or any other name that swinlens explain takes")
    result.add_argument("--data", required=True, help=f"{', '.join(DATA_SETS)}, or a folder of class folders")
    result.add_argument("--split", help="as for evaluate, with the same default")
    result.add_argument(
        "--methods",
        nargs="+",
        default=[],
        metavar="METHOD",
        help="methods, or METHOD@LAYER for a method at one layer (default: all that need one forward pass)",
    )
    result.add_argument(
        "--layers",
        nargs="+",
        default=[],
        metavar="NAME",
        help="target layers (default: all that can be chosen; for relevance, pixels and stages)",
    )
    result.add_argument("--images", type=int, metavar="N", help="explain N images of the split (default: all)")
    result.add_argument(
        "--steps", type=int, default=8, help="points of a curve beyond the first (default: %(default)s)"
    )
    result.add_argument(
        "--quick", action="store_true", help="leave out insertion and ROAD, which take most of the time"
    )
    result.add_argument("--json", metavar="FILE", type=Path, help="write all measurements here")
    shell.add_precision(result)
    shell.add_roots(result)
    return result


def lines(ranking: Ranking) -> str:
    """Return the ranking as text."""
    left_out = [f"left out: {name}: {reason}" for name, reason in ranking.left_out.items()]
    left_out += [f"skipped: {file}" for file in ranking.skipped]
    about = (
        f"{ranking.model} on {ranking.images} images of {ranking.data}, split {ranking.split}: "
        f"{ranking.steps} steps, {ranking.mosaics} mosaics"
    )
    return "\n".join([*left_out, about, "", ranking.table()])


def _rank(options: argparse.Namespace, *, ranks: Ranks, progress: Progress | None) -> Ranking:
    runs = runs_root(options.runs_root)
    return rank(
        load(options.model, runs_root=runs, precision=options.precision),
        named_split(options.model, options.data, options.split, options.data_root, runs),
        options.methods,
        options.layers,
        images=options.images,
        steps=options.steps,
        quick=options.quick,
        ranks=ranks,
        progress=progress,
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status. A user's error is printed as one line."""
    options = parser().parse_args(arguments)
    return shell.measure(shell.program("trust"), options.json, partial(_rank, options), lines, "maps")
