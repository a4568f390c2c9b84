"""Evaluate a model on a data set: `swinlens evaluate swin_micro_flowers --data flowers`."""

import argparse
from functools import partial
from pathlib import Path

from swin_core.commands import shell
from swin_core.data.registry import DATA_SETS
from swin_core.evaluation.accuracy import Evaluation, evaluate_named
from swin_core.runs import runs_root


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    result = argparse.ArgumentParser(
        prog=shell.program("evaluate"),
        description="Cross-entropy, top-1, top-5, recall of each class, and its mean where classes are uneven.",
    )
    result.add_argument("model", help="a bundled name, a run, or any other name that swinlens explain takes")
    result.add_argument(
        "--data", required=True, help=f"{', '.join(DATA_SETS)}, or a folder with one folder of images for each class"
    )
    result.add_argument(
        "--split",
        help="train or val, as in the model's own training; another split of the data set; all of a folder (default: "
        f"{', '.join(f'{entry.splits[0]} of {name}' for name, entry in DATA_SETS.items())}, val of a folder with its "
        "own split, else all of a folder)",
    )
    result.add_argument("--json", metavar="FILE", type=Path, help="write all metrics and the confusion matrix here")
    result.add_argument(
        "--strict", action="store_true", help="refuse files that cannot be used, instead of skipping them"
    )
    shell.add_roots(result)
    return result


def lines(evaluation: Evaluation) -> str:
    """Return the metrics as text: a line for each class, then the total."""
    metrics = evaluation.metrics
    counts = metrics.confusion.sum(1)
    rows = [
        f"{share:8.2%} of {count:5}  {label}"
        for share, count, label in zip(metrics.per_class, counts, evaluation.labels, strict=True)
        if count
    ]
    if evaluation.skipped:
        rows.append(f"skipped {len(evaluation.skipped)} files:")
        rows += [f"  {file}" for file in evaluation.skipped]
    if evaluation.trained_on:
        rows.append(
            f"{evaluation.model} was trained on {evaluation.trained_on} of these images: the metrics are optimistic"
        )
    if evaluation.left_out:
        rows.append(f"left out, since {evaluation.model} does not know them: {', '.join(evaluation.left_out)}")
    top5 = "" if metrics.top5 is None else f"  top-5 {metrics.top5:.2%}"
    balanced = f"  balanced {metrics.balanced:.2%}" if metrics.is_uneven else ""
    rows.append(
        f"{evaluation.model} on {metrics.count} images of {evaluation.data}, split {evaluation.split}: "
        f"loss {metrics.loss:.4f}  top-1 {metrics.top1:.2%}{top5}{balanced}"
    )
    return "\n".join(rows)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status. A user's error is printed as one line."""
    options = parser().parse_args(arguments)
    evaluate = partial(
        evaluate_named,
        options.model,
        options.data,
        options.split,
        root=options.data_root,
        runs_root=runs_root(options.runs_root),
        strict=options.strict,
    )
    return shell.measure(shell.program("evaluate"), options.json, evaluate, lines, "images")
