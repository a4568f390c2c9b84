#!/usr/bin/env python
"""Download the data sets: `python scripts/prepare_data.py cifar100`; the same as `swinlens data`."""

import sys

from swin_core.commands.data import main

if __name__ == "__main__":
    sys.exit(main())
