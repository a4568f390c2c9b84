#!/usr/bin/env python
"""Rank methods and layers: `python scripts/trust.py swin_micro_flowers --data flowers`; as `swinlens trust`."""

import sys

from swin_core.commands.trust import main

if __name__ == "__main__":
    sys.exit(main())
