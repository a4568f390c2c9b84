#!/usr/bin/env python
"""Download CIFAR-100 and flower_photos: `python scripts/prepare_data.py`. After a break, run it again."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from swin_core.data import data_root
from swin_core.downloads import ARCHIVES, prepare
from swin_core.errors import SwinError


def main(arguments: list[str] | None = None) -> int:
    """Prepare the data sets named; returns the exit status."""
    parser = argparse.ArgumentParser(description="Download the public data sets, check and unpack them.")
    parser.add_argument(
        "names",
        nargs="*",
        metavar="DATASET",
        help=f"{' or '.join(ARCHIVES)}; both if none is named",
    )
    parser.add_argument(
        "--data-root",
        help="where they go (else SWIN_DATA_ROOT, else the cache folder; now: %(default)s)",
        default=str(data_root()),
    )
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.names if name not in ARCHIVES]:
        parser.error(f"unknown data set {unknown[0]!r}: choose from {', '.join(ARCHIVES)}")
    status = 0
    for name in options.names or ARCHIVES:
        try:
            folder, fetched = prepare(name, options.data_root)
        except SwinError as error:
            print(f"{name}: {error}", file=sys.stderr)
            status = 1
            continue
        except KeyboardInterrupt:
            print(f"{name}: stopped; run this again to go on", file=sys.stderr)
            return 130
        print(f"{name} is {'ready' if fetched else 'there already'}: {folder}")
    return status


if __name__ == "__main__":
    sys.exit(main())
