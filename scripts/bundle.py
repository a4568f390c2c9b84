#!/usr/bin/env python
"""Bundle a finished run: `python scripts/bundle.py runs/RUN swin_micro_flowers --description "..."`."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from swin_core.accuracy import evaluate_named
from swin_core.cards import bundle, training_data
from swin_core.errors import SwinError
from swin_core.zoo import ASSETS


def main() -> int:
    """Run the command line; 1 and one line for an error that a user can mend."""
    parser = argparse.ArgumentParser(description="Copy a run's weights to assets/, with figures and a model card.")
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("name", help="name of the bundled model, which bears its data set's name")
    parser.add_argument("--description", required=True, help="one line on the model")
    parser.add_argument("--note", default="", help="a line for the card, on what the figures do not tell")
    parser.add_argument("--data-root", help="folder of the data sets (else SWIN_DATA_ROOT, else the cache folder)")
    parser.add_argument("--assets", type=Path, default=ASSETS, help="folder to write to (default: assets)")
    arguments = parser.parse_args()
    try:
        found = evaluate_named(str(arguments.run), training_data(arguments.run), root=arguments.data_root)
        card = bundle(arguments.run, arguments.name, arguments.description, found, arguments.assets, arguments.note)
    except SwinError as error:
        print(f"bundle.py: {error}", file=sys.stderr)
        return 1
    print(card)
    return 0


if __name__ == "__main__":
    sys.exit(main())
