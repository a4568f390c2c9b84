#!/usr/bin/env python
"""Bundle a finished run: `python scripts/bundle.py runs/RUN swin_micro_flowers --description "..."`."""

import argparse
import sys
from pathlib import Path

from swin_core.commands import shell
from swin_core.evaluation.accuracy import Evaluation, evaluate_named
from swin_core.reproduction.model_cards import bundle, check_target, evaluated_split, training_data
from swin_core.zoo.load import ASSETS


def _bundle(given: argparse.Namespace) -> int:
    check_target(given.name, given.assets)
    data = training_data(given.run)

    def evaluate(weights: Path) -> Evaluation:
        return evaluate_named(str(weights), data, evaluated_split(data), root=given.data_root)

    evaluate_half = evaluate if given.half else None
    print(
        bundle(given.run, given.name, given.description, evaluate(given.run), given.assets, given.note, evaluate_half)
    )
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description="Copy a run's weights to assets/, with metrics and a model card.")
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("name", help="name of the bundled model; include the name of its data set")
    parser.add_argument("--description", required=True, help="one line on the model")
    parser.add_argument("--note", default="", help="a line for the card, on what the metrics do not show")
    parser.add_argument(
        "--half",
        action="store_true",
        help="store float16, unless that changes top-1 or top-5 by more than 0.1 points and one image",
    )
    parser.add_argument("--data-root", help="folder of the data sets (else SWIN_DATA_ROOT, else the cache folder)")
    parser.add_argument("--assets", type=Path, default=ASSETS, help="folder to write to (default: assets)")
    given = parser.parse_args(arguments)
    return shell.run("bundle.py", lambda: _bundle(given))


if __name__ == "__main__":
    sys.exit(main())
