#!/usr/bin/env python
"""Bundle a finished run: `python scripts/bundle.py runs/RUN swin_micro_flowers --description "..."`."""

import argparse
import sys
from pathlib import Path

from swin_core.commands import shell
from swin_core.evaluation.accuracy import Evaluation, evaluate_named
from swin_core.reproduction.model_cards import bundle, check_place, evaluated_split, training_data
from swin_core.zoo.load import ASSETS


def _bundle(given: argparse.Namespace) -> int:
    check_place(given.name, given.assets)
    data = training_data(given.run)

    def evaluated(weights: Path) -> Evaluation:
        return evaluate_named(str(weights), data, evaluated_split(data), root=given.data_root)

    found, again = evaluated(given.run), evaluated if given.half else None
    print(bundle(given.run, given.name, given.description, found, given.assets, given.note, again))
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; 1 and one line for an error that a user can mend."""
    parser = argparse.ArgumentParser(description="Copy a run's weights to assets/, with figures and a model card.")
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("name", help="name of the bundled model, which bears its data set's name")
    parser.add_argument("--description", required=True, help="one line on the model")
    parser.add_argument("--note", default="", help="a line for the card, on what the figures do not tell")
    parser.add_argument(
        "--half", action="store_true", help="store float16, unless that moves top-1 or top-5 by more than 0.1 points"
    )
    parser.add_argument("--data-root", help="folder of the data sets (else SWIN_DATA_ROOT, else the cache folder)")
    parser.add_argument("--assets", type=Path, default=ASSETS, help="folder to write to (default: assets)")
    given = parser.parse_args(arguments)
    return shell.run("bundle.py", lambda: _bundle(given))


if __name__ == "__main__":
    sys.exit(main())
