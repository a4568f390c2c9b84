"""Evaluate a model on a data set: `swinlens evaluate swin_micro_flowers --data flowers`."""

import argparse
from pathlib import Path

from swin_core.commands import shell
from swin_core.data.registry import DATA_SETS
from swin_core.evaluation.accuracy import Evaluation, evaluate_named
from swin_core.runs import runs_root
from swin_core.system.distributed import join_ranks
from swin_core.system.memory import keep_freed_memory
from swin_core.system.progress import ProgressBar
from swin_core.training.launch import choose_devices


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="swinlens evaluate",
        description="Cross-entropy, top-1, top-5 and the share of each class that a model gets right.",
    )
    result.add_argument("model", help="a bundled name, a run, a weights file, or timm/<model>")
    result.add_argument(
        "--data", required=True, help=f"{', '.join(DATA_SETS)}, or a folder with one folder of images for each class"
    )
    result.add_argument(
        "--split",
        help="train or val, as in the model's own training; another split of the data set; all of a folder (default: "
        f"{', '.join(f'{entry.splits[0]} of {name}' for name, entry in DATA_SETS.items())}, val of a folder with its "
        "own split, else all of a folder)",
    )
    result.add_argument("--json", metavar="FILE", type=Path, help="write all figures and the confusion matrix here")
    result.add_argument("--data-root", help="folder of the data sets (else SWIN_DATA_ROOT, else the cache folder)")
    result.add_argument("--runs-root", help="folder of the runs (else SWIN_RUNS_ROOT, else runs)")
    return result


def lines(found: Evaluation) -> str:
    """The figures as text, the most important last."""
    figures = found.metrics
    counts = figures.confusion.sum(1)
    rows = [
        f"{share:8.2%} of {count:5}  {label}"
        for share, count, label in zip(figures.per_class, counts, found.labels, strict=True)
        if count
    ]
    if found.left_out:
        rows.append(f"left out, since {found.model} does not know them: {', '.join(found.left_out)}")
    top5 = "" if figures.top5 is None else f"  top-5 {figures.top5:.2%}"
    rows.append(
        f"{found.model} on {figures.count} images of {found.data}, split {found.split}: "
        f"loss {figures.loss:.4f}  top-1 {figures.top1:.2%}{top5}"
    )
    return "\n".join(rows)


def _evaluate(options: argparse.Namespace) -> int:
    with join_ranks(choose_devices([], None)[0]) as ranks:
        found = evaluate_named(
            options.model,
            options.data,
            options.split,
            root=options.data_root,
            runs_root=runs_root(options.runs_root),
            progress=ProgressBar("pictures") if ranks.is_main else None,
            ranks=ranks,
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
    return shell.run("swinlens evaluate", lambda: _evaluate(options))
