#!/usr/bin/env python
"""Train a recipe: `python scripts/train.py fast-cifar100 --epochs 4`; the same as `swinlens train`."""

import sys

from swin_core.commands.train import main

if __name__ == "__main__":
    sys.exit(main())
