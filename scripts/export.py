#!/usr/bin/env python
"""Export a model: `python scripts/export.py swin_micro_flowers --out flowers.onnx`; the same as `swinlens export`."""

import sys

from swin_core.commands.export import main

if __name__ == "__main__":
    sys.exit(main())
