#!/usr/bin/env python
"""Evaluate a model: `python scripts/evaluate.py swin_micro_flowers --data flowers`; the same as `swinlens evaluate`."""

import sys

from swin_core.commands.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
