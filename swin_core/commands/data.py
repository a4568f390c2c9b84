"""Download CIFAR-100 and flower_photos: `swinlens data`. Run it again after an interruption.

`swinlens data cats_dogs flower_photos four-classes` makes a folder of cat, dog, rose and tulip.
"""

import argparse
import sys

from swin_core.commands import shell
from swin_core.data.dataset import data_root
from swin_core.data.downloads import downloadable, prepare
from swin_core.data.registry import trainable
from swin_core.errors import SwinError
from swin_core.reproduction.four_classes import compose

FOUR_CLASSES = "four-classes"


def main(arguments: list[str] | None = None) -> int:
    """Download, check and unpack data sets; return the exit status."""
    parser = argparse.ArgumentParser(
        prog=shell.program("data"), description="Download the public data sets, check and unpack them."
    )
    archives = downloadable()
    default = [name for name, public in archives.items() if public.name in trainable()]
    parser.add_argument(
        "names",
        nargs="*",
        metavar="DATASET",
        help=f"{', '.join(archives)}; or {FOUR_CLASSES}, cat, dog, rose and tulip in one folder, made of cats_dogs and "
        f"flower_photos without a download (default: {' and '.join(default)})",
    )
    parser.add_argument(
        "--data-root",
        help="folder of the data sets (else SWIN_DATA_ROOT, else the cache folder; now: %(default)s)",
        default=str(data_root()),
    )
    parser.add_argument("--out", help=f"the folder that {FOUR_CLASSES} makes (default: four_classes in the data root)")
    options = parser.parse_args(arguments)
    known = {*archives, *(public.name for public in archives.values()), FOUR_CLASSES}
    if unknown := [name for name in options.names if name not in known]:
        parser.error(f"unknown data set {unknown[0]!r}: choose from {', '.join((*archives, FOUR_CLASSES))}")
    if options.out is not None and FOUR_CLASSES not in options.names:
        parser.error(f"--out is for {FOUR_CLASSES}; the other data sets go to --data-root")
    status = 0
    for name in options.names or default:
        try:
            if name == FOUR_CLASSES:
                folder, counts = compose(options.data_root, options.out)
                images = ", ".join(f"{count} {kind}" for kind, count in counts.items())
                print(f"{name} is ready: {folder} ({images})")
                continue
            folder, fetched = prepare(name, options.data_root)
        except SwinError as error:
            print(f"{name}: {error}", file=sys.stderr)
            status = 1
            continue
        except KeyboardInterrupt:
            print(f"{name}: stopped; run this again to continue", file=sys.stderr)
            return 130
        print(f"{name} is {'ready' if fetched else 'there already'}: {folder}")
    return status
