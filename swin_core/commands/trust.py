"""Rank methods and layers by how far to believe them: `swinlens trust swin_micro_flowers --data flowers`.

Several processes share the images under torchrun: `torchrun --nproc-per-node 2 -m swin_core.commands trust ...`.
"""

import argparse
from pathlib import Path

from swin_core.attribution.methods import METHOD_FACTS
from swin_core.commands import shell
from swin_core.data.registry import DATA_SETS, open_split
from swin_core.runs import runs_root
from swin_core.system.distributed import join_ranks
from swin_core.system.memory import keep_freed_memory
from swin_core.system.progress import ProgressBar
from swin_core.training.launch import choose_devices
from swin_core.trust.ranking import Ranking, rank
from swin_core.zoo.load import load


def parser() -> argparse.ArgumentParser:
    """The command line."""
    methods = "\n".join(f"  {name} ({facts.cost})" for name, facts in METHOD_FACTS.items())
    result = argparse.ArgumentParser(
        prog="swinlens trust",
        description=f"{__doc__}\n\nmethods:\n{methods}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("model", help="a bundled name, a run, a weights file, or timm/<model>")
    result.add_argument("--data", required=True, help=f"{', '.join(DATA_SETS)}, or a folder of class folders")
    result.add_argument("--split", help="as for evaluate, with the same default")
    result.add_argument(
        "--methods",
        nargs="+",
        default=[],
        metavar="METHOD",
        help="which methods, or METHOD@LAYER for one at a layer of its own (default: all of one pass)",
    )
    result.add_argument(
        "--layers",
        nargs="+",
        default=[],
        metavar="NAME",
        help="which target layers (default: all on offer; relevance at the pixels and stages)",
    )
    result.add_argument("--pictures", type=int, metavar="N", help="explain N images of the split (default: all)")
    result.add_argument(
        "--steps", type=int, default=8, help="points of a curve beyond the first (default: %(default)s)"
    )
    result.add_argument(
        "--quick", action="store_true", help="leave out insertion and ROAD, which take most of the time"
    )
    result.add_argument("--json", metavar="FILE", type=Path, help="write all figures here")
    result.add_argument("--data-root", help="folder of the data sets (else SWIN_DATA_ROOT, else the cache folder)")
    result.add_argument("--runs-root", help="folder of the runs (else SWIN_RUNS_ROOT, else runs)")
    return result


def lines(found: Ranking) -> str:
    """The figures as text."""
    left_out = [f"left out: {name}: {reason}" for name, reason in found.left_out.items()]
    about = (
        f"{found.model} on {found.pictures} images of {found.data}, split {found.split}: "
        f"{found.steps} steps, {found.mosaics} mosaics"
    )
    return "\n".join([*left_out, about, "", found.table()])


def _rank(options: argparse.Namespace) -> int:
    with join_ranks(choose_devices([], None)[0]) as ranks:
        found = rank(
            load(options.model, runs_root=runs_root(options.runs_root)),
            open_split(options.data, options.split, root=options.data_root),
            options.methods,
            options.layers,
            pictures=options.pictures,
            steps=options.steps,
            quick=options.quick,
            ranks=ranks,
            progress=ProgressBar("maps") if ranks.is_main else None,
        )
    if ranks.is_main:
        print(lines(found))
        if options.json:
            shell.write_json(options.json, found.to_dict())
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; 1 and one line for an error that a user can mend."""
    options = parser().parse_args(arguments)
    keep_freed_memory()
    return shell.run("swinlens trust", lambda: _rank(options))
